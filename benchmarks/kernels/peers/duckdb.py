"""DuckDB: over the mapped Arrow table, and over a table of its own in memory (text codes: ENUM)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pyarrow as pa

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.peers.peer import Form, Peer
from wherry.benchmarks.kernels.question import Answer, Question


@contextmanager
def _forms(question: Question, data: Data, threads: int) -> Iterator[list[Form]]:
    module = import_module("duckdb")
    with module.connect(config={"threads": threads}) as arrow:
        if question.from_parquet:
            path = data.path(question.tables["t"])
            arrow.execute(f"create view t as select * from read_parquet('{path}')")
            yield [_form("duckdb", arrow, question)]
            return
        tables = {name: data.mapped(table) for name, table in question.tables.items()}
        for name, table in tables.items():
            arrow.register(name, table)
        with module.connect(config={"threads": threads}) as native:
            for name, table in tables.items():
                columns = question.columns if name == "t" else table.schema.names
                _load(native, name, table.select(list(columns)))
            yield [
                _form("duckdb arrow", arrow, question),
                _form("duckdb native", native, question),
            ]


def _load(connection: Any, name: str, table: pa.Table) -> None:
    connection.register("arrow_table", table)
    columns = []
    for field in table.schema:
        column = field.name
        if pa.types.is_dictionary(field.type):
            values = f"select distinct {column}::varchar from arrow_table"
            connection.execute(f"create type enum_{column} as enum ({values})")
            column = f"{column}::enum_{column} as {column}"
        columns.append(column)
    connection.execute(f"create table {name} as select {', '.join(columns)} from arrow_table")
    connection.unregister("arrow_table")


def _form(name: str, connection: Any, question: Question) -> Form:
    """Give relations that are planned once; each fetch executes them anew."""
    if isinstance(question.sql, str):
        return Form(name, connection.sql(question.sql).to_arrow_table, _as_it_is)
    relations = [connection.sql(query) for query in question.sql]
    return Form(name, lambda: [relation.to_arrow_table() for relation in relations], _as_it_is)


def _as_it_is(answer: Answer) -> Answer:
    return answer


PEER = Peer("duckdb", _forms)
