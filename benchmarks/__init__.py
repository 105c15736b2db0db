"""Workloads, their data, and the engines they are compared with."""
