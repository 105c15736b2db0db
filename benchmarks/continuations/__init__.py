"""What continuations cost: figures with goals, beside what other systems take for the same."""
