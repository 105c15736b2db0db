"""pyarrow: Acero's plans, and pyarrow.compute where that has a function for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import dataset

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.peers.peer import Form, Peer
from wherry.benchmarks.kernels.question import Answer, Question


@contextmanager
def _forms(question: Question, data: Data, threads: int) -> Iterator[list[Form]]:
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)
    tables = {name: _table(data, table) for name, table in question.tables.items()}
    yield [Form(name, ask, _as_it_is) for name, ask in question.arrow(tables).items()]


def _table(data: Data, table: str) -> Any:
    if table.endswith(".parquet"):
        return dataset.dataset(data.path(table), format="parquet")
    return data.mapped(table)


def _as_it_is(answer: Answer) -> Answer:
    return answer


PEER = Peer("pyarrow", _forms)
