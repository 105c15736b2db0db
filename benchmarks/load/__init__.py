"""What agents do when more is asked of them than they can do."""
