"""The contract of an operator: one relational step, described once for every device.

An operator is a frozen value. It says what comes out (`schema`), roughly how much (`estimate`),
what that means (`reference`), and what programs are made of it: `near` steps run on each chunk
wherever the chunk is, `gather` steps run once on everything the near steps made. Planner rules read
these answers and never ask which operator they have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.data.arrays import empty_batch, take
from wherry.data.source import Source
from wherry.ir.expr import Column, Node
from wherry.ir.stage import Pass, Rows, Step
from wherry.ops.estimate import Estimate


class Case(Struct, frozen=True):
    """One example of an operator for the conformance kit: run `operator` over `rows`."""

    title: str
    operator: Operator
    rows: pa.Table


@runtime_checkable
class Operator(Protocol):
    """One relational step.

    Attributes
    ----------
    name : str
        The word for it in plans and errors.
    ordered : bool
        Whether rows come out in an order the query asked for. Answers that are not ordered are
        compared as multisets.
    needs : tuple of str
        What a device must be able to do to run its steps, as profiles list it.
    gathers : bool
        Whether it needs all rows in one place: `gather` gives steps.
    """

    name: ClassVar[str]
    ordered: ClassVar[bool]
    needs: ClassVar[tuple[str, ...]]
    gathers: ClassVar[bool]

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema of what comes out of rows of schema `given`."""

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Give the steps that run on each chunk by itself."""

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:
        """Give the steps that run once on all the near steps made; none if chunks stay apart."""

    def estimate(self, given: Estimate) -> Estimate:
        """Give the size of what comes out of `given`."""

    def reference(self, rows: pa.Table) -> pa.Table:
        """Give the answer by pyarrow: the operator's meaning."""

    def describe(self) -> str:
        """Give the operator as one line of text."""


class Declared(Protocol):
    """What can be run: a source and operators over it."""

    @property
    def source(self) -> Source:
        """What is scanned."""

    @property
    def operators(self) -> tuple[Operator, ...]:
        """What is done, in order."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answer."""


class Chain(Struct, frozen=True):
    """Operators over a source, and the columns of the answer: the least that is `Declared`."""

    source: Source
    operators: tuple[Operator, ...]
    schema: pa.Schema


def estimate_near(operator: Operator, given: Estimate) -> Estimate:
    """Give the size of what an operator's near steps make of a chunk.

    It is `operator.estimate`, unless the operator has an `estimate_near` because they make more.
    """
    found: Callable[[Estimate], Estimate] = getattr(operator, "estimate_near", operator.estimate)
    return found(given)


def all_columns(schema: pa.Schema) -> tuple[tuple[str, Node], ...]:
    """Give outputs that pass every column through."""
    return tuple((field.name, Column(field.name, field.type)) for field in schema)


def keep(schema: pa.Schema, predicate: Node | None = None) -> Pass:
    """Give the pass that keeps all columns of the rows that satisfy `predicate`."""
    return Pass(predicate, Rows(all_columns(schema)))


def unique_names(names: list[str], where: str) -> None:
    """Refuse output names that stand twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}: the name {twice[0]!r} stands twice; rename one with .alias()")


def take_rows(rows: pa.Table, indices: pa.Array) -> pa.Table:
    """Give the rows at `indices`, for the reference."""
    columns = [take(c, indices) for c in rows.columns]
    return pa.Table.from_arrays(columns, names=rows.schema.names)


def one_batch(rows: pa.Table) -> pa.RecordBatch:
    """Give all rows of a table as one batch, for the reference."""
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else empty_batch(rows.schema)
