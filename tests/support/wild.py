"""Random expressions over every type and over the ends of every type, for one interpreter to judge.

Unlike `support.expressions` nothing is avoided because SQL defines it otherwise: integers overflow,
NaN and infinity meet everything, casts fail.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from functools import cache
from math import inf, nan
from random import Random

import pyarrow as pa
from support.typed import INTEGERS, UNITS, limits

import wherry as wh
from wherry import Expr, InputError, col, lit, when
from wherry.data.arrays import fields_of, restored
from wherry.data.types import type_class, value_type
from wherry.ir.expr import Node, Shard
from wherry.ir.resolve import castable, resolve, type_of
from wherry.ir.types import is_moment

PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DAY_S = 86_400
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -127.0, 1e-40, 3.5e38, 1e300, 2.0**53, 2.0**63)
TEXTS = (
    "",
    "a",
    "ab",
    "abc",
    "%",
    "b_c",
    "line\nbreak",
    "ü",
    "naïve",
    "\\",
    "a longer text than it",
)
PATTERNS = (*TEXTS, "a%", "%b%", "_", "_b%", "%_", "a\\%", "\\_%", "%ü%", "%a%b%", "a_c", "ab%c")
BYTES = (b"", b"a", b"ab", b"\0", b"\xff\0", b"abcde", b"a longer run of bytes")
ZONE = "Europe/Berlin"

INNER = pa.struct([("k", pa.dictionary(pa.int8(), pa.int32())), ("f", pa.float32())])
STRUCT = pa.struct(
    [("x", pa.int64()), ("y", pa.utf8()), ("m", pa.decimal32(5, 1)), ("q", pa.timestamp("us")),
     ("p", pa.duration("ms")), ("o", pa.bool_()), ("r", INNER)]
)  # fmt: skip
TYPES = (
    *(pa.bool_(), *INTEGERS, pa.float32(), pa.float64(), pa.date32(), pa.date64()),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp("s", ZONE), pa.timestamp("us", ZONE), pa.timestamp("ms", "UTC")),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.decimal32(7, 2), pa.decimal64(15, 3), pa.decimal128(5, 2), pa.decimal128(18, 0)),
    *(pa.decimal128(27, 9), pa.decimal128(38, 6)),
    *(pa.utf8(), pa.large_utf8(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(5)),
    *(pa.dictionary(pa.int8(), pa.utf8()), pa.dictionary(pa.uint16(), pa.int64())),
    *(pa.dictionary(pa.int32(), pa.float64()), pa.dictionary(pa.uint8(), pa.date32())),
    *(pa.dictionary(pa.int16(), pa.decimal128(9, 2)), STRUCT),
)
FLAT = tuple(t for t in TYPES if t != STRUCT)
SCHEMA = pa.schema([(f"c{number}", t) for number, t in enumerate(TYPES)])


@wh.kernel
def scaled(x: float, n: int) -> float:
    return x / n if n > 3 else x * 0.5 - n


@wh.kernel
def turned(n: int, m: int, flag: bool) -> int:
    return n * m - m if flag else n // 7


@wh.kernel
def near(x: pa.float32(), y: float) -> bool:  # type: ignore[valid-type]
    return abs(x - y) < 1.5


KERNELS = (scaled, turned, near)


def stored_values(t: pa.DataType) -> tuple[object, ...]:
    """Give what rows of a type are drawn from; of moments the integers stored."""
    if is_moment(t):
        return _ticks(t)
    match type_class(t):
        case "boolean":
            return (True, False)
        case "integer":
            low, high = limits(t)
            return tuple({*(n for n in (-7, -1, 0, 1, 3, 100) if n >= low), low, high, high // 3})
        case "float":
            return (*FLOATS, nan, inf, -inf)
        case "decimal":
            most = 10**t.precision - 1
            steps = (0, 1, -1, 10**t.scale, -25 * 10**t.scale, most, -most, most // 7)
            return tuple(Decimal(n).scaleb(-t.scale, _WIDE) for n in steps if abs(n) <= most)
        case "string":
            return TEXTS
    wide = pa.types.is_fixed_size_binary(t)
    return tuple(b.ljust(5, b"z")[:5] for b in BYTES) if wide else BYTES


def _ticks(t: pa.DataType) -> tuple[int, ...]:
    if pa.types.is_date32(t):
        return (-1, 0, 9_555, -719_162, 2_932_896, 20_000)
    if pa.types.is_date64(t):
        return tuple(day * DAY_S * 1000 for day in (-1, 0, 9_555, 20_000, -100_000))
    per = PER_S[t.unit]
    if pa.types.is_time(t):
        return (0, 1, DAY_S * per - 1, 12 * 3600 * per, 5 * per + per // 3)
    near = (-1, 0, 1, 1_700_000_000 * per + per // 3, -1_000_000_000 * per - 1, 825_555_600 * per)
    if getattr(t, "tz", None):
        return near
    ends = (-(1 << 63), (1 << 63) - 1) if pa.types.is_duration(t) else (4 * 10**9 * per,)
    return (*near, *ends)


_WIDE = Context(prec=80)


def constants(t: pa.DataType) -> tuple[object, ...]:
    """Give what is written in a query beside values of a type."""
    t = value_type(t)
    match type_class(t):
        case "boolean":
            return (True, False)
        case "integer":
            return (0, 1, -1, 3, 100, 300, -(1 << 63), (1 << 63) - 1, 2.5, Decimal("1.5"))
        case "float":
            return (*FLOATS, nan, -inf, 3, Decimal("0.1"))
        case "decimal":
            return (0, 3, 0.05, Decimal("2.50"), Decimal("-1.234"), Decimal(10) ** 20)
        case "string":
            return TEXTS
        case "binary":
            return (*BYTES, b"azzzz")
        case "time":
            return (time(0), time(5, 6, 7), time(12, 0, 0, 7))
        case "duration":
            return _SPANS
    zone = UTC if getattr(t, "tz", None) else None
    moments = (datetime(1970, 1, 1), datetime(1996, 2, 29, 7, 0, 0, 25), datetime(2023, 11, 14))
    days = () if zone else (date(1969, 12, 31), date(1996, 2, 29))
    return (*days, *_SPANS, *(m.replace(tzinfo=zone) for m in moments))


_SPANS = (timedelta(0), timedelta(seconds=-90), timedelta(days=400), timedelta(microseconds=1500))


@cache
def batch_of(seed: int) -> pa.RecordBatch:
    """Give 140 rows of every type; slices, so that offsets are not 0."""
    draw = Random(seed)
    rows, cut = 143, 3
    columns = [_drawn(draw, t, rows, seed % 3 * 0.15) for t in SCHEMA.types]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA).slice(cut)


def _drawn(draw: Random, t: pa.DataType, rows: int, nulls: float) -> pa.Array:
    if pa.types.is_struct(t):
        gone = pa.array([draw.random() < nulls for _ in range(rows)])
        fields = [_drawn(draw, f.type, rows, nulls) for f in t]
        return pa.StructArray.from_arrays(fields, fields=list(t), mask=gone)
    values = value_type(t)
    chosen = draw.choices(stored_values(values), k=rows)
    kept = [None if draw.random() < nulls else v for v in chosen]
    if is_moment(values):
        made = pa.array(kept, pa.int32() if values.bit_width == 32 else pa.int64()).view(values)
    else:
        made = pa.array(kept, values)
    return restored(made, t)


def values_of(array: pa.Array) -> list[object]:
    """Give an array's values as `wherry.ir.meaning` has them."""
    t = array.type
    if pa.types.is_dictionary(t):
        return values_of(array.dictionary.take(array.indices))
    if pa.types.is_struct(t):
        fields = [values_of(field) for field in fields_of(array)]
        names = [field.name for field in t]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
        return [r if valid else None for r, valid in zip(rows, array.is_valid(), strict=True)]
    if is_moment(t):
        return array.view(pa.int32() if t.bit_width == 32 else pa.int64()).to_pylist()
    return array.to_pylist()


@cache
def rows_of(seed: int) -> list[dict[str, object]]:
    """Give the rows of `batch_of(seed)`."""
    batch = batch_of(seed)
    columns = [values_of(column) for column in batch.columns]
    return [dict(zip(SCHEMA.names, row, strict=True)) for row in zip(*columns, strict=True)]


def resolved(expr: Expr) -> Node | None:
    """Give an expression as it would be planned, or None if Wherry refuses it."""
    try:
        return resolve(expr.node, SCHEMA)
    except InputError:
        return None


def expression(draw: Random, depth: int = 3) -> Expr:
    """Give an expression that Wherry accepts."""
    if depth == 0:
        return col(draw.choice(SCHEMA.names))
    maker = draw.choice(MAKERS)
    for made in maker(draw, depth - 1):
        if resolved(made) is not None:
            return made
    return col(draw.choice(SCHEMA.names))


def _type(expr: Expr) -> pa.DataType:
    return type_of(resolve(expr.node, SCHEMA))


def _of(draw: Random, depth: int, *families: str) -> Expr:
    """Give an expression of one of the families; a column if none was found otherwise."""
    found = expression(draw, depth)
    if type_class(value_type(_type(found))) in families:
        return found
    fits = [f.name for f in SCHEMA if type_class(value_type(f.type)) in families]
    return col(draw.choice(fits))


NUMBERS = ("integer", "float", "decimal")
TIMES = ("temporal", "time", "duration")
ORDERED = (*NUMBERS, *TIMES, "string", "binary", "boolean")


def _beside(draw: Random, depth: int, left: Expr, *more: str) -> Iterator[Expr]:
    """Give what may meet `left`: a constant, an expression, and at last itself."""
    family = type_class(value_type(_type(left)))
    if draw.random() < 0.5:
        yield lit(draw.choice(constants(_type(left))))
    yield _of(draw, depth, *(more or (family,)))
    yield left


def _arithmetic(draw: Random, depth: int) -> Iterator[Expr]:
    left = _of(draw, depth, *NUMBERS)
    for right in _beside(draw, depth, left, *NUMBERS):
        yield _OPERATE[draw.choice("+-*/")](left, right)


def _timely(draw: Random, depth: int) -> Iterator[Expr]:
    left = _of(draw, depth, *TIMES)
    for right in _beside(draw, depth, left, *TIMES, "integer"):
        for op in draw.sample("+-*/", 4):
            made = _OPERATE[op](left, right)
            if resolved(made) is not None and not _in_zone(_type(made)):
                yield made


def _in_zone(t: pa.DataType) -> bool:
    """Tell of what may be later than 2037, when pyarrow knows no summer time any more."""
    return getattr(t, "tz", None) == ZONE


_OPERATE = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
_COMPARE = (
    *(lambda a, b: a == b, lambda a, b: a != b, lambda a, b: a < b),
    *(lambda a, b: a <= b, lambda a, b: a > b, lambda a, b: a >= b),
)


def _negated(draw: Random, depth: int) -> Iterator[Expr]:
    yield -_of(draw, depth, *NUMBERS, "duration")


def _compared(draw: Random, depth: int) -> Iterator[Expr]:
    left = _of(draw, depth, *ORDERED)
    compare = draw.choice(_COMPARE)
    family = type_class(value_type(_type(left)))
    meets = NUMBERS if family in NUMBERS else (family,)
    for right in _beside(draw, depth, left, *meets):
        yield compare(left, right)


def _logic(draw: Random, depth: int) -> Iterator[Expr]:
    one, other, third = (_of(draw, depth, "boolean") for _ in range(3))
    yield draw.choice((one & other, one | other, one & other & third, one | (other & third)))


def _inverted(draw: Random, depth: int) -> Iterator[Expr]:
    yield ~_of(draw, depth, "boolean")


def _null_test(draw: Random, depth: int) -> Iterator[Expr]:
    found = expression(draw, depth)
    yield found.is_null() if draw.random() < 0.5 else found.is_not_null()


def _member(draw: Random, depth: int) -> Iterator[Expr]:
    left = _of(draw, depth, *ORDERED)
    possible = [c for c in constants(_type(left)) if not isinstance(c, timedelta)] or list(_SPANS)
    yield left.is_in(draw.choices(possible, k=draw.randint(1, 4)))
    yield left.is_in(possible[:1])


def _case(draw: Random, depth: int) -> Iterator[Expr]:
    tests = [_of(draw, depth, "boolean") for _ in range(draw.randint(1, 2))]
    first = _of(draw, depth, *ORDERED)
    for other in (*_beside(draw, depth, first), None):
        made = when(tests[0]).then(first)
        for test in tests[1:]:
            made = made.when(test).then(other)
        yield made.otherwise(None if draw.random() < 0.5 else other)


def _matched(draw: Random, depth: int) -> Iterator[Expr]:
    kind = draw.choice(("starts_with", "ends_with", "contains", "like", "like"))
    pattern = draw.choice(PATTERNS if kind == "like" else TEXTS)
    yield getattr(_of(draw, depth, "string").str, kind)(pattern)


def _part(draw: Random, depth: int) -> Iterator[Expr]:
    # Of stored moments only: a sum may lead beyond the year 32,767, where a part has no value.
    part = draw.choice(("year", "month", "day"))
    yield getattr(_of(draw, 0, "temporal").dt, part)()


def _cast(draw: Random, depth: int) -> Iterator[Expr]:
    inner = expression(draw, depth)
    t = _type(inner)
    targets = [u for u in FLAT if not u.equals(t) and castable(t, u) and not _in_zone(u)]
    if targets:
        yield inner.cast(draw.choice(targets))


def _field(draw: Random, depth: int) -> Iterator[Expr]:
    struct = col(SCHEMA.names[-1]).struct
    name = draw.choice([field.name for field in STRUCT])
    if name != "r":
        yield struct.field(name)
    else:
        yield struct.field("r").struct.field(draw.choice([f.name for f in INNER]))


def _applied(draw: Random, depth: int) -> Iterator[Expr]:
    kernel = draw.choice(KERNELS)
    families = {pa.bool_(): ("boolean",), pa.int64(): ("integer",)}
    yield kernel(*(_of(draw, depth, *families.get(t, ("float", "integer"))) for t in kernel.types))
    yield kernel(*(col(f"c{TYPES.index(t)}") for t in kernel.types))


def _shard(draw: Random, depth: int) -> Iterator[Expr]:
    key = _of(draw, depth, *(f for f in ORDERED if f != "float"))
    yield Expr(Shard(key.node, "hash", draw.randint(1, 9)))


MAKERS = (
    *(_arithmetic, _arithmetic, _timely, _negated, _compared, _compared, _logic, _inverted),
    *(_null_test, _member, _case, _matched, _part, _cast, _cast, _field, _applied, _shard),
)
