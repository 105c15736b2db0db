"""Operator skeletons for CPUs (and the cores of NICs and drives), compiled by numba once per machine."""
