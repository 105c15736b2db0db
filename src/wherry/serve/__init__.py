"""Devices in other processes and on other hosts: agents, their callers, and what lies between."""
