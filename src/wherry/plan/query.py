"""A query ready to be placed: the plan that travels, the values that differ, the chunks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, reduce
from typing import Any

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.base.ids import digest
from wherry.base.memo import Memo
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Reading
from wherry.data.encoded import Encoding
from wherry.data.source import Source
from wherry.data.types import value_type
from wherry.ir.build import Build, Known, known
from wherry.ir.codec import encode, register
from wherry.ir.expr import Cast, Literal, Node, columns_of, walk
from wherry.ir.literals import bind, lift, parameters
from wherry.ir.stage import Pass, Step, expressions, input_columns, output_schema
from wherry.ir.types import is_build, is_moment
from wherry.ops.estimate import Estimate
from wherry.ops.join import Join
from wherry.ops.operator import Operator, estimate_near
from wherry.ops.respond import Respond, split_respond
from wherry.ops.scan import Scan, integer_bounds, mean_reading, scan_estimate
from wherry.plan.chunks import needed_chunks, order_terms
from wherry.plan.segments import Segment, cut, split

register(Segment)
register(Encoding)

_BOUND_MAX = 1 << 63
"""Bounds beyond 64 bits are not sent: they would choose no narrower program."""
_prepared = Memo(256)


@register
class Plan(Struct, frozen=True):
    """What travels once to each device and is kept by its digest: shape without constants.

    Attributes
    ----------
    dataset : str
        Name of the dataset; devices know datasets by name, never by path.
    fingerprint : bytes
        Of the dataset's stored rows when the plan was made.
    fields : tuple of (str, pyarrow.DataType)
        The columns read, in order.
    bounds : tuple of (str, int, int)
        Smallest and largest unscaled integer of exact columns, where known.
    segments : tuple of Segment
        In order; literals are parameters.
    """

    dataset: str
    fingerprint: bytes
    fields: tuple[tuple[str, pa.DataType], ...]
    bounds: tuple[tuple[str, int, int], ...]
    segments: tuple[Segment, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns read."""
        return pa.schema([pa.field(name, t) for name, t in self.fields])

    def bounds_map(self) -> Mapping[str, tuple[int, int]]:
        """Give the bounds by column."""
        return {name: (low, high) for name, low, high in self.bounds}


class Groups(Struct, frozen=True):
    """Numbers of groups that are known better than statistics tell: of a chunk, and of all."""

    chunk: float | None = None
    every: float | None = None


class Within(Struct, frozen=True):
    """Rows that appear inside a segment, so that no flow tells of them.

    Attributes
    ----------
    passed : float
        That reach the first join which adds columns; what comes out if there is none.
    grouped : float
        That the operator makes where chunks meet, before those after it choose among them.
    groups : Groups
        What is known of their number besides statistics.
    """

    passed: float
    grouped: float
    groups: Groups


class Query(Struct, frozen=True, eq=False, dict=True):
    """A pipeline, checked, pruned and cut, with everything placement needs to know.

    Attributes
    ----------
    reading : Reading
        What reading a chunk comes to, on the average over `chunks`.
    sampled : int
        Rows that were looked at to estimate what passes; 0 if statistics alone tell.
    plan_bytes, plan_digest : bytes
        The plan as it travels, and its identity.
    known : dict
        What follows from the query, for whoever asks again; shared by equal queries of a source.
    """

    scan: Scan
    operators: tuple[Operator, ...]
    segments: tuple[Segment, ...]
    literals: tuple[Literal, ...]
    plan: Plan
    chunks: tuple[ChunkRef, ...]
    flows: tuple[Estimate, ...]
    within: Within
    reading: Reading
    schema: pa.Schema
    plan_bytes: bytes
    plan_digest: bytes
    sampled: int = 0
    known: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def builds(self) -> tuple[tuple[Known, ...], ...]:
        """What is known of the builds that each segment reads."""
        if not any(is_build(literal.type) for literal in self.literals):
            return tuple(() for _ in self.segments)
        return tuple(
            tuple(known(self.literals[p.index]) for p in parameters(segment) if is_build(p.type))
            for segment in self.plan.segments
        )


def prepare(source: Source, operators: tuple[Operator, ...], schema: pa.Schema) -> Query:
    """Give the query of a pipeline: columns pruned, terms ordered, segments cut, chunks chosen.

    A source does not change, so a query that is asked again is prepared once.

    Raises
    ------
    InputError
        If operators build on each other's columns too deeply, or a file was changed in place.
    """
    source.chunks()  # refuses files that were changed
    joins = [operator for operator in operators if isinstance(operator, Join)]
    builds = {o.build.known: o.build for o in joins if isinstance(o.build, Build)}
    try:
        if len(builds) < len(joins):
            # Of two builds of which the same is known, nobody could tell which was which.
            return _query(source, operators, schema)
        key = (tuple(map(_bare, operators)), schema) if joins else operators
        columns, rest = _prepared.get(
            source, key, lambda: _without_source(source, operators, schema)
        )
    except RecursionError:
        raise InputError(
            f"{len(operators)} operators compute columns of each other's columns, too deep to be "
            "fused into one pass; collect() some of them first"
        ) from None
    if not joins:
        return Query(Scan(source, columns), **rest)
    above, respond = split_respond(operators)
    literals = tuple(
        replace(v, value=builds[v.value]) if isinstance(v.value, Known) else v
        for v in rest["literals"]
    )
    made = {**rest, "operators": (*above, respond), "literals": literals}
    return Query(Scan(source, columns), **made)


class _Bare(Struct, frozen=True):
    """A join without the rows of its other side, which are too many to be kept."""

    how: str
    keys: tuple[Node, ...]
    names: tuple[str, ...]
    schema: pa.Schema
    known: Known


def _bare(operator: Operator) -> object:
    """Give what a plan depends on in an operator."""
    if not isinstance(operator, Join):
        return operator
    assert isinstance(operator.build, Build)
    schema, known = operator.side.schema, operator.build.known
    return _Bare(operator.how, operator.keys, operator.names, schema, known)


def _without_source(
    source: Source, operators: tuple[Operator, ...], schema: pa.Schema
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Give the columns of a query's scan and its other fields: what may be kept for the source.

    The rows of joins are too many for that; what is known of them stays.
    """
    query = _query(source, operators, schema)
    rest = {f: getattr(query, f) for f in query.__struct_fields__ if f != "scan"}
    if any(isinstance(operator, Join) for operator in operators):
        literals = tuple(
            replace(v, value=v.value.known) if isinstance(v.value, Build) else v
            for v in query.literals
        )
        segments = bind(query.plan.segments, literals)
        rest = {**rest, "operators": (), "literals": literals, "segments": segments}
    return query.scan.columns, rest


def _query(source: Source, operators: tuple[Operator, ...], schema: pa.Schema) -> Query:
    operators, respond = split_respond(operators)
    segments = cut(source.schema, operators, respond)
    scan = Scan(source, tuple(_columns(segments, source.schema)))
    rows = sum(ref.rows for ref in source.chunks())
    stored = scan_estimate(scan, rows)
    segments = tuple(_ordered(segment, stored) for segment in segments)
    plan, literals = _plan(scan, segments, stored)
    chunks = needed_chunks(source, _first_steps(segments))
    flows, within = _flows(segments, (operators, respond), stored, chunks)
    reading = mean_reading(scan, chunks, stored.row_bytes)
    encoded = encode(plan)
    return Query(
        scan=scan,
        operators=(*operators, respond),
        segments=segments,
        literals=literals,
        plan=plan,
        chunks=chunks,
        flows=flows,
        within=within,
        reading=reading,
        schema=schema,
        plan_bytes=encoded,
        plan_digest=digest(encoded),
    )


def _first_steps(segments: tuple[Segment, ...]) -> tuple[Step, ...]:
    return next((s.steps for s in segments if s.steps), ())


def _columns(segments: tuple[Segment, ...], schema: pa.Schema) -> list[str]:
    """Give the stored columns that the first pass reads, in stored order; never none."""
    first = _first_steps(segments)[0]
    needed = input_columns(first)
    return [name for name in schema.names if name in needed] or schema.names[:1]


def _ordered(segment: Segment, stored: Estimate) -> Segment:
    steps = tuple(
        replace(step, predicate=order_terms(step.predicate, stored))
        if isinstance(step, Pass) and step.predicate is not None
        else step
        for step in segment.steps
    )
    return replace(segment, steps=steps)


def _plan(
    scan: Scan, segments: tuple[Segment, ...], stored: Estimate
) -> tuple[Plan, tuple[Literal, ...]]:
    uncast = _moments(scan) - _cast_columns(segments)
    bounds = tuple(
        (name, low, high)
        for name, (low, high) in integer_bounds(scan, stored.columns).items()
        if low >= -_BOUND_MAX and high < _BOUND_MAX and name not in uncast
    )
    read = tuple((column.name, column.type) for column in scan.schema())
    plan = Plan(scan.source.name, scan.source.fingerprint, read, bounds, segments)
    return lift(plan)


def _moments(scan: Scan) -> frozenset[str]:
    schema = scan.schema()
    return frozenset(f.name for f in schema if is_moment(value_type(f.type)))


def _cast_columns(segments: tuple[Segment, ...]) -> frozenset[str]:
    """Give the columns below a cast: the only use that bounds of moments have."""
    nodes = (
        node
        for segment in segments
        for step in segment.steps
        for expression in expressions(step)
        for node in walk(expression)
    )
    return frozenset().union(*(columns_of(node) for node in nodes if isinstance(node, Cast)))


def _flows(
    segments: tuple[Segment, ...],
    operators: tuple[tuple[Operator, ...], Respond],
    stored: Estimate,
    chunks: tuple[ChunkRef, ...],
) -> tuple[tuple[Estimate, ...], Within]:
    """Give what comes out of each segment, summed over chunks; routing gives what is scanned."""
    rows = float(sum(ref.rows for ref in chunks))
    scanned = replace(stored, rows_low=rows, rows=rows, rows_high=rows)
    apart, _ = split(operators[0])
    near, passed = scanned, None
    for operator in apart:
        if passed is None and isinstance(operator, Join) and operator.how in {"inner", "left"}:
            passed = near.rows
        near = operator.estimate(near)
    passed = near.rows if passed is None else passed
    flows, grouped = _after_near(segments, operators, (scanned, near), len(chunks), Groups())
    return flows, Within(passed, grouped, Groups())


def near_flow(query: Query) -> Estimate:
    """Give what comes out of the operators that work chunk by chunk."""
    return query.flows[[segment.kind for segment in query.segments].index("near")]


def of_chunks(query: Query, chunks: tuple[ChunkRef, ...]) -> Query:
    """Give the query as if it were of these chunks only, as many of their rows passing."""
    rows, scanned, near = float(sum(ref.rows for ref in chunks)), query.flows[0], near_flow(query)
    share = rows / scanned.rows if scanned.rows else 1.0
    part = replace(query, chunks=chunks, flows=(_times(scanned, share), *query.flows[1:]), known={})
    return with_near(part, _times(near, share), passed=query.within.passed * share)


def with_near(
    query: Query, near: Estimate, groups: Groups | None = None, passed: float | None = None
) -> Query:
    """Give the query as if `near` came out of the operators that work chunk by chunk.

    Parameters
    ----------
    groups : Groups, optional
        Numbers of groups; as in the query if not given, and at most one a row.
    passed : float, optional
        Rows that reach the first join; as in the query if not given.
    """
    operators, respond = query.operators[:-1], query.operators[-1]
    assert isinstance(respond, Respond)
    known, count = groups or query.within.groups, len(query.chunks)
    given = query.flows[0], near
    flows, grouped = _after_near(query.segments, (operators, respond), given, count, known)
    within = Within(query.within.passed if passed is None else passed, grouped, known)
    return replace(query, flows=flows, within=within, known={})


def _after_near(
    segments: tuple[Segment, ...],
    operators: tuple[tuple[Operator, ...], Respond],
    flows_in: tuple[Estimate, Estimate],
    chunks: int,
    groups: Groups,
) -> tuple[tuple[Estimate, ...], float]:
    """Give what comes out of each segment, and the rows that the first gathering operator makes."""
    (_, together), respond = split(operators[0]), operators[1]
    (scanned, near), count = flows_in, max(1, chunks)
    partial = merged = first = near
    if together:
        given = _times(near, 1 / count)
        each = _known(estimate_near(together[0], given), groups.chunk, given.rows)
        partial = _times(each, count)
        first = _known(together[0].estimate(near), groups.every, near.rows)
        merged = reduce(lambda flow, operator: operator.estimate(flow), together[1:], first)
    answer = respond.estimate(merged)
    by_kind = {"routing": scanned, "near": near, "partial": partial, "merge": merged}
    flows = tuple(by_kind.get(segment.kind, answer) for segment in segments)
    return flows, first.rows


def _known(flow: Estimate, rows: float | None, most: float) -> Estimate:
    """Give the flow with a number of groups that is known, one a row of the `most` at most."""
    if rows is None:
        return flow
    rows = min(rows, most)
    return replace(
        flow, rows_low=min(flow.rows_low, rows), rows=rows, rows_high=max(flow.rows_high, rows)
    )


def _times(flow: Estimate, factor: float) -> Estimate:
    return replace(
        flow,
        rows_low=flow.rows_low * factor,
        rows=flow.rows * factor,
        rows_high=flow.rows_high * factor,
    )


def builds_of(query: Query, first: int, last: int) -> tuple[Known, ...]:
    """Give what is known of the builds whose rows the segments first..last read."""
    each = query.builds[first : last + 1]
    return tuple(dict.fromkeys(build for builds in each for build in builds))


def segment_schemas(plan: Plan) -> tuple[pa.Schema, ...]:
    """Give the schema that goes into each segment."""
    schema = plan.schema
    found = []
    for segment in plan.segments:
        found.append(schema)
        for step in segment.steps:
            schema = output_schema(step, schema)
    return tuple(found)
