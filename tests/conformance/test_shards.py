"""Shards by block functions are those of `wherry.data.sharding`, for every type of key."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

import wherry as wh
from wherry.data.sharding import ShardScheme, shard_of
from wherry.render.program import Program
from wherry.session import Options, run

VALUES = {
    "int8": (pa.int8(), [-128, 127, 0, 5], [-3, 0, 9]),
    "int64": (pa.int64(), [-(1 << 63), (1 << 63) - 1, -1, 0, 77], [-5, 0, 1 << 40]),
    "uint16": (pa.uint16(), [0, 65535, 9], [3, 1000]),
    "uint64": (pa.uint64(), [0, (1 << 64) - 1, 1 << 63], [5, 1 << 63]),
    "bool": (pa.bool_(), [True, False], None),
    "date32": (pa.date32(), [date(1970, 1, 1), date(1995, 5, 5)], [date(1990, 1, 1)]),
    "timestamp": (pa.timestamp("us"), [datetime(1960, 1, 1), datetime(2020, 1, 1)], None),
    "narrow": (pa.decimal128(12, 2), [Decimal("-1.50"), Decimal("99.99")], None),
    "wide": (pa.decimal128(38, 0), [Decimal(10) ** 30, Decimal(-(10**30)), Decimal(3)], None),
}


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_rows_go_to_their_shards(name, nulls):
    t, values, bounds = VALUES[name]
    keys = pa.array([*values * 40, *[None] * (3 * nulls), *values], t).slice(2)
    ways = [{"shards": 16}, {"shards": 7}, {"shards": 1}]
    for way in [*ways, *([] if bounds is None else [{"bounds": bounds}])]:
        query = wh.scan(pa.table({"k": keys})).route("k", **way)
        found = run(query, options=Options()).table
        limits = tuple(way.get("bounds", ()))
        by, count = ("range", len(limits) + 1) if limits else ("hash", way["shards"])
        wanted = shard_of(keys, ShardScheme(by, "k", count, limits))
        assert sorted(wanted.tolist()) == found["shard"].to_pylist()
        again = shard_of(found["k"].combine_chunks(), ShardScheme(by, "k", count, limits))
        assert again.tolist() == found["shard"].to_pylist()


def test_no_shard_of_a_number_goes_through_pyarrow(monkeypatch):
    seen = []
    kept = Program.__init__

    def noted(self, *arguments):
        kept(self, *arguments)
        seen.extend(self.residuals)

    monkeypatch.setattr(Program, "__init__", noted)
    wh.scan(pa.table({"k": [1, 2, 3]})).route("k", shards=1000).collect()
    assert not [reason for reason in seen if "shard" in reason]
    wh.scan(pa.table({"k": ["a", "b"]})).route("k", shards=1000).collect()
    assert [reason for reason in seen if "shards of text" in reason]


@pytest.mark.parametrize("rows", [0, 1, 100, 70_000])
@pytest.mark.parametrize("chunks", [1, 3])
def test_shards_are_tables_of_their_rows(rows, chunks):
    table = pa.table(
        {"k": pa.array(range(rows), pa.int64()), "v": pa.array(range(rows), pa.int32())}
    )
    batches = table.to_batches(max_chunksize=max(1, -(-rows // chunks)))
    query = wh.scan(pa.Table.from_batches(batches, table.schema)).route("k", shards=5)
    found = query.collect_shards()
    wanted = shard_of(table["k"].combine_chunks(), ShardScheme("hash", "k", 5))
    for shard, part in enumerate(found):
        assert part.schema.names == ["k", "v"]
        assert part["k"].to_pylist() == [i for i in range(rows) if wanted[i] == shard]
    emulated = query.run("dpu-csd-host").table
    assert emulated["k"].to_pylist() == [k for part in found for k in part["k"].to_pylist()]
    with pytest.raises(wh.InputError, match="collect_shards needs route"):
        wh.scan(table).limit(1).collect_shards()


COLUMNS = {
    "i8": pa.array([-1, 0, 1, 127], pa.int8()),
    "i16": pa.array([-1, 0, 1, 300], pa.int16()),
    "f32": pa.array([-0.0, 1.5, float("nan"), 3e30], pa.float32()),
    "i64": pa.array([-1, 0, 1, 1 << 40], pa.int64()),
    "d128": pa.array([Decimal(-1), Decimal(10) ** 30, Decimal(0), Decimal(7)], pa.decimal128(38)),
    "code": pa.array(["x", "yy", "x", "z"]).dictionary_encode(),
    "view": pa.array(["a text longer than a view", "", "b", "c"], pa.string_view()),
    "text": pa.array(["a", "", "bcd", "e"]),
    "bool": pa.array([True, False, True, True]),
    "null": pa.array([1, None, 3, None], pa.int32()),
    "struct": pa.array([{"a": 1}, None, {"a": 3}, {"a": None}]),
}


def wide_table(rows, names):
    """Give so many rows, each with a key of its own and values that depend on its number."""
    values = {name: COLUMNS[name].to_pylist() for name in names}
    made = {
        name: pa.array([some[i * 7 % 4] for i in range(rows)], COLUMNS[name].type)
        for name, some in values.items()
    }
    keys = pa.array([i * i for i in range(rows)], pa.int64())
    return pa.table({"k": keys, "m": pa.array([i % 10 for i in range(rows)], pa.int8()), **made})


FIXED = ["i8", "i16", "f32", "i64", "d128"]


@pytest.mark.parametrize("names", [FIXED, FIXED[:1], [], [*COLUMNS]], ids=len)
@pytest.mark.parametrize("shards", [1, 16, 33, 4096])
@pytest.mark.parametrize("rows", [0, 1, 15, 64, 3333])
def test_every_row_is_in_its_bucket_in_stored_order(rows, shards, names):
    table = wide_table(rows, names).slice(min(rows, 3))
    batches = table.to_batches(max_chunksize=731)
    source = wh.scan(pa.Table.from_batches(batches, table.schema))
    numbers = shard_of(table["k"].combine_chunks(), ShardScheme("hash", "k", shards)).tolist()
    given = [(*row.values(), n) for row, n in zip(table.to_pylist(), numbers, strict=True)]
    for kept in (10, 1, 7):
        query = source if kept == 10 else source.filter(wh.col("m") < kept)
        found = query.route("k", shards=shards).collect()
        assert found.schema.names == [*table.schema.names, "shard"]
        passed = [row for row in given if row[1] < kept]
        wanted = sorted(passed, key=lambda row: row[-1])
        # As text, because NaN equals nothing and 0.0 and -0.0 are equal.
        assert list(map(repr, wanted)) == [repr((*row.values(),)) for row in found.to_pylist()]


def test_rows_of_all_chunks_are_dealt_once_and_each_shard_lies_whole():
    table = wide_table(30_000, FIXED)
    batches = table.to_batches(max_chunksize=777)
    query = wh.scan(pa.Table.from_batches(batches, table.schema)).route("k", shards=16)
    result = query.run()
    assert all(part.column("k").num_chunks == 1 for part in query.collect_shards())
    assert result.ledger.copied_bytes == 30_000 * (8 + 1 + 1 + 2 + 4 + 8 + 16 + 4)
