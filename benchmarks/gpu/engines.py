"""Who is asked besides Wherry: array code on the same card, engines on the host's processor.

Each gives ways to ask, by name; an answer is there when the call returns, as arrays of the host or
as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc

from wherry.benchmarks.gpu import arrays
from wherry.benchmarks.gpu.arrays import Arrays
from wherry.benchmarks.gpu.lineitem import Lineitem
from wherry.benchmarks.gpu.questions import Question
from wherry.benchmarks.kernels.question import Ask

ABSENT: Final = "absent"
MODULES: Final = ("cupy", "torch", "duckdb", "polars")


@cache
def versions() -> dict[str, str]:
    """Give the version of every engine; "absent" for one that cannot be imported."""
    return {name: _version(name) for name in MODULES}


def _version(name: str) -> str:
    try:
        return str(import_module(name).__version__)
    except (ImportError, OSError):  # a library of it may be missing, or be another machine's
        return ABSENT


def uploaded(cp: Any, question: Question, data: Lineitem) -> Arrays:
    """Give a question's columns on the card, as CuPy's arrays."""
    return {name: cp.asarray(data.columns[name]) for name in question.columns}


def on_the_card(cp: Any, torch: Any | None, question: Question, columns: Arrays) -> dict[str, Ask]:
    """Give the ways of array code; rows stay on the card, sums come to the host."""
    asks = {"cupy": _array_ask(cp, cp, question, columns)}
    if question.name == "q6":
        asks["cupy fused"] = _fused_ask(cp, columns)
    if torch is not None:
        tensors = {name: torch.from_dlpack(array) for name, array in columns.items()}
        asks["torch"] = _array_ask(cp, torch, question, tensors)
    return asks


def _array_ask(cp: Any, xp: Any, question: Question, columns: Arrays) -> Ask:
    def ask() -> list[Any]:
        found = question.arrays(xp, columns)
        if question.gives == "totals":
            return hosted(cp, found)
        cp.cuda.runtime.deviceSynchronize()
        return found

    return ask


def _fused_ask(cp: Any, columns: Arrays) -> Ask:
    """Give Q6 as one kernel: the best that CuPy makes of array code."""

    @cp.fuse(kernel_name="fused_revenue")  # type: ignore[untyped-decorator]
    def fused(days: Any, discount: Any, quantity: Any, price: Any) -> Any:
        return arrays.revenue(cp, days, discount, quantity, price)

    return lambda: hosted(cp, [fused(*arrays.q6_columns(columns))])


def brought(cp: Any, question: Question, source: pa.Table | Path) -> list[Any]:
    """Give CuPy's answer over rows of the host, which are brought to the card for it.

    Parameters
    ----------
    source : pyarrow.Table or Path
        Rows in memory, or an Arrow file, which is mapped.
    """
    table = _opened(source)
    columns = {
        name: cp.concatenate([cp.asarray(_stored(chunk)) for chunk in table[name].chunks])
        for name in question.columns
    }
    return hosted(cp, question.arrays(cp, columns))


def _opened(source: pa.Table | Path) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    return pa.ipc.open_file(pa.memory_map(str(source))).read_all()


def _stored(array: pa.Array) -> Any:
    """Give the values of an array as they lie: codes, days, numbers."""
    if pa.types.is_dictionary(array.type):
        array = array.indices
    if pa.types.is_date32(array.type):
        array = array.view(pa.int32())
    return array.to_numpy()


@contextmanager
def scanning(question: Question, threads: int) -> Iterator[dict[str, Callable[[Any], pa.Table]]]:
    """Give how DuckDB, if it is installed, answers over rows of the host that it is given."""
    if versions()["duckdb"] == ABSENT:
        yield {}
        return
    with import_module("duckdb").connect(config={"threads": threads}) as connection:

        def ask(source: pa.Table | Path) -> pa.Table:
            connection.register("t", _opened(source))
            return connection.sql(question.sql).to_arrow_table()

        yield {"duckdb": ask}


def hosted(cp: Any, found: list[Any]) -> list[Any]:
    """Give arrays of the card, CuPy's or torch's, as numpy's."""
    return [cp.asnumpy(cp.from_dlpack(array)) for array in found]


@contextmanager
def on_the_host(question: Question, table: pa.Table, threads: int) -> Iterator[dict[str, Ask]]:
    """Give the ways of engines on the processor that are installed."""
    asks: dict[str, Ask] = {}
    with ExitStack() as stack:
        if versions()["duckdb"] != ABSENT:
            connection = import_module("duckdb").connect(config={"threads": threads})
            stack.callback(connection.close)
            connection.register("t", table.select(list(question.columns)))
            asks["duckdb"] = connection.sql(question.sql).to_arrow_table
        if versions()["polars"] != ABSENT:
            pl = import_module("polars")
            frame = pl.from_arrow(table.select(list(question.columns)), rechunk=False)
            asks["polars"] = question.polars(pl, frame.lazy()).collect
        yield asks
