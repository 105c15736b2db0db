"""Polars: over the Arrow table's chunks, and with both executors over a contiguous data frame.

Its data frames have text of their own kind, so text is converted in either case, before the timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.peers.peer import Form, Peer
from wherry.benchmarks.kernels.question import Answer, Question


@contextmanager
def _forms(question: Question, data: Data, _: int) -> Iterator[list[Form]]:
    """Give the forms; the number of threads is POLARS_MAX_THREADS, read when Polars is loaded."""
    pl = import_module("polars")
    if question.from_parquet:
        plan = question.polars(pl, {"t": pl.scan_parquet(data.path(question.tables["t"]))})
        yield [_form(pl, "polars", plan), _form(pl, "polars streaming", plan, "streaming")]
        return
    plans, eager = {}, []
    for way, contiguous in (("arrow", False), ("native", True)):
        frames = {
            name: _frame(pl, question, name, data.mapped(table), contiguous=contiguous)
            for name, table in question.tables.items()
        }
        plans[way] = question.polars(pl, {name: frame.lazy() for name, frame in frames.items()})
        if question.eager_polars is not None:
            ask = question.eager_polars(pl, frames["t"])
            eager.append(Form(f"polars {way} eager", ask, _to_arrow))
    yield [
        _form(pl, "polars arrow", plans["arrow"]),
        _form(pl, "polars native", plans["native"]),
        _form(pl, "polars streaming", plans["native"], "streaming"),
        *eager,
    ]


def _frame(pl: Any, question: Question, name: str, table: Any, *, contiguous: bool) -> Any:
    chosen = table.select(list(question.columns)) if name == "t" else table
    frame = pl.from_arrow(chosen, rechunk=False)
    return frame.rechunk() if contiguous else frame


def _form(pl: Any, name: str, plan: Any, engine: str = "in-memory") -> Form:
    def ask() -> Any:
        together = isinstance(plan, list)
        return pl.collect_all(plan, engine=engine) if together else plan.collect(engine=engine)

    return Form(name, ask, _to_arrow)


def _to_arrow(found: Any) -> Answer:
    return [frame.to_arrow() for frame in found] if isinstance(found, list) else found.to_arrow()


PEER = Peer("polars", _forms)
