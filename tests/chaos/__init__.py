"""Agents and callers as real processes, under seeded faults: `python -m chaos`."""
