"""TPC-H tables as Arrow IPC files, laid out the way Wherry's workloads scan them.

`lineitem/` is two files (halves by row order) in batches of 65,536 rows, or of 262,144 from scale
factor 1 on: enough of them to keep many cores busy, few enough that each is worth its overhead.
`orders/` is two shards by hash of o_custkey, sorted by it, in batches of 8192 rows; `customer/` is
one file. Columns of few values are dictionary<int8, utf8>, other text is utf8, money
decimal128(15, 2), days date32. The files of scale factor 0.01 hold 10 MB; those of 0.1 took 2.3 s
to make on 2 shared cores.
"""

from __future__ import annotations

from pathlib import Path

from wherry.benchmarks.generated import kept_tables, leave_statistics
from wherry.benchmarks.tpch_layout import store, store_orders

TABLES = ("lineitem", "orders", "customer")
LAYOUT = 2
"""Raise it when `tpch_layout` changes, so that older files are made again."""


def generate(directory: Path, scale_factor: float) -> dict[str, Path]:
    """Make `TABLES`, unless they are there already, and give the folder of each.

    An interrupted or failed run leaves nothing that is taken for finished and no temporary file;
    errors are those of `kept_tables`.
    """
    rows = 1 << 16 if scale_factor < 1 else 1 << 18
    return kept_tables(
        directory,
        scale_factor,
        tables=TABLES,
        folders=TABLES,
        layout=LAYOUT,
        lay_out=lambda parquet, into: _lay_out(parquet, into, rows),
    )


def _lay_out(parquet: Path, into: Path, rows: int) -> None:
    store(parquet / "lineitem.parquet", into / "lineitem", files=2, batch_rows=rows)
    store(parquet / "customer.parquet", into / "customer", files=1)
    store_orders(parquet / "orders.parquet", into / "orders")
    for table in TABLES:
        leave_statistics(into / table)
