"""The conformance kit: whether an operator means on every device what its reference says.

>>> from wherry.testing import cases, check_case
>>> for case in cases():
...     if case.title.startswith("limit int8"):
...         check_case(case)

An operator of your own is checked over a table of your own with `check_operator`, and on the
devices of a system with `check_operator_on`. Both raise `Mismatch`, which says where it went wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isclose, isnan
from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import plain, restored
from wherry.data.segment import SegmentPool
from wherry.data.source import open_source
from wherry.data.types import NANOSECONDS, type_class, value_type
from wherry.devices.system import System, load_system
from wherry.ir.build import Build, build_of
from wherry.ir.builder import Aggregate, Expr, col, count
from wherry.ir.literals import lift
from wherry.ir.stage import Stage, Step
from wherry.ir.types import is_moment, time_type
from wherry.ops.join import HOWS, How
from wherry.ops.operator import Case, Declared, Operator, one_batch
from wherry.pipeline import Pipeline, scan
from wherry.plan.joins import with_builds
from wherry.plan.placement import HOME, Placement, placements, refusals
from wherry.plan.query import prepare
from wherry.render.program import render

__all__ = [
    "Case",
    "Mismatch",
    "build_side",
    "cases",
    "check_case",
    "check_operator",
    "check_operator_on",
]

SPLITS: Final = ((), (1,), (3, 4), (0, 2, 2, 5), tuple(range(1, 12)))
"""Where tables are cut into chunks; equal neighbours make an empty chunk."""


class Mismatch(AssertionError):
    """An operator gave something else than its reference."""


def check_case(case: Case) -> None:
    """Check one case: chunk by chunk, whichever way its rows are cut."""
    check_operator(case.operator, case.rows, title=case.title)


def check_operator(operator: Operator, table: pa.Table, *, title: str = "") -> None:
    """Check that near steps on chunks, then gather steps on all of them, give the reference.

    Parameters
    ----------
    operator : Operator
        Resolved against the table's schema.
    table : pyarrow.Table
        Its rows; they are cut into chunks in several ways, empty chunks among them.

    Raises
    ------
    Mismatch
        If schema, rows or their order differ; floats may differ by a relative 1e-9.
    """
    wanted = operator.reference(table)
    where = title or operator.describe()
    declared = operator.schema(table.schema)
    _check_schema(wanted.schema, declared, f"{where}: the reference")
    for cuts in SPLITS:
        seen = _gathered(operator, table, cuts)
        _check_schema(seen.schema, declared, f"{where}, cut at {cuts}")
        check_rows(seen, wanted, f"{where}, cut at {cuts}")


def check_operator_on(system: str | System, operator: Operator, table: pa.Table) -> None:
    """Check an operator on each kind of device of a system that can run it.

    Raises
    ------
    Mismatch
        If a placement gives something else than the reference, or ran elsewhere than placed.
    """
    found = system if isinstance(system, System) else load_system(system)
    wanted = operator.reference(table)
    declared = operator.schema(table.schema)
    pipeline = Pipeline(open_source(table), (operator,), declared)
    for placement, pins in placements_of_kinds(pipeline, found):
        result = pipeline.run(found, placement=pins)
        where = f"{operator.describe()} with {result.placement}"
        ran = {entry.device for entry in result.evidence}
        if not ran <= {*placement.sites, *_homes(placement, found)}:
            raise Mismatch(f"{where}: ran on {', '.join(sorted(ran))}")
        _check_schema(result.table.schema, declared, where)
        check_rows(result.table, wanted, where)


def _homes(placement: Placement, system: System) -> frozenset[str]:
    homes = {device for dataset in system.datasets for device in dataset.devices}
    return frozenset(homes if HOME in placement.sites else ())


def placements_of_kinds(
    pipeline: Pipeline, system: System
) -> Iterator[tuple[Placement, dict[str, str]]]:
    """Give placements until each segment ran on each kind of device that can run it."""
    query = prepare(pipeline.source, pipeline.operators, pipeline.schema)
    seen: set[tuple[str, str]] = set()
    for placement in placements(query, system, refusals(query, system)):
        pairs = list(zip(query.segments, placement.sites, strict=True))
        programs = {
            (segment.kind, site if site == HOME else system.devices[site].device.kind)
            for segment, site in pairs
            if segment.steps
        }
        if not programs <= seen:
            seen |= programs
            yield placement, {segment.kind: site for segment, site in pairs}


def _gathered(operator: Operator, table: pa.Table, cuts: tuple[int, ...]) -> pa.Table:
    near = operator.near(table.schema)
    parts = [_ran(near, chunk) for chunk in _cut(one_batch(table), cuts)]
    together = pa.concat_batches(parts)
    return pa.Table.from_batches([_ran(operator.gather(table.schema), together)])


def _cut(batch: pa.RecordBatch, cuts: tuple[int, ...]) -> list[pa.RecordBatch]:
    ends = [0, *(min(cut, batch.num_rows) for cut in cuts), batch.num_rows]
    return [batch.slice(a, b - a) for a, b in itertools.pairwise(ends)]


def _ran(steps: tuple[Step, ...], batch: pa.RecordBatch) -> pa.RecordBatch:
    if not steps:
        return batch
    stage, literals = lift(Stage(steps))
    return render(stage, batch.schema, {}).run(batch, literals, SegmentPool()).batch


def _check_schema(seen: pa.Schema, declared: pa.Schema, where: str) -> None:
    if seen.names != declared.names or seen.types != declared.types:
        raise Mismatch(f"{where}: the schema is\n{seen}\nand not\n{declared}")


def check_rows(seen: pa.Table, wanted: pa.Table, where: str) -> None:
    if seen.num_rows != wanted.num_rows:
        raise Mismatch(f"{where}: {seen.num_rows} rows, not {wanted.num_rows}")
    for name in wanted.schema.names:
        pairs = zip(_values(seen.column(name)), _values(wanted.column(name)), strict=True)
        for row, (one, other) in enumerate(pairs):
            if not _equal(one, other):
                raise Mismatch(f"{where}: row {row} of {name!r} is {one!r}, not {other!r}")


def _values(column: pa.ChunkedArray) -> list[object]:
    """Give values that Python tells apart; it has no nanoseconds, so moments become integers."""
    if is_moment(value_type(column.type)):
        column = plain(column)
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    values: list[object] = column.to_pylist()
    return values


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (isnan(one) and isnan(other)) or isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def cases() -> Iterator[Case]:
    """Give every operator over every type, with nulls, without, over no rows, and over slices."""
    for t, values in VALUES.items():
        for shape, rows in _shapes(t, values):
            for title, build in _BUILDERS:
                operator = _only(build, rows, t)
                if operator is not None:
                    yield Case(f"{title} {t} {shape}", operator, rows)


class _Column(Struct, frozen=True):
    """The column `x` of type `type`: what builders ask about."""

    type: pa.DataType
    number: bool
    summable: bool
    hashable: bool
    key: bool


def _only(
    build: Callable[[Pipeline, _Column], Pipeline | None], rows: pa.Table, t: pa.DataType
) -> Operator | None:
    family = type_class(value_type(t))
    number, key = family in {"integer", "float", "decimal"}, family != "struct"
    summable = number or family == "duration"
    about = _Column(t, number, summable, key and family != "float", key)
    made = build(scan(rows), about)
    return None if made is None else with_builds(made, build_side).operators[-1]


def build_side(side: Declared, keys: int) -> Build:
    """Give the other side of a join, run on this machine: for `wherry.plan.joins.with_builds`."""
    return build_of(Pipeline(side.source, side.operators, side.schema).collect(), keys)


def _shapes(t: pa.DataType, values: tuple[object, ...]) -> Iterator[tuple[str, pa.Table]]:
    whole = _table(t, [values[i * i % len(values)] for i in range(13)])
    some = [None if i % 3 == 1 else values[i % len(values)] for i in range(13)]
    yield "values", whole
    yield "nulls", _table(t, some)
    yield "only nulls", _table(t, [None] * 5)
    yield "no rows", _table(t, [])
    yield "slice", _table(t, [*some, *some]).slice(5, 11)


def _table(t: pa.DataType, values: list[object]) -> pa.Table:
    if pa.types.is_dictionary(t):
        x = restored(plain(pa.array(values, t.value_type)), t)
    else:
        x = pa.array(values, t)
    return pa.table({"x": x, "row": pa.array(range(len(values)), pa.int32())})


def _aggregate(q: Pipeline, x: _Column) -> Pipeline:
    return q.agg(**_calls(x))


def _calls(x: _Column) -> dict[str, Aggregate]:
    found: dict[str, Aggregate] = {"rows": count(), "some": col("x").count()}
    found |= {"first": col("x").first(), "last": col("x").last()}
    if x.key:
        found |= {"least": col("x").min(), "most": col("x").max()}
    if x.number:
        found |= {"mean": col("x").mean(), "var": col("x").var(), "std": col("x").std(0)}
    if x.summable:
        found["total"] = col("x").sum()
    return found


def _counted(x: _Column) -> dict[str, Aggregate]:
    found = {"different": col("x").count_distinct(), "first": col("x").first()}
    return found | ({"var": col("x").var(), "mean": col("x").mean()} if x.number else {})


def _doubled(x: _Column) -> Expr:
    if pa.types.is_struct(x.type):
        return col("x").struct.field(x.type.field(0).name)
    return col("x") + col("x") if x.summable else col("x").is_null()


def _tested(x: _Column) -> Expr:
    """Compare with the second value; of a struct, its first field."""
    value = VALUES[x.type][1]
    if isinstance(value, dict):
        name, value = next(iter(value.items()))
        return col("x").struct.field(name) != value
    return col("x") != value


def _member(x: _Column) -> Expr:
    return col("x").is_in(VALUES[x.type][:2])


def _keyed(x: _Column) -> Expr:
    return col("x") if x.key else col("x").struct.field(x.type.field(0).name)


def _key(x: _Column) -> str:
    return "x" if x.key else "row"


def _listed(x: _Column) -> bool:
    return x.key and value_type(x.type) != pa.bool_()


_BUILDERS: Final[tuple[tuple[str, Callable[[Pipeline, _Column], Pipeline | None]], ...]] = (
    ("filter null", lambda q, _: q.filter(col("x").is_null())),
    ("filter value", lambda q, x: q.filter(_tested(x))),
    ("filter member", lambda q, x: q.filter(_member(x)) if _listed(x) else None),
    ("select", lambda q, x: q.select("x", made=_doubled(x))),
    ("with_columns", lambda q, x: q.with_columns(row=_doubled(x), again=col("x"))),
    ("aggregate", _aggregate),
    (
        "group_by",
        lambda q, x: q.group_by(k=_keyed(x)).agg(**(_calls(x) | {"row": col("row").max()})),
    ),
    ("count_distinct", lambda q, x: q.agg(**_counted(x), n=count()) if x.key else None),
    (
        "count_distinct by key",
        lambda q, x: q.group_by(k=col("row") / 2 > 2).agg(**_counted(x)) if x.key else None,
    ),
    ("group_by two", lambda q, x: q.group_by(k=_keyed(x), odd=col("row") / 2 > 2).agg(n=count())),
    ("sort", lambda q, x: q.sort(_key(x))),
    ("sort descending", lambda q, x: q.sort(_key(x), "row", descending=[x.key, not x.key])),
    ("top_k", lambda q, x: q.top_k(4, by=_key(x))),
    ("top_k ascending", lambda q, x: q.top_k(20, by=_key(x), descending=False)),
    ("limit", lambda q, _: q.limit(4)),
    ("limit none", lambda q, _: q.limit(0)),
    ("route request", lambda q, x: q.route("x", VALUES[x.type][1]) if x.key else None),
    ("route rows", lambda q, x: q.route("x", shards=3) if x.hashable else None),
    *((f"join {how}", lambda q, x, how=how: _joined(q, x, _other(x), how)) for how in HOWS),
    (
        "join two keys",
        lambda q, x: q.join(_other(x), on=["x", "row"], how="left") if x.key else None,
    ),
    (
        "join no rows",
        lambda q, x: _joined(q, x, _other(x).filter(col("row") < 0), "left"),
    ),
    ("distinct", lambda q, x: q.distinct(_key(x))),
    ("distinct rows", lambda q, x: q.distinct() if x.key else None),
)


def _other(x: _Column) -> Pipeline:
    """Give rows to join with: keys that repeat, a null, and not every value."""
    values = VALUES[x.type]
    return scan(_table(x.type, [values[1], values[0], None, values[1], values[1]]))


def _joined(q: Pipeline, x: _Column, other: Pipeline, how: How) -> Pipeline:
    return q.join(other, left_on=_keyed(x), right_on=_keyed(x), how=how)


_TEXTS = ("", "b", "ä", "a text of more than twelve bytes", "b2")
_MOMENTS = (datetime(1969, 12, 31, 23, 0, 1), datetime(2000, 2, 29), datetime(2038, 1, 19, 3))  # noqa: DTZ001
_DECIMALS = (Decimal(0), Decimal("1.5"), Decimal(-7), Decimal("99.9"))
_DAYS = (date(1969, 12, 31), date(2000, 2, 29), date(9999, 12, 31))
_CLOCKS = (time(0), time(12, 34, 56), time(23, 59, 59))
_SPANS = (timedelta(0), timedelta(days=1), timedelta(days=-2, seconds=5))
_BYTES = (b"", b"\0b", b"\xff\xfe", b"bytes that no view holds itself", b"\0c")
_PLACES = (
    {"a": 1, "b": "x", "c": Decimal(1), "d": {"e": b"q", "f": True}},
    {"a": None, "b": "a text of more than twelve bytes", "c": None, "d": None},
    {"a": -5, "b": None, "c": Decimal(-2), "d": {"e": None, "f": None}},
)

VALUES: Final[dict[pa.DataType, tuple[object, ...]]] = {
    pa.bool_(): (True, False),
    **dict.fromkeys((pa.int8(), pa.int16(), pa.int32(), pa.int64()), (0, 3, -7, 11)),
    **dict.fromkeys((pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()), (0, 3, 7, 200)),
    **dict.fromkeys((pa.float32(), pa.float64()), (0.0, 0.1, -2.5, 1e30)),
    **dict.fromkeys((pa.date32(), pa.date64()), _DAYS),
    **{pa.timestamp(unit): _MOMENTS for unit in NANOSECONDS},
    **{time_type(unit): _CLOCKS for unit in NANOSECONDS},
    **{pa.duration(unit): _SPANS for unit in NANOSECONDS},
    pa.timestamp("us", "UTC"): tuple(m.replace(tzinfo=UTC) for m in _MOMENTS),
    **{pa.decimal128(*d): _DECIMALS for d in ((4, 1), (18, 4), (38, 10))},
    **dict.fromkeys((pa.decimal32(4, 1), pa.decimal64(12, 2)), _DECIMALS),
    **dict.fromkeys((pa.utf8(), pa.large_utf8(), pa.string_view()), _TEXTS),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), _BYTES),
    pa.binary(3): (b"abc", b"\0\0\1", b"\xff\0a"),
    pa.dictionary(pa.int8(), pa.utf8()): _TEXTS,
    pa.dictionary(pa.int32(), pa.large_utf8()): _TEXTS,
    pa.dictionary(pa.uint8(), pa.int64()): (0, 3, -7, 11),
    pa.dictionary(pa.int16(), pa.float64()): (0.0, 0.1, -2.5, 1e30),
    pa.dictionary(pa.uint16(), pa.decimal128(9, 2)): _DECIMALS,
    pa.dictionary(pa.int64(), pa.decimal32(4, 1)): _DECIMALS,
    pa.dictionary(pa.uint32(), pa.date32()): _DAYS,
    pa.dictionary(pa.int8(), pa.timestamp("ns")): _MOMENTS,
    pa.dictionary(pa.uint64(), pa.duration("us")): _SPANS,
    pa.dictionary(pa.int32(), pa.large_binary()): _BYTES,
    pa.dictionary(pa.int8(), pa.binary(3)): (b"abc", b"\0\0\1", b"\xff\0a"),
    pa.dictionary(pa.int8(), pa.bool_()): (True, False),
    pa.struct(
        [
            ("a", pa.int64()),
            ("b", pa.utf8()),
            ("c", pa.decimal128(7, 2)),
            ("d", pa.struct([("e", pa.binary_view()), ("f", pa.bool_())])),
        ]
    ): _PLACES,
}
"""The types of the kit and a few values of each; the second is what filters ask for."""
