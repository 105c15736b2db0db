"""Wherry carries a query to its data."""
