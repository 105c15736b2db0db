"""The sound queries that mutants of plans begin with: every operator, step and expression."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache

import pyarrow as pa

import wherry as wh
from wherry import col, lit, when
from wherry.data.source import Source
from wherry.ir.build import Build, build_of
from wherry.ir.builder import count
from wherry.ops.operator import Declared
from wherry.pipeline import Pipeline
from wherry.plan.joins import with_builds
from wherry.plan.query import Query, prepare

_ROWS = 150


@wh.kernel
def tilted(x: float, by: int) -> float:
    """Give x, halved above 2."""
    if x > 2:
        return x * 0.5 + by
    return x + by


@cache
def table() -> pa.Table:
    """Give rows of every family of types, nulls among them, in batches that no block fills."""
    plain: dict[str, tuple[pa.DataType, list[object]]] = {
        "i": (pa.int64(), [5, None, -7, 3, 12]),
        "k": (pa.int32(), [3, 1, 4, 1, 5, 9, 2, 6]),
        "a": (pa.int64(), [40, 1 << 40, -3, 900, 1 << 20, -(1 << 35), 7]),
        "j": (pa.int8(), [1, 2, None, 3, 100]),
        "u": (pa.uint16(), [0, 7, 65_000]),
        "f": (pa.float64(), [1.5, float("nan"), None, -0.0, 3.25]),
        "g": (pa.float32(), [0.5, 2.0, -1.25]),
        "s": (pa.utf8(), ["", "near", None, "a text that is longer than a view", "data"]),
        "w": (pa.large_utf8(), ["p", "q", "rr"]),
        "v": (pa.string_view(), ["near", "an even longer text than that", ""]),
        "b": (pa.bool_(), [True, None, False]),
        "d": (pa.date32(), [date(1994, 1, 1), None, date(2020, 2, 29)]),
        "t": (pa.timestamp("us", "UTC"), [datetime(2020, 5, 17, tzinfo=UTC), None]),
        "n": (pa.timestamp("ns"), [datetime(2001, 5, 17, 3), datetime(1969, 1, 1)]),
        "c": (pa.time32("s"), [time(3, 4, 5), None]),
        "p": (pa.duration("ms"), [timedelta(seconds=3), timedelta(days=-1)]),
        "m": (pa.decimal128(9, 2), [Decimal("12.34"), None, Decimal("-0.01"), Decimal("99.99")]),
        "l": (pa.decimal128(30, 4), [Decimal("1234567890123.5"), Decimal(-1), None]),
        "x": (pa.binary(3), [b"abc", None, b"\0\0\1"]),
        "z": (pa.binary(), [b"", b"near", None]),
        "r": (pa.struct([("a", pa.int32()), ("s", pa.utf8())]), [{"a": 1, "s": "x"}, None]),
    }
    columns = {
        name: pa.array([values[row % len(values)] for row in range(_ROWS)], t)
        for name, (t, values) in plain.items()
    }
    columns["e"] = columns["s"].dictionary_encode()
    columns["h"] = columns["k"].dictionary_encode()
    columns["row"] = pa.array(range(_ROWS), pa.int64())
    whole = pa.table(columns).combine_chunks()
    return pa.Table.from_batches(whole.to_batches(max_chunksize=90))


@cache
def source() -> Source:
    """Give the table as what a device stores."""
    return wh.scan(table()).source


@cache
def queries() -> tuple[Query, ...]:
    """Give the queries, placed nowhere yet, with the rows of their joins at hand."""
    return tuple(_prepared(make(wh.scan(source()))) for make in _PIPELINES)


def _prepared(pipeline: Pipeline) -> Query:
    ready = with_builds(pipeline, _built)
    return prepare(ready.source, ready.operators, ready.schema)


def _built(side: Declared, keys: int) -> Build:
    return build_of(Pipeline(side.source, side.operators, side.schema).collect(), keys)


def _other() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([1, 2, 3, 3, 9], pa.int32()),
            "word": pa.array(["near", "data", "data", None, ""], pa.utf8()),
            "far": pa.array([1 << 40, 5, -7, 12, 3], pa.int64()),
            "said": pa.array([1.5, None, 2.5, 3.5, 4.5]),
            "kind": pa.array(["a", "b", None, "a", "b"]).dictionary_encode(),
        }
    )


_PIPELINES: tuple[Callable[[Pipeline], Pipeline], ...] = (
    lambda q: q.filter(col("i") > 3, col("k") < 6).select("i", "s", total=col("i") * col("k") + 1),
    lambda q: q.filter((col("s") == "near") | col("v").str.contains("long")).select("s", "v", "w"),
    lambda q: q.filter(col("e").is_in(["near", "data"])).select("e", "h", size=col("m") * col("m")),
    lambda q: q.select(a=col("m") * col("m") * col("m"), b=col("l") + col("m"), c=col("m") - 1),
    lambda q: q.select(a=col("m").cast(pa.float64()), b=col("i") / col("k"), c=-col("j")),
    lambda q: q.select(a=col("k").cast(pa.int8()), b=col("i").cast(pa.decimal128(20, 2)), s="s"),
    lambda q: q.select(y=col("d").dt.year(), m=col("t").dt.month(), d=col("n").dt.day()),
    lambda q: q.select(a=col("d") - date(1990, 1, 1), b=col("n") + timedelta(days=3), c="p"),
    lambda q: q.select(a=col("n").cast(pa.date32()), b=col("d").cast(pa.timestamp("ms")), c="c"),
    lambda q: q.select(a=when(col("i") > 0).then(col("k")).otherwise(lit(None)), b=col("b") & True),
    lambda q: q.select(a=when(col("f") > 1).then("yes").otherwise(col("s")), b=col("i").is_null()),
    lambda q: q.select(a=tilted(col("f"), 3), b=tilted(col("k"), 1) > 2),
    lambda q: q.filter(~(col("r").struct.field("a") == 1)).select(x=col("r").struct.field("s")),
    lambda q: q.filter(col("x") == b"abc", col("z") != b"near").select("x", "z", "r"),
    lambda q: q.filter(col("i").is_in([5, -7, 12])).select("i", "u", "g"),
    lambda q: q.filter(col("h") > 3, col("d") >= date(1995, 1, 1)).select("h", "d", "n", "t"),
    lambda q: q.group_by("k").agg(n=count(), s=col("i").sum(), f=col("f").sum(), m=col("m").min()),
    lambda q: q.group_by("s").agg(
        n=count(), hi=col("s").max(), a=col("i").mean(), l=col("l").sum()
    ),
    lambda q: q.group_by("e", "b").agg(n=count(), v=col("f").var(), first=col("s").first()),
    lambda q: q.group_by("d", "j").agg(last=col("k").last(), lo=col("b").min(), w=col("w").count()),
    lambda q: q.group_by(y=col("d").dt.year(), z=col("z")).agg(m=col("m").sum(), p=col("p").sum()),
    lambda q: q.group_by("row").agg(s=col("k").sum()).top_k(5, by="row"),
    lambda q: q.group_by("u", "h").agg(x=(col("i") * 2).max(), d=col("v").count_distinct()),
    lambda q: q.agg(n=count(), s=(col("m") * col("m")).sum(), a=col("f").mean(), x=col("d").max()),
    lambda q: q.filter(col("k") > 2).agg(v=col("g").std(), t=col("t").min(), f=col("s").first()),
    lambda q: q.distinct("e", "k"),
    lambda q: q.sort("s", "k", descending=[True, False]).select("s", "k", "f"),
    lambda q: q.select("row", "f", "d").top_k(7, by=("f", "row")),
    lambda q: q.filter(col("i") > 0).limit(11).select("i", "e", "r"),
    lambda q: q.route("k", shards=3).select("shard", "k", "s"),
    lambda q: q.select("d", "row").route("d", bounds=[date(1995, 1, 1), date(2010, 1, 1)]),
    lambda q: q.join(wh.scan(_other()), left_on="k", right_on="id").select("k", "word", "said"),
    lambda q: q.join(wh.scan(_other()), left_on="s", right_on="word", how="left"),
    lambda q: q.join(wh.scan(_other()), left_on="i", right_on="far", how="semi").select("i", "row"),
    lambda q: q.join(wh.scan(_other()), left_on=("k", "s"), right_on=("id", "word"), how="anti"),
    lambda q: (
        q.join(wh.scan(_other()), left_on="i", right_on="far").group_by("kind").agg(n=count())
    ),
    lambda q: q.select("i", "s", "m").respond(),
    lambda q: q.select(a=col("l") * col("m"), b=col("l") + col("l"), row="row"),
    lambda q: q.filter(col("l") * col("m") > 5).agg(
        s=(col("l") * col("m")).sum(), m=col("l").max()
    ),
    lambda q: q.group_by("k").agg(s=(col("l") * col("m")).sum(), t=col("l").sum(), n=count()),
    lambda q: q.select(a=(col("a") - 5).cast(pa.decimal128(16, 2)), b=col("a") * 3),
    lambda q: q.filter(col("l") > 10**17).agg(s=(col("l") * col("m")).sum()),
    lambda q: q.group_by("a").agg(n=count(), s=col("a").sum()).top_k(9, by="n"),
    lambda q: q.group_by("j").agg(n=count()).sort("j").filter(col("n") > 2).select(z=col("n") + 1),
    lambda q: q.select("k", "i", "m").with_columns(y=col("k") * 3).filter(col("y") > 5).limit(90),
)
