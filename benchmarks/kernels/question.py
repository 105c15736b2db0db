"""What a workload asks, once for every engine, and what bounds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pyarrow as pa
from msgspec import Struct

from wherry.pipeline import Pipeline

Answer: TypeAlias = pa.Table | list[pa.Table]
"""A table, or one for each partition."""

Ask = Callable[[], Any]
"""Computes the answer, in the engine's own form; what is timed."""

Scan = Callable[[str], Pipeline]
"""Gives the pipeline that scans a table."""

Differs = Callable[[Answer, Answer], str | None]
"""Says in a sentence how an answer (first) is not the one wanted, None if they are equal."""


class Absent(Exception):
    """Wherry as it is has no words for the question; the message says what it lacks."""


class Question(Struct, frozen=True):
    """One workload over one scale factor's data.

    Attributes
    ----------
    tables : mapping of str to str
        What `t` (and another name) in the question means: tables or Parquet files of `Data`.
    columns : sequence of str
        Of `t`, that the question touches; engines that store tables themselves store these.
    wherry : callable
        Give what asks Wherry; raise Absent if its public API has no words for it.
    sql : str or list of str
        For DuckDB and DataFusion; a list has one query for each partition.
    polars : callable
        From the module and the lazy frames by name, the lazy frame, or one for each partition.
    arrow : callable
        From the tables by name (datasets, for Parquet), pyarrow's own ways by name.
    differs : callable
        How answers are compared.
    reads : sequence of str
        The columns of `t` whose every cache line has to be read: the limit.
    limit : "read" or "copy"
        Whether the limit is to read them, or to copy them with memcpy.
    eager_polars : callable, optional
        From the module and a data frame, a way that has no lazy form.
    row_groups : sequence of int, optional
        Of a Parquet file, that have to be read; all of them if not given.
    """

    tables: Mapping[str, str]
    columns: Sequence[str]
    wherry: Callable[[Scan], Ask]
    sql: str | list[str]
    polars: Callable[[Any, Mapping[str, Any]], Any]
    arrow: Callable[[Mapping[str, Any]], Mapping[str, Ask]]
    differs: Differs
    reads: Sequence[str]
    limit: Literal["read", "copy"] = "read"
    eager_polars: Callable[[Any, Any], Ask] | None = None
    row_groups: Sequence[int] | None = None

    @property
    def from_parquet(self) -> bool:
        """Whether `t` is a Parquet file."""
        return self.tables["t"].endswith(".parquet")
