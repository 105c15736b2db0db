"""The joins of a pipeline: what is read of their other sides, and what it is once they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

import pyarrow as pa
from msgspec.structs import replace

from wherry.data.statistics import ColumnStatistics
from wherry.ir.build import Build, Known, received
from wherry.ir.expr import Column
from wherry.ir.stage import Matches, Pass
from wherry.ops.estimate import Estimate
from wherry.ops.join import Join
from wherry.ops.operator import Chain, Declared, Operator
from wherry.ops.select import Select
from wherry.plan.segments import cut

Make = Callable[[Declared, int], Build | Known]
"""What makes the other side of a join, or says what is expected of it; it has so many keys."""

_UNKNOWN = ColumnStatistics(None, None, 0)


def with_builds(declared: Declared, make: Make) -> Declared:
    """Give the pipeline with the other side of every join made, one after another.

    Columns of another side that nothing reads are left out before it is made.
    """
    if not any(isinstance(operator, Join) for operator in declared.operators):
        return declared
    read = _columns_read(declared)
    made: list[Operator] = []
    for operator in declared.operators:
        if isinstance(operator, Join) and operator.build is None:
            narrow = operator if operator.how in {"semi", "anti"} else _narrow(operator, next(read))
            operator = replace(narrow, build=make(narrow.side, len(narrow.keys)))  # noqa: PLW2901
        made.append(operator)
    return Chain(declared.source, tuple(made), declared.schema)


def builds_in(declared: Declared) -> tuple[Build, ...]:
    """Give the other sides of a pipeline's joins, in order, all of them made."""
    builds = (o.build for o in declared.operators if isinstance(o, Join))
    return tuple(build for build in builds if isinstance(build, Build))


def unmade(declared: Declared) -> Declared:
    """Give a pipeline of whose joins' other sides nothing is known: enough to see what it reads."""
    return with_builds(declared, lambda _, keys: Known(keys, 0, 0, (_UNKNOWN,) * keys))


def as_received(declared: Declared) -> Declared:
    """Give a pipeline whose joins have the other sides as they are where they arrive as bytes.

    All that follows from them is the same then in every run that they are sent to.
    """
    if not builds_in(declared):
        return declared
    operators = tuple(
        replace(o, build=received(o.build.message))
        if isinstance(o, Join) and isinstance(o.build, Build)
        else o
        for o in declared.operators
    )
    return Chain(declared.source, operators, declared.schema)


def _columns_read(declared: Declared) -> Iterator[tuple[int, ...]]:
    """Give for each inner or left join which columns of its other side are read."""
    operators = [
        replace(o, build=o.build or Known(0, 0, 0, ())) if isinstance(o, Join) else o
        for o in declared.operators
    ]
    for segment in cut(declared.source.schema, operators):
        for step in segment.steps:
            if isinstance(step, Pass) and isinstance(step.sink, Matches):
                yield tuple(number for _, number, _ in step.sink.added)


def _narrow(join: Join, read: tuple[int, ...]) -> Join:
    side, keys = join.side, len(join.keys)
    if len(read) == len(join.names):
        return join
    fields = [side.schema.field(number) for number in (*range(keys), *read)]
    select = Select(tuple((f.name, Column(f.name, f.type)) for f in fields))
    narrow = Chain(side.source, (*side.operators, select), pa.schema(fields))
    return replace(join, names=tuple(join.names[n - keys] for n in read), side=narrow)


def expected(flow: Estimate, schema: pa.Schema, keys: int) -> Known:
    """Give what is known of a build before its query has run.

    Parameters
    ----------
    flow : Estimate
        Of the query's answer.
    """
    rows = max(ceil(flow.rows), 1 if flow.rows_high else 0)
    bounds = tuple(flow.columns.get(name, _UNKNOWN) for name in schema.names[:keys])
    return Known(keys, rows, ceil(rows * flow.row_bytes), bounds)
