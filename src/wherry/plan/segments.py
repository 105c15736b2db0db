"""Cut a pipeline into segments: the pieces that placement may put on different devices.

    routing    choose the chunks that can hold an answer and send the continuation to them
    near       filter and project each chunk
    partial    aggregate, cut or order each chunk by itself
    merge      everything after the first operator that needs all rows, on one device
    respond    assemble the answer and hand it to the client

A piece without steps is left out, except routing and respond, which always happen. Respond runs
nothing unless the answer is to be encoded; then it works as what comes before it does: chunk by
chunk, or on the rows that were merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
from msgspec import Struct

from wherry.data.encoded import Encoding
from wherry.data.types import type_class
from wherry.ir.expr import walk
from wherry.ir.fuse import fuse, prune
from wherry.ir.resolve import type_of
from wherry.ir.stage import Stage, Step, expressions, output_schema
from wherry.ir.types import is_build
from wherry.ops.operator import Operator, keep
from wherry.ops.respond import Respond

Kind = Literal["routing", "near", "partial", "merge", "respond"]


class Segment(Struct, frozen=True):
    """One placeable piece of a query.

    Attributes
    ----------
    kind : str
        What it is for; the words are in the module's docstring.
    operators : tuple of str
        What a device must be able to do to run it, as profiles list it.
    steps : tuple of Step
        What runs; empty for routing and respond.
    encoding : Encoding or None
        How the rows that leave are written as bytes; only respond has one.
    """

    kind: Kind
    operators: tuple[str, ...]
    steps: tuple[Step, ...]
    encoding: Encoding | None = None

    @property
    def runs(self) -> bool:
        """Whether a device has something to compute for it."""
        return bool(self.steps) or self.encoding is not None


def chunkwise(segments: Sequence[Segment], index: int) -> bool:
    """Tell whether segment `index` works on each chunk by itself: nothing was merged before it."""
    return all(segment.kind != "merge" for segment in segments[: index + 1])


def split(operators: Sequence[Operator]) -> tuple[list[Operator], list[Operator]]:
    """Give the operators that work chunk by chunk, and the rest from the first that gathers."""
    for place, operator in enumerate(operators):
        if operator.gathers:
            return list(operators[:place]), list(operators[place:])
    return list(operators), []


def cut(
    schema: pa.Schema, operators: Sequence[Operator], respond: Respond | None = None
) -> tuple[Segment, ...]:
    """Give the segments of a pipeline over rows of `schema`, columns pruned."""
    apart, together = split(operators)
    near: list[Step] = [keep(schema)]
    for operator in apart:
        near += operator.near(schema)
        schema = operator.schema(schema)
    partial: list[Step] = []
    merge: list[Step] = []
    for operator in together:
        (merge or partial).extend(operator.near(schema))
        merge += operator.gather(schema)
        schema = operator.schema(schema)
    pruned = prune([*near, *partial, *merge], frozenset(schema.names))
    ends = len(near), len(near) + len(partial)
    pieces = (
        Segment("routing", ("route",), ()),
        Segment("near", _needs(apart) or ("select",), fuse(pruned[: ends[0]])),
        Segment("partial", _needs(together[:1]), fuse(pruned[ends[0] : ends[1]])),
        Segment("merge", _needs(together), fuse(pruned[ends[1] :])),
        Segment("respond", Respond.needs, (), (respond or Respond()).encoding),
    )
    return tuple(p for p in pieces if p.steps or p.kind in {"routing", "respond"})


def _needs(operators: Sequence[Operator]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for operator in operators for word in operator.needs))


def type_families(steps: tuple[Step, ...], given: pa.Schema) -> frozenset[str]:
    """Give the families of types that the steps compute with or carry, as profiles list them."""
    found = {type_class(field.type) for field in given}
    for step in steps:
        nodes = [node for expression in expressions(step) for node in walk(expression)]
        found |= {type_class(t) for node in nodes if not is_build(t := type_of(node))}
        given = output_schema(step, given)
        found |= {type_class(field.type) for field in given}
    return frozenset(found)


def stage_of(segments: tuple[Segment, ...]) -> Stage:
    """Give the one program that runs neighbouring segments on one device."""
    return Stage(fuse([step for segment in segments for step in segment.steps]))
