"""What DuckDB answers to the same question over the same files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from wherry.base.errors import InputError


def ask(sql: str, tables: Mapping[str, Path | pa.Table]) -> pa.Table:
    """Give DuckDB's answer to `sql`.

    Parameters
    ----------
    tables : mapping of str to Path or pyarrow.Table
        What each name in `sql` means; a path is a folder of Arrow IPC files, which are mapped.

    Raises
    ------
    InputError
        When duckdb is not installed.
    """
    try:
        import duckdb  # noqa: PLC0415  an extra: only a comparison needs it
    except ImportError as error:
        raise InputError("duckdb is not installed; python -m pip install duckdb") from error
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, mapped(table) if isinstance(table, Path) else table)
        return connection.sql(sql).to_arrow_table()


def mapped(folder: Path) -> pa.Table:
    """Give the Arrow IPC files of a folder as one table that lies in the files."""
    files = [pa.memory_map(str(path)) for path in sorted(folder.glob("*.arrow"))]
    return pa.concat_tables([ipc.open_file(file).read_all() for file in files])
