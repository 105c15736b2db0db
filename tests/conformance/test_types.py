"""Times, durations, narrow decimals, bytes, dictionaries of anything, and fields of structs."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from wherry import count, scan, write_shards
from wherry.base.errors import InputError
from wherry.data.arrays import countable, fields_of, restored
from wherry.data.segment import SegmentPool
from wherry.data.sharding import ShardScheme
from wherry.data.types import value_type
from wherry.ir.builder import col, lit, when
from wherry.ir.expr import Cast
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Pass, Rows, Stage, Totals
from wherry.ir.types import is_moment
from wherry.plan.query import prepare
from wherry.render.program import render
from wherry.render.reference import run_reference

POOL = SegmentPool()
UNITS = ("s", "ms", "us", "ns")
DAY_S = 86_400
PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MOMENTS = {
    "d32": pa.date32(),
    "d64": pa.date64(),
    **{f"t_{u}": pa.timestamp(u) for u in UNITS},
    **{f"z_{u}": pa.timestamp(u, "Europe/Berlin") for u in ("s", "us")},
    "u_ms": pa.timestamp("ms", "UTC"),
    **{f"c_{u}": (pa.time32 if u in {"s", "ms"} else pa.time64)(u) for u in UNITS},
    **{f"p_{u}": pa.duration(u) for u in UNITS},
}
INNER = pa.struct([("k", pa.dictionary(pa.int8(), pa.int32())), ("w", pa.binary(5))])
TYPES = {
    **MOMENTS,
    "i": pa.int32(),
    "l": pa.int64(),
    "m32": pa.decimal32(7, 2),
    "m64": pa.decimal64(15, 3),
    "m128": pa.decimal128(20, 2),
    "b": pa.binary(),
    "lb": pa.large_binary(),
    "vb": pa.binary_view(),
    "fb": pa.binary(5),
    "di": pa.dictionary(pa.uint8(), pa.int64()),
    "df": pa.dictionary(pa.int64(), pa.float64()),
    "dm": pa.dictionary(pa.int16(), pa.decimal128(9, 2)),
    "dd": pa.dictionary(pa.uint16(), pa.date32()),
    "dp": pa.dictionary(pa.int32(), pa.duration("ms")),
    "db": pa.dictionary(pa.uint32(), pa.binary()),
    "do": pa.dictionary(pa.int8(), pa.bool_()),
    "s": pa.struct(
        [("x", pa.int64()), ("y", pa.utf8()), ("v", pa.binary_view()), ("q", pa.timestamp("us")),
         ("m", pa.decimal32(5, 1)), ("o", pa.bool_()), ("r", INNER)]
    ),
}  # fmt: skip
SCHEMA = pa.schema(list(TYPES.items()))
BYTES = (b"", b"ab", b"\0\xff", b"abcde", b"long enough to lie outside of a view")


def array_of(t: pa.DataType, rng: np.random.Generator, rows: int, nulls: float) -> pa.Array:
    gone = rng.random(rows) < nulls
    if pa.types.is_struct(t):
        fields = [array_of(f.type, rng, rows, nulls) for f in t]
        return pa.StructArray.from_arrays(fields, fields=list(t), mask=pa.array(gone))
    if pa.types.is_dictionary(t):
        values = array_of(t.value_type, rng, 4, 0.0)
        codes = pa.array(rng.integers(0, 4, rows), t.index_type, mask=gone)
        return pa.DictionaryArray.from_arrays(codes, values)
    return pa.array([None if g else v for g, v in zip(gone, _values(t, rng, rows), strict=True)], t)


def _values(t: pa.DataType, rng: np.random.Generator, rows: int) -> list[object]:
    if pa.types.is_date(t):
        return [date.fromordinal(int(n)) for n in rng.integers(718_000, 720_000, rows)]
    if pa.types.is_time(t):
        return rng.integers(0, DAY_S * PER_S[t.unit], rows).tolist()
    if is_moment(t):
        most = 2**30 * PER_S[t.unit]
        return rng.integers(-most, most, rows).tolist()
    if pa.types.is_decimal(t):
        most = 10 ** min(t.precision, 18) - 1
        return [Decimal(int(n)).scaleb(-t.scale) for n in rng.integers(-most, most, rows)]
    if pa.types.is_boolean(t):
        return (rng.random(rows) < 0.5).tolist()
    if pa.types.is_string(t):
        return [f"{n}" * int(n) for n in rng.integers(0, 16, rows)]
    if pa.types.is_fixed_size_binary(t):
        return [bytes([int(n)]) * t.byte_width for n in rng.integers(97, 101, rows)]
    if pa.types.is_floating(t):
        return (rng.integers(-8, 9, rows) / 4).tolist()
    if pa.types.is_integer(t):
        return rng.integers(-9, 9, rows).tolist()
    return [BYTES[i] for i in rng.integers(0, len(BYTES), rows)]


@cache
def batch_of(rows: int, nulls: float, offset: int) -> pa.RecordBatch:
    rng = np.random.default_rng(rows)
    columns = [array_of(t, rng, rows + offset, nulls) for t in TYPES.values()]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA).slice(offset)


BATCHES = [batch_of(*shape) for shape in ((0, 0.0, 0), (70, 0.0, 3), (131, 0.3, 0), (66, 0.4, 9))]
FITS = {
    name: (-(2**31) * PER_S[u], 2**31 * PER_S[u])
    for name, t in MOMENTS.items()
    if (u := getattr(t, "unit", None)) and not pa.types.is_time(t)
} | {"d32": (-(10**5), 10**5), "d64": (-(10**5) * 86_400_000, 10**5 * 86_400_000)}


def images(array: pa.Array) -> list[object]:
    """Give values as Python can compare them: it has no nanoseconds."""
    if pa.types.is_struct(array.type):
        valid = array.is_valid().to_pylist()
        rows = zip(*map(images, fields_of(array)), strict=True)
        return [row if known else None for row, known in zip(rows, valid, strict=True)]
    array = countable(array)
    if is_moment(array.type):
        array = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return array.to_pylist()


def same(made: pa.RecordBatch, wanted: pa.RecordBatch) -> None:
    made.validate(full=True)
    assert made.schema.equals(wanted.schema)
    for name in made.schema.names:
        assert images(made.column(name)) == images(wanted.column(name)), name


def checked(*steps, bounds=None, native=True) -> None:
    """Compare a stage with the reference on every batch; `native`: nothing may be left to it."""
    stage, literals = lift(Stage(steps))
    made = render(stage, SCHEMA, bounds or {})
    assert bool(made.residuals) != native, made.residuals
    for batch in BATCHES:
        same(made.run(batch, literals, POOL).batch, run_reference(stage, batch, literals))


def rows(**outputs):
    return Rows(tuple((n, resolve(e.node, SCHEMA)) for n, e in outputs.items()))


DIFFERENCES = [
    *(pair for kind in "tpc" for pair in combinations([f"{kind}_{u}" for u in UNITS], 2)),
    *(("d32", "d64"), ("d32", "d32"), ("d64", "d64"), ("d32", "t_us"), ("t_s", "d64")),
    *(("z_s", "z_us"), ("z_us", "u_ms")),
]


@pytest.mark.parametrize("pair", DIFFERENCES, ids="-".join)
def test_differences_and_comparisons_of_times(pair):
    one, other = (col(name) for name in pair)
    checked(Pass(None, rows(d=one - other, e=other - one)), bounds=FITS)
    checked(Pass(resolve((one < other).node, SCHEMA), rows(x=one, y=other)), bounds=FITS)
    checked(Pass(None, rows(eq=one == other, ge=one >= other)), bounds=FITS)


@pytest.mark.parametrize("moment", [n for n in MOMENTS if n[0] in "dtzu"])
@pytest.mark.parametrize("unit", UNITS)
def test_durations_move_moments(moment, unit):
    one, by = col(moment), col(f"p_{unit}")
    checked(Pass(None, rows(a=one + by, b=one - by, c=by + one)), bounds=FITS)
    checked(Pass(None, rows(a=one + timedelta(days=3), b=one - timedelta(seconds=1))), bounds=FITS)


def test_arithmetic_of_durations():
    p, q = col("p_ms"), col("p_us")
    checked(Pass(None, rows(a=p + q, b=q - p, c=-p, d=p * 3, e=col("i") * q)), bounds=FITS)
    checked(Pass(None, rows(f=p / q, g=p / timedelta(hours=1))), bounds=FITS)
    calls = [resolve_call(x.sum().call, SCHEMA) for x in (p, q)]
    checked(Pass(None, Totals(tuple(zip("ab", calls, strict=True)))))


def castable_pairs():
    for name, source in TYPES.items():
        for to in {str(t): t for t in TYPES.values()}.values():
            try:
                resolve(Cast(col(name).node, to), SCHEMA)
            except InputError:
                continue
            if source != to:
                yield name, to


@pytest.mark.parametrize("name", TYPES)
def test_casts_among_all_types(name):
    """A cast gives what the reference gives, or an error where it does."""
    for source, to in castable_pairs():
        if source != name:
            continue
        stage, literals = lift(Stage((Pass(None, rows(x=col(name).cast(to))),)))
        for bounds in ({}, FITS):
            made = render(stage, SCHEMA, bounds)
            for batch in BATCHES:
                try:
                    wanted = run_reference(stage, batch, literals)
                except InputError:
                    with pytest.raises(InputError):
                        made.run(batch, literals, POOL)
                    continue
                same(made.run(batch, literals, POOL).batch, wanted)


NATIVE_CASTS = [
    *(("d32", pa.timestamp(u)) for u in UNITS),
    *(("t_ns", pa.timestamp(u)) for u in ("s", "ms", "us")),
    *(("t_s", pa.timestamp(u)) for u in ("ms", "us", "ns")),
    *(("t_us", t) for t in (pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"))),
    *(("c_s", pa.time64("us")), ("c_ns", pa.time32("ms")), ("p_s", pa.duration("ns"))),
    *(("p_us", pa.int64()), ("l", pa.duration("us")), ("d32", pa.int32()), ("d64", pa.date32())),
    *(("m32", pa.decimal128(20, 4)), ("m32", pa.float64()), ("i", pa.decimal64(15, 2))),
    *(("z_s", pa.timestamp("ms", "UTC")), ("di", pa.float64()), ("dd", pa.timestamp("s"))),
]


@pytest.mark.parametrize(("name", "to"), NATIVE_CASTS, ids=str)
def test_casts_that_bounds_prove_are_native(name, to):
    checked(Pass(None, rows(x=col(name).cast(to))), bounds=FITS | {"i": (-9, 9)})


def test_casts_without_bounds_are_left_to_pyarrow():
    checked(Pass(None, rows(x=col("d32").cast(pa.timestamp("ns")))), native=False)
    checked(Pass(None, rows(x=col("z_us").cast(pa.date32()))), native=False)


def test_parts_of_moments():
    parts = {
        f"{name}_{part}": getattr(col(name).dt, part)()
        for name in ("d32", "d64", *(f"t_{u}" for u in UNITS))
        for part in ("year", "month", "day")
    }
    checked(Pass(None, rows(**parts)))


@pytest.mark.parametrize("name", ["b", "lb", "vb", "fb"])
def test_bytes_are_compared(name):
    x = col(name)
    value = b"abcde" if name != "fb" else b"bbbbb"
    for test in (x == value, x != value, x < value, x >= value, x.is_in([value, b"ccccc"])):
        checked(Pass(resolve(test.node, SCHEMA), rows(x=x, t=test, n=x.is_null())))
    other = lit(b"ab") if name == "fb" else col("db")
    checked(Pass(resolve((x == other).node, SCHEMA), rows(x=x)), native=False)


def test_dictionaries_of_fixed_width_are_looked_up():
    tests = (
        col("di") > 0, col("df") <= 0.5, col("dm") == Decimal("1.00"), col("dd") > date(1970, 1, 1),
        col("dp") < timedelta(days=1), col("db") == b"ab", col("do"), ~col("do"),
        col("di").is_in([1, 2, 3]),
    )  # fmt: skip
    for test in tests:
        truth = resolve_condition(test.node, SCHEMA)
        checked(Pass(truth, rows(x=col("di"), y=col("db"), z=col("dm"))))
    checked(
        Pass(
            None,
            rows(
                y=col("dd").dt.year(),
                z=-col("df"),
                a=col("di") + col("i"),
                b=col("dm") * col("m32"),
                c=col("df") / 2,
            ),
        ),
        bounds={"i": (-9, 9)},
    )


FIELDS = {
    "x": col("s").struct.field("x"),
    "y": col("s").struct.field("y"),
    "v": col("s").struct.field("v"),
    "q": col("s").struct.field("q"),
    "m": col("s").struct.field("m"),
    "o": col("s").struct.field("o"),
    "k": col("s").struct.field("r").struct.field("k"),
    "w": col("s").struct.field("r").struct.field("w"),
}


def test_fields_of_structs_are_read_like_columns():
    checked(Pass(None, rows(**FIELDS)))
    tests = (
        FIELDS["x"] > 0, FIELDS["y"] == "11", FIELDS["y"].str.starts_with("1"), FIELDS["v"] > b"a",
        FIELDS["q"] < datetime(1990, 1, 1), FIELDS["m"] > Decimal("0.5"), FIELDS["k"] > 0,
        FIELDS["w"] == b"bbbbb", FIELDS["x"].is_null(), col("s").is_null(),
        col("s").struct.field("r").is_null(),
    )  # fmt: skip
    for test in tests:
        checked(Pass(resolve(test.node, SCHEMA), rows(s=col("s"), x=FIELDS["x"], t=test)))
    chosen = when(FIELDS["o"]).then(1).otherwise(2)
    checked(Pass(None, rows(a=FIELDS["x"] * 2 + col("l"), b=chosen)))


def test_what_fields_leave_to_pyarrow_is_named():
    stage, _ = lift(Stage((Pass(None, rows(t=FIELDS["y"].cast(pa.large_utf8()))),)))
    assert "s.y" in render(stage, SCHEMA, {}).residuals[0]
    checked(Pass(None, rows(t=FIELDS["y"].cast(pa.large_utf8()))), native=False)


REFUSED = [
    (col("s") == col("s"), "does not apply to"),
    (col("s").is_in([]), "ask its fields"),
    (col("s").struct.field("r") == pa.scalar({"k": 1, "w": None}, INNER), "cannot be a struct"),
    (col("s").struct.field("nope"), "no field 'nope'"),
    (col("i").struct.field("x"), "it has no fields"),
    (col("c_s") + col("p_s"), "does not apply to"),
    (col("t_s") - col("z_s"), "does not apply to"),
    (col("t_s") + col("t_s"), "does not apply to"),
    (col("p_s") * 1.5, "does not apply to"),
    (col("i").cast(pa.time32("s")), "cannot cast"),
    (col("s").cast(pa.int64()), "cannot cast"),
    (col("b").str.contains("x"), "needs text"),
    (when(col("do")).then(col("s")).otherwise(None), "between structs"),
    (lit(time(1, tzinfo=UTC)) == col("c_s"), "has none"),
    (lit(timedelta.max) == col("p_s"), "64 bits"),
]


@pytest.mark.parametrize(("expr", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_what_has_no_meaning_is_refused(expr, message):
    with pytest.raises(InputError, match=message):
        resolve(expr.node, SCHEMA)


def test_restored_dictionaries_keep_their_type():
    t = pa.dictionary(pa.int8(), pa.decimal32(4, 1), ordered=True)
    made = restored(pa.array([Decimal(1), None, Decimal(1)], pa.decimal128(4, 1)), t)
    assert made.type.equals(t)
    assert made.to_pylist() == [Decimal(1), None, Decimal(1)]


SECOND = {
    "d64": (col("d64") > date(2000, 1, 1), {"d64": [date(1999, 1, 1), date(2001, 1, 1)]}),
    "c_us": (col("c_us") < time(12), {"c_us": [time(13), time(11)]}),
    "p_ms": (col("p_ms") == timedelta(1), {"p_ms": [timedelta(2), timedelta(1)]}),
    "m32": (col("m32") <= 5, {"m32": [Decimal(6), Decimal(4)]}),
    "b": (col("b").is_in([b"x", b"y"]), {"b": [b"a", b"x"]}),
    "fb": (col("fb") >= b"bbbbb", {"fb": [b"aaaaa", b"ccccc"]}),
    "dd": (col("dd") != date(2000, 1, 1), {"dd": [date(2000, 1, 1), date(1999, 1, 1)]}),
}


@pytest.mark.parametrize("name", SECOND)
def test_statistics_leave_out_batches_of_the_new_types(name):
    """Of two batches only the second can hold an answer, and it does."""
    predicate, values = SECOND[name]
    arrays = [restored(pa.array([v], value_type(TYPES[name])), TYPES[name]) for v in values[name]]
    table = pa.Table.from_batches([pa.record_batch({name: a}) for a in arrays])
    query = scan(table).filter(predicate)
    prepared = prepare(query.source, query.operators, query.schema)
    assert [ref.batch for ref in prepared.chunks] == [1]
    assert images(query.collect().column(name).combine_chunks()) == images(arrays[1])


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_statistics_prove_that_moments_fit(system):
    table = pa.table({name: BATCHES[1].column(name) for name in ("d32", "t_s", "p_ns")})
    query = scan(table).select(
        ns=col("d32").cast(pa.timestamp("ns")), later=col("t_s") + col("p_ns")
    )
    result = query.run(system)
    assert {e.residuals for e in result.evidence if e.rows_in} == {()}
    wanted = [o.reference(table) for o in query.operators][-1]
    for name in ("ns", "later"):
        assert images(result.table.column(name).combine_chunks()) == images(
            wanted.column(name).combine_chunks()
        )


def test_a_struct_and_its_fields_pass_through_by_reference():
    table = pa.table({"s": BATCHES[1].column("s")})
    result = scan(table).select(s=col("s"), x=FIELDS["x"], y=FIELDS["y"]).run()
    assert result.ledger.copied_bytes == 0
    assert result.table.column("s").combine_chunks().equals(table.column("s").combine_chunks())


def test_files_hold_the_new_types(tmp_path):
    """Read back from a file and a stream, in batches; dictionaries of a file are one."""
    keep = [name for name in TYPES if name != "s"]
    table = pa.Table.from_batches([BATCHES[2]]).select([*keep, "s"])
    for opened in (pa.ipc.new_file, pa.ipc.new_stream):
        path = tmp_path / opened.__name__
        with opened(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
        found = scan(path).filter(col("c_s") >= time(6)).sort("p_us").collect()
        wanted = scan(table).filter(col("c_s") >= time(6)).sort("p_us").collect()
        same(whole(found), whole(wanted))


def whole(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


@pytest.mark.parametrize("width", [0, 1, 3, 4, 8, 12, 16])
def test_bytes_of_any_width_are_compared(width):
    schema = pa.schema([("w", pa.binary(width)), ("n", pa.int64())])
    rng = np.random.default_rng(width)
    values = [bytes([97 + int(n)]) * width for n in rng.integers(0, 4, 333)]
    column = pa.array([None if n % 7 == 0 else v for n, v in enumerate(values)], pa.binary(width))
    batch = pa.record_batch([column, pa.array(range(333))], schema=schema).slice(5)
    w, wanted = col("w"), b"b" * width
    for test in (w == wanted, w != wanted, w < wanted, w >= wanted, w.is_in([wanted, wanted])):
        outputs = Rows(tuple((n, resolve(col(n).node, schema)) for n in schema.names))
        stage, literals = lift(Stage((Pass(resolve(test.node, schema), outputs),)))
        made = render(stage, schema, {})
        assert not made.residuals
        same(made.run(batch, literals, POOL).batch, run_reference(stage, batch, literals))


@pytest.mark.parametrize("key", ["vb", "di", "m32", "p_us", "c_s", "d64"])
def test_shards_by_the_new_types_are_found_again(key, tmp_path):
    table = pa.Table.from_batches([BATCHES[2]])
    write_shards(table, tmp_path / "shards", ShardScheme("hash", key, 3))
    values = table[key].to_pylist()
    wanted = next(v for v in values if v is not None)
    found = scan(tmp_path / "shards").route(key, wanted)
    assert len(found.collect()) == values.count(wanted)
    by_row = scan(table).select(key).route(key, shards=3).collect()
    assert by_row["shard"].to_pylist() == sorted(by_row["shard"].to_pylist())


@pytest.mark.parametrize("value", [(1 << 62), -(1 << 62)])
def test_moments_that_python_has_no_date_for_are_queried(value):
    moments = pa.array([0, value, 5], pa.int64()).view(pa.timestamp("us"))
    query = scan(pa.table({"t": moments, "x": [1, 2, 3]}))
    found = query.filter(col("t") >= datetime(1970, 1, 1)).select("x").collect()
    assert found["x"].to_pylist() == ([1, 2, 3] if value > 0 else [1, 3])
    assert query.group_by("t").agg(n=count()).collect().num_rows == 3
