"""A file opened by what it begins with, whatever its name: Arrow IPC or Parquet."""

from __future__ import annotations

from pathlib import Path

from wherry.base.errors import InputError
from wherry.data.arrow_ipc import open_ipc
from wherry.data.fragments import Fragment
from wherry.data.mapping import map_file

_OTHERS = {b"FEA1": "a Feather version 1 file", b"ORC": "an ORC file"}
_PARQUET = (b"PAR1", b"PARE")
_SHOWN = 8


def open_file(path: Path) -> Fragment:
    """Open a file as one fragment of a source.

    Raises
    ------
    InputError
        When the file is missing, unreadable or empty, of no format Wherry reads, or has a type
        that it does not read.
    CorruptError
        When it is truncated or its metadata cannot be decoded.
    """
    mapping = map_file(path)
    found = open_ipc(mapping)
    if found is not None:
        return found
    if mapping.buffer[:4].to_pybytes() in _PARQUET:
        from wherry.data.parquet import open_parquet  # noqa: PLC0415  takes 10 ms to import

        return open_parquet(mapping)
    start = mapping.buffer[:_SHOWN].to_pybytes()
    seen = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
    what = f"is {seen}" if seen else f"begins with {start!r}"
    raise InputError(f"{path} {what}, neither Arrow IPC nor Parquet")
