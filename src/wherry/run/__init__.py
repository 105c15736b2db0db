"""Carrying a plan out: continuation, worker, the sans-I/O machine, the executor."""
