"""Readers under generated corruptions: every case is a clear error or an answer, never a crash.

`python -m fuzz --cases N` (with `tests` on the path) tries N cases in child processes. A case is a
number: its file, its corruption and what is done with it follow from the seed and that number, so
`--case` runs one again.
"""
