"""Chunks with a column of each type, passes over them, and what it means that two are the same."""

import math
from datetime import date
from decimal import Decimal
from functools import cache

import numpy as np
import pyarrow as pa

from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Rows, Stage

TEXTS = ["", "a", "ab", "abc", "b", "wherry carries", "wherry carries a query", "%", "ü"]
TYPES = {
    "i8": pa.int8(),
    "i64": pa.int64(),
    "u16": pa.uint16(),
    "f32": pa.float32(),
    "f64": pa.float64(),
    "b": pa.bool_(),
    "d": pa.date32(),
    "t": pa.timestamp("us"),
    "m": pa.decimal128(9, 2),
    "w": pa.decimal128(25, 3),
    "s": pa.utf8(),
    "l": pa.large_utf8(),
    "v": pa.string_view(),
    "c": pa.dictionary(pa.int8(), pa.utf8()),
    "e": pa.dictionary(pa.int32(), pa.large_utf8()),
}
SCHEMA = pa.schema(list(TYPES.items()))


def _values(name: str, rng: np.random.Generator, rows: int) -> list[object]:
    t = TYPES[name]
    if pa.types.is_boolean(t):
        return (rng.random(rows) < 0.5).tolist()
    if name in "slvce":
        return [TEXTS[i] for i in rng.integers(0, len(TEXTS), rows)]
    if pa.types.is_floating(t):
        return (rng.integers(-8, 9, rows) / 4).tolist()
    if pa.types.is_date(t):
        return [date.fromordinal(int(n)) for n in rng.integers(700_000, 740_000, rows)]
    if pa.types.is_timestamp(t):
        return rng.integers(-(10**15), 10**15, rows).tolist()
    if pa.types.is_decimal(t):
        most = 10 ** min(t.precision, 18)
        return [Decimal(int(n)).scaleb(-t.scale) for n in rng.integers(-most + 1, most, rows)]
    low, high = (0, 9) if t == pa.uint16() else (-9, 9)
    return rng.integers(low, high, rows).tolist()


@cache
def batch_of(rows: int, nulls: float, seed: int, offset: int = 0) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    columns = []
    for name, t in TYPES.items():
        values = _values(name, rng, rows + offset)
        gone = rng.random(rows + offset) < nulls
        kept = [None if g else v for v, g in zip(values, gone, strict=True)]
        if pa.types.is_dictionary(t):
            columns.append(pa.array(kept, t.value_type).dictionary_encode().cast(t))
        else:
            columns.append(pa.array(kept, t))
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA).slice(offset)


def staged(*steps):
    return lift(Stage(steps))


def rows_of(**outputs):
    return Rows(tuple((name, resolve(e.node, SCHEMA)) for name, e in outputs.items()))


def where(expr):
    return None if expr is None else resolve_condition(expr.node, SCHEMA)


def calls_of(**calls):
    return tuple((name, resolve_call(a.call, SCHEMA)) for name, a in calls.items())


def same(made: pa.RecordBatch, wanted: pa.RecordBatch) -> None:
    made.validate(full=True)
    assert made.schema.equals(wanted.schema)
    assert made.num_rows == wanted.num_rows
    for name in made.schema.names:
        one, other = made.column(name).to_pylist(), wanted.column(name).to_pylist()
        if pa.types.is_floating(made.schema.field(name).type):
            for x, y in zip(one, other, strict=True):
                assert (x is None) == (y is None)
                near = x is None or math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12)
                assert near or (math.isnan(x) and math.isnan(y)), (name, x, y)
        else:
            assert one == other, name
