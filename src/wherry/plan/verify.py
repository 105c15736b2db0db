"""A plan is checked as if strangers had written it, before any program is made of it.

Programs believe a plan: machine code reads columns by the types it says, constants by the types of
parameters, tables by the bounds it gives. What passes here is what `wherry.plan.query` could have
made: its segments in a possible order, every type in it told anew, constants numbered densely, all
sizes bounded. What a plan says of rows is held against the rows, in `wherry.plan.fits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.ids import DIGEST_BYTES
from wherry.data.encoded import Encoding
from wherry.data.types import type_class, value_type
from wherry.ir.expr import Column, Parameter, Shard
from wherry.ir.scope import (
    NAME_BYTES_MOST,
    Given,
    Scope,
    Unfit,
    Within,
    check_name,
    check_value_type,
)
from wherry.ir.stage import Groups, Matches, Order, Pass, Rows, SortKey, Take, Totals
from wherry.ir.typed import SHARDS_MOST, call_in, keys_in, root_type
from wherry.ir.types import is_moment, type_range
from wherry.plan.query import Plan
from wherry.plan.segments import Segment

BYTES_MOST: Final = 4 << 20
"""Of an encoded plan; longer ones are refused unread."""
COLUMNS_MOST: Final = 1 << 14
"""Of a step."""
CALLS_MOST: Final = 1024
"""Of a step: the code of groups takes longer the more there are, 800 of them 7 s (measured)."""
STEPS_MOST: Final = 256
_COUNT_MOST: Final = 1 << 63
_KINDS: Final = ("routing", "near", "partial", "merge", "respond")
_WORDS_MOST: Final = 64
"""What a segment says a device must be able to do."""

Columns = dict[str, Given]


class Facts(Struct, frozen=True):
    """What a check found out that whoever puts in values and rows needs.

    Attributes
    ----------
    parameters : tuple of Parameter
        In order of their indices, which are dense.
    keys : dict
        By index of a build: how many of its columns are keys.
    written : frozenset of int
        Constants of text that may be written for every row.
    ranges : tuple of dict
        By segment: columns that come in as numbers in [0, so many), never null.
    """

    parameters: tuple[Parameter, ...]
    keys: dict[int, int]
    written: frozenset[int]
    ranges: tuple[dict[str, int], ...]


def verified(plan: Plan) -> Facts:
    """Check a plan completely; give what follows from it.

    Raises
    ------
    CorruptError
        If the planner could not have made it, or it is too large; segment, step and node are named.
    Refused
        If it calls a function that is not declared in this process: no code comes with a plan.
    """
    try:
        return _facts(plan)
    except Unfit as problem:
        raise problem.error("plan") from None


def _facts(plan: Plan) -> Facts:
    with Within(".fields"):
        columns = _fields(plan)
    with Within(".bounds"):
        _check_bounds(plan, columns)
    segments = _tuple(plan.segments, "segments")
    with Within(".segments"):
        _check_order(segments)
    scope, ranges, steps = Scope(columns), [], 0
    for number, segment in enumerate(segments):
        place = f": segment {number} ({segment.kind})"
        ranges.append({name: given.below for name, given in columns.items() if given.below})
        steps += len(segment.steps)
        for at, step in enumerate(segment.steps):
            with Within(f"{place}, step {at}"):
                columns = _step(step, segment.kind, scope)
            scope.columns = columns
    _check_merge(segments)
    if steps > STEPS_MOST:
        raise Unfit(f": {steps} steps; possible: {STEPS_MOST}")
    found = scope.parameters
    if sorted(found) != list(range(len(found))):
        raise Unfit(f": constants are numbered up to {max(found)}, and there are {len(found)}")
    in_order = tuple(found[index] for index in range(len(found)))
    return Facts(in_order, scope.keys, frozenset(scope.written), tuple(ranges))


def _tuple(value: object, what: str, least: int = 1, most: int = COLUMNS_MOST) -> tuple[Any, ...]:
    if type(value) is not tuple or not least <= len(value) <= most:
        seen = f"{len(value)} of them" if type(value) is tuple else type(value).__name__
        raise Unfit(f" as {what}: {seen}; possible: {least} to {most}")
    return value


def _pairs(value: object, what: str, length: int, least: int = 1) -> tuple[Any, ...]:
    found = _tuple(value, what, least)
    if any(type(pair) is not tuple or len(pair) != length for pair in found):
        raise Unfit(f" as {what}: each is {length} values")
    return found


def _check_names(names: Iterable[object]) -> None:
    found = [check_name(name) for name in names]
    if len(set(found)) != len(found):
        raise Unfit(" has two columns of one name")


def _fields(plan: Plan) -> Columns:
    if type(plan.dataset) is not str or len(plan.dataset) > NAME_BYTES_MOST:
        raise Unfit(": the name of the dataset")
    if type(plan.fingerprint) is not bytes or len(plan.fingerprint) != DIGEST_BYTES:
        raise Unfit(f": a fingerprint has {DIGEST_BYTES} bytes")
    pairs = _pairs(plan.fields, "fields", 2)
    _check_names(name for name, _ in pairs)
    return {name: Given(check_value_type(t, stored=True)) for name, t in pairs}


def _check_bounds(plan: Plan, columns: Mapping[str, Given]) -> None:
    bounds = _pairs(plan.bounds, "bounds", 3, least=0)
    _check_names(name for name, _, _ in bounds)
    for name, low, high in bounds:
        given = columns.get(name)
        if given is None or not _has_bounds(value_type(given.type)):
            raise Unfit(f": there are no bounds of {name!r:.60}")
        least, most = type_range(value_type(given.type))
        if type(low) is not int or type(high) is not int or not least <= low <= high <= most:
            raise Unfit(f" of {name!r:.60}: {low!r:.40} to {high!r:.40}")
        if low < -_COUNT_MOST or high >= _COUNT_MOST:
            raise Unfit(f" of {name!r:.60}: beyond 64 bits")


def _has_bounds(t: pa.DataType) -> bool:
    return pa.types.is_integer(t) or pa.types.is_decimal(t) or is_moment(t)


def _check_order(segments: tuple[Any, ...]) -> None:
    if any(type(segment) is not Segment for segment in segments):
        raise Unfit(": what is no segment")
    kinds = [segment.kind for segment in segments]
    known = [kind for kind in _KINDS if kind in kinds]
    if kinds != known or not {"routing", "near", "respond"} <= set(kinds):
        raise Unfit(f": {kinds!r:.200}; possible: {', '.join(_KINDS)}")
    for segment in segments:
        idle = segment.kind in {"routing", "respond"}
        _tuple(
            segment.steps, f"steps of {segment.kind}", 0 if idle else 1, 0 if idle else STEPS_MOST
        )
        words = _tuple(segment.operators, "operators", 0, _WORDS_MOST)
        if any(type(word) is not str or len(word) > _WORDS_MOST for word in words):
            raise Unfit(f": operators of {segment.kind}")
        told = segment.encoding is None or (
            segment.kind == "respond" and type(segment.encoding) is Encoding
        )
        if not told:
            raise Unfit(f": the encoding of {segment.kind}")


def _check_merge(segments: tuple[Segment, ...]) -> None:
    """Refuse partial rows that are not merged, or merged in another order than they were chosen.

    Chunks that are run together are put in order together, as if they were merged already.
    """
    by_kind = {segment.kind: segment for segment in segments}
    if "partial" not in by_kind:
        return
    if "merge" not in by_kind:
        raise Unfit(": partial rows that nobody merges")
    last, first = by_kind["partial"].steps[-1], by_kind["merge"].steps[0]
    if type(last) in {Order, Take} and last != first:
        raise Unfit(": partial rows in an order that is not merged")


def _step(step: object, kind: str, scope: Scope) -> Columns:
    """Check a step over rows of `scope.columns`; give the columns that come out."""
    if type(step) is Pass:
        if step.predicate is not None:
            with Within(".predicate"):
                t = root_type(step.predicate, scope)
            if not pa.types.is_boolean(t):
                raise Unfit(".predicate is no truth")
        sink = _SINKS.get(type(step.sink))
        if sink is None or (kind == "near" and type(step.sink) not in {Rows, Matches}):
            raise Unfit(f".sink is a {type(step.sink).__name__}")
        with Within(".sink"):
            return sink(step.sink, scope)
    if kind == "near" or type(step) not in {Order, Take}:
        raise Unfit(f" is a {type(step).__name__}")
    if type(step) is Order:
        _check_order_by(step, scope.columns)
    elif not _is_count(step.count):  # type: ignore[attr-defined]
        raise Unfit(" takes no number of rows")
    # Rows are in memory then: no later pass is fused with an earlier one.
    return _settled(scope.columns)


def _settled(columns: Mapping[str, Given]) -> Columns:
    return {name: Given(given.type, below=given.below) for name, given in columns.items()}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _COUNT_MOST


def _check_order_by(step: Order, columns: Mapping[str, Given]) -> None:
    for key in _tuple(step.by, "keys of an order"):
        if type(key) is not SortKey or type(key.descending) is not bool:
            raise Unfit(f".by holds a {type(key).__name__}")
        given = columns.get(key.column) if type(key.column) is str else None
        if given is None or pa.types.is_struct(given.type):
            raise Unfit(f".by names {key.column!r:.60}")
    if step.count is not None and not _is_count(step.count):
        raise Unfit(".count is no number of rows")
    if step.buckets is None:
        return
    # Kernels have a counter a bucket, and no row may be in another.
    first = step.by[0]
    numbered = columns[first.column].below
    if type(step.buckets) is not int or not 0 < numbered <= step.buckets <= SHARDS_MOST:
        raise Unfit(
            f".buckets is {step.buckets!r:.40}; {first.column!r:.60} has {numbered} numbers"
        )
    if len(step.by) > 1 or first.descending or step.count is not None:
        raise Unfit(".buckets of an order by more than a number")


def _rows(sink: Rows, scope: Scope) -> Columns:
    return _outputs(sink.outputs, "outputs", scope)


def _outputs(value: object, what: str, scope: Scope, least: int = 1) -> Columns:
    """Check named expressions; give them as columns."""
    pairs = _pairs(value, what, 2, least)
    _check_names(name for name, _ in pairs)
    found = {}
    for number, (name, node) in enumerate(pairs):
        before = scope.nodes
        with Within(f".{what}[{number}]"):
            t = root_type(node, scope)
        found[name] = Given(t, scope.nodes - before, scope.deepest, _below(node, scope))
    return found


def _below(node: object, scope: Scope) -> int:
    if type(node) is Shard:
        return node.count
    return scope.columns[node.name].below if type(node) is Column else 0


def _calls(value: object, scope: Scope, least: int) -> Columns:
    pairs = _pairs(value, "calls", 2, least)
    if len(pairs) > CALLS_MOST:
        raise Unfit(f".calls are {len(pairs)}; possible: {CALLS_MOST}")
    found = {}
    for number, (name, call) in enumerate(pairs):
        with Within(f".calls[{number}]"):
            t = call_in(call, scope)
        found[check_name(name)] = Given(t)
    if len(found) != len(pairs):
        raise Unfit(".calls has two columns of one name")
    return found


def _totals(sink: Totals, scope: Scope) -> Columns:
    return _calls(sink.calls, scope, 1)


def _groups(sink: Groups, scope: Scope) -> Columns:
    keys = _outputs(sink.keys, "keys", scope)
    calls = _calls(sink.calls, scope, 0)
    _check_names((*keys, *calls))
    for name, given in keys.items():
        if type_class(given.type) == "struct":
            raise Unfit(f".keys: {name!r:.60} is a struct")
    return {**_settled(keys), **calls}


def _matches(sink: Matches, scope: Scope) -> Columns:
    columns = keys_in(sink.keys, sink.build, scope)
    outputs = _outputs(sink.outputs, "outputs", scope, 0)
    added = _pairs(sink.added, "added", 3, 0 if outputs else 1)
    _check_names((*outputs, *(name for name, _, _ in added)))
    if type(sink.outer) is not bool:
        raise Unfit(".outer is no truth")
    made = {name: Given(given.type) for name, given in outputs.items()}
    for name, number, t in added:
        known = type(number) is int and 0 <= number < columns.num_fields
        if not known or not isinstance(t, pa.DataType) or not columns[number].type.equals(t):
            raise Unfit(f".added: {name!r:.60} is column {number!r:.20} of type {t!s:.60}")
        made[name] = Given(t)
    return made


_SINKS: Final[Mapping[Any, Callable[[Any, Scope], Columns]]] = {
    Rows: _rows,
    Totals: _totals,
    Groups: _groups,
    Matches: _matches,
}
