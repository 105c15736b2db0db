"""Where a query runs: pruning, stages, cost, placement, explanation."""
