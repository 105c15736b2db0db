"""The grammar of stages: what one program does to a chunk, or to all that has arrived.

    Stage = Stage(steps)                            run in order, as one fused program
    Step  = Pass(predicate, sink)                   one pass over the rows
          | Order(by, count, buckets)               rows in key order, the first `count` if given
          | Take(count)                             the first `count` rows
    Sink  = Rows(outputs)                           rows that pass, their columns computed
          | Totals(calls)                           one row of aggregates
          | Groups(keys, calls)                     one row a distinct key
          | Matches(keys, build, outer, ...)        each row with the rows of a build that match it

Outputs, keys and calls are pairs (name, expression). Expressions read the step's input columns;
what earlier operators computed is substituted in, so a pass never looks at its own outputs. A null
predicate is false. Null keys form one group. Order is stable, nulls last, and NaN before nulls.
"""

from __future__ import annotations

import pyarrow as pa
from msgspec import Struct

from wherry.ir.codec import register
from wherry.ir.expr import Call, Column, Node, walk
from wherry.ir.resolve import call_type, type_of


@register
class Rows(Struct, frozen=True):
    """Keep the rows that pass; `outputs` are their columns."""

    outputs: tuple[tuple[str, Node], ...]


@register
class Totals(Struct, frozen=True):
    """Aggregate all rows that pass into one row.

    Kinds are sum, min, max, count, first, last, moments, and what is made of moments.
    """

    calls: tuple[tuple[str, Call], ...]


@register
class Groups(Struct, frozen=True):
    """Aggregate the rows that pass by key; groups come in order of first appearance."""

    keys: tuple[tuple[str, Node], ...]
    calls: tuple[tuple[str, Call], ...]


@register
class Matches(Struct, frozen=True):
    """Join the rows that pass with the rows of a build that have their keys, in the build's order.

    Attributes
    ----------
    keys : tuple of Node
        Equal to the build's keys, or no match; a null equals nothing.
    build : Node
        A constant, whose value is `wherry.ir.build.Build`.
    outer : bool
        Keep rows without a match, with nulls in the added columns.
    outputs : tuple of (str, Node)
        Columns of the rows that pass.
    added : tuple of (str, int, pyarrow.DataType)
        Columns of the build: name, number in the build, type.
    """

    keys: tuple[Node, ...]
    build: Node
    outer: bool
    outputs: tuple[tuple[str, Node], ...]
    added: tuple[tuple[str, int, pa.DataType], ...]


Sink = Rows | Totals | Groups | Matches


@register
class Pass(Struct, frozen=True):
    """Read each row once: test it, and give it to the sink if the predicate is true or absent."""

    predicate: Node | None
    sink: Sink


@register
class SortKey(Struct, frozen=True):
    """One column to order by."""

    column: str
    descending: bool


@register
class Order(Struct, frozen=True):
    """Bring rows into key order; keep the first `count` of them if it is given.

    With `buckets`, the one key is an ascending int32 in [0, buckets), without nulls.
    """

    by: tuple[SortKey, ...]
    count: int | None
    buckets: int | None = None


@register
class Take(Struct, frozen=True):
    """Keep the first `count` rows."""

    count: int


Step = Pass | Order | Take


@register
class Stage(Struct, frozen=True):
    """Steps that run as one program, on one chunk or on everything that has arrived."""

    steps: tuple[Step, ...]


def expressions(step: Step) -> tuple[Node, ...]:
    """Give every expression of a step."""
    if not isinstance(step, Pass):
        return ()
    found: list[Node] = [] if step.predicate is None else [step.predicate]
    match step.sink:
        case Rows(outputs):
            found += (node for _, node in outputs)
        case Totals(calls):
            found += (c.argument for _, c in calls if c.argument is not None)
        case Groups(keys, calls):
            found += (node for _, node in keys)
            found += (c.argument for _, c in calls if c.argument is not None)
        case Matches(keys, _, _, outputs):
            found += (*keys, *(node for _, node in outputs))
    return tuple(found)


def input_columns(step: Step) -> dict[str, pa.DataType]:
    """Give the input columns a step reads, in order of first mention, with their types."""
    found: dict[str, pa.DataType] = {}
    for expression in expressions(step):
        for node in walk(expression):
            if isinstance(node, Column):
                found.setdefault(node.name, node.type)
    return found


def output_schema(step: Step, given: pa.Schema) -> pa.Schema:
    """Give the schema after a step over rows of schema `given`."""
    if not isinstance(step, Pass):
        return given
    match step.sink:
        case Rows(outputs):
            return pa.schema([pa.field(name, type_of(node)) for name, node in outputs])
        case Totals(calls):
            return pa.schema([pa.field(name, call_type(call)) for name, call in calls])
        case Groups(keys, calls):
            fields = [pa.field(name, type_of(node)) for name, node in keys]
            return pa.schema(fields + [pa.field(name, call_type(call)) for name, call in calls])
        case Matches(_, _, _, outputs, added):
            fields = [pa.field(name, type_of(node)) for name, node in outputs]
            return pa.schema(fields + [pa.field(name, t) for name, _, t in added])
