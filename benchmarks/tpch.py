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

from wherry.benchmarks import tpchgen
from wherry.benchmarks.kept import Made, keep
from wherry.benchmarks.tpch_layout import store, store_orders
from wherry.data.source import column_bounds, open_source

TABLES = ("lineitem", "orders", "customer")
LAYOUT = 2
"""Raise it when `tpch_layout` changes, so that older files are made again."""


def generate(directory: Path, scale_factor: float) -> dict[str, Path]:
    """Make the tables, unless they are there already, and give the folder of each.

    An interrupted or failed run leaves nothing that is taken for finished and no temporary file.

    Parameters
    ----------
    directory : Path
        Made if need be. Folders that an earlier call made in it for another scale factor or by
        another generator are replaced.
    scale_factor : float
        Of TPC-H: 1 gives 6 001 215 rows of lineitem.

    Returns
    -------
    dict of str to Path
        Keys "lineitem", "orders", "customer".

    Raises
    ------
    InputError
        When the scale factor is not positive, `tpchgen-cli` is not installed, or the directory
        holds such folders of other origin.
    WherryError
        When the generator fails.
    """
    scale = tpchgen.checked(scale_factor)
    program = tpchgen.find()
    wanted = Made(scale, tpchgen.version(program), LAYOUT)
    return keep(directory, TABLES, wanted, lambda into: _make(program, into, scale))


def _make(program: str, into: Path, scale_factor: float) -> None:
    parquet = into / "parquet"
    tpchgen.make_parquet(program, TABLES, parquet, scale_factor)
    rows = 1 << 16 if scale_factor < 1 else 1 << 18
    store(parquet / "lineitem.parquet", into / "lineitem", files=2, batch_rows=rows)
    store(parquet / "customer.parquet", into / "customer", files=1)
    store_orders(parquet / "orders.parquet", into / "orders")
    for table in TABLES:
        source = open_source(into / table)
        column_bounds(source, source.schema.names)  # Leaves the statistics beside the files.
