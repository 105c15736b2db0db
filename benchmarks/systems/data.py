"""TPC-H tables cut into many files, so that they lie spread over all drives of a system.

Layout `files` puts file i on drive i mod n. A table has as many files as it has 16 Ki rows, at most
72: that many, and 36, are shared evenly by 1, 2, 4, 8, 16 and 36 drives. One batch a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from wherry.benchmarks.generated import kept_tables, leave_statistics
from wherry.benchmarks.tpch_layout import store
from wherry.benchmarks.workload import Tables

TABLES: Final = ("lineitem", "orders", "customer", "part")
LAYOUT: Final = 3
"""Raise it when what follows changes, so that older files are made again."""
KEYED: Final = "keyed"
"""The first orders in small batches, for requests by key."""
_KEYED_ROWS: Final = 1 << 17
_KEYED_FILES: Final = 32
_KEYED_BATCH: Final = 1 << 10
_FILE_ROWS: Final = 1 << 14
_MOST_FILES: Final = 72
_EVEN: Final = (36, 4, 1)
"""A number of files is a multiple of the first of these that is not larger."""


def generate(directory: Path, scale_factor: float) -> Tables:
    """Make the tables and `keyed`, unless they are there, and give the folder of each.

    Errors are those of `kept_tables`.
    """
    folders = (*TABLES, KEYED)
    return kept_tables(
        directory, scale_factor, tables=TABLES, folders=folders, layout=LAYOUT, lay_out=_lay_out
    )


def files_of(rows: int) -> int:
    """Give the number of files of a table.

    >>> [files_of(rows) for rows in (0, 100_000, 600_000, 6_000_000)]
    [1, 4, 36, 72]
    """
    most = min(_MOST_FILES, max(1, rows // _FILE_ROWS))
    even = next(number for number in _EVEN if number <= most)
    return most - most % even


def _lay_out(parquet: Path, into: Path) -> None:
    for table in TABLES:
        path = parquet / f"{table}.parquet"
        rows = int(pq.read_metadata(path).num_rows)
        files = files_of(rows)
        store(path, into / table, files, batch_rows=max(1, -(-rows // files)))
    head = parquet / f"{KEYED}.parquet"
    pq.write_table(pq.read_table(parquet / "orders.parquet").slice(0, _KEYED_ROWS), head)
    store(head, into / KEYED, files=_KEYED_FILES, batch_rows=_KEYED_BATCH)
    for table in (*TABLES, KEYED):
        leave_statistics(into / table)
