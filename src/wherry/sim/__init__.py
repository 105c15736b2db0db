"""The same machine in virtual time."""
