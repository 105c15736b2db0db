"""Seeded schedules of faults over the protocol of continuations, and what they must come to."""
