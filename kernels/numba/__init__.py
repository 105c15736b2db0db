"""Operator skeletons for the cores of hosts, NICs and drives, compiled once per machine."""
