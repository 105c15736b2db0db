"""Where bytes are: sources, chunks, statistics, segments, and the ledger of what was copied."""
