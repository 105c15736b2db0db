"""Shards: the function is by value, and files say which shard they are."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc

from wherry.base.errors import InputError
from wherry.data.shard_files import write_shards
from wherry.data.sharding import ShardScheme, mix64, shard_of, shard_of_value
from wherry.data.source import column_bounds, open_source

HASH = ShardScheme("hash", "k", 5)
KEYS = [
    pa.array([-1, 0, None, 7, 2**31 - 1] * 9, pa.int32()),
    pa.array([2**64 - 1, 0, None], pa.uint64()),
    pa.array([True, False, None]),
    pa.array([Decimal("-1.25"), None, Decimal(10) ** 20], pa.decimal128(30, 2)),
    pa.array([dt.date(1994, 1, 1), None, dt.date(1969, 1, 1)]),
    pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("ms", "UTC")),
    pa.array(["a", "", None, "é" * 20]),
    pa.array(["a", "", None, "é" * 20], pa.large_utf8()),
    pa.array(["a", "", None, "é" * 20], pa.string_view()),
    pa.array(["a", "", None, "é" * 20]).dictionary_encode(),
]


def _tables(path):
    source = open_source(path)
    names = source.schema.names
    tables = [[] for _ in range(source.fragments)]
    for ref in source.chunks():
        tables[ref.fragment].append(source.read(ref, names))
    return [pa.Table.from_batches(batches, source.schema) for batches in tables]


def test_mix64_is_splitmix64s_finaliser():
    # First output of splitmix64 seeded with 0 (Vigna's splitmix64.c): the mix of its increment.
    assert mix64(np.array([0x9E3779B97F4A7C15], np.uint64))[0] == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: str(keys.type))
def test_one_value_and_a_column_agree(keys):
    whole = shard_of(keys, HASH)
    assert whole.dtype == np.int32
    assert [shard_of_value(v, keys.type, HASH) for v in keys.to_pylist()] == whole.tolist()
    assert shard_of(keys.slice(1), HASH).tolist() == whole[1:].tolist()
    assert set(whole[keys.is_null().to_numpy(zero_copy_only=False)].tolist()) == {0}


def test_the_image_depends_on_the_value_alone():
    numbers = [-3, 0, 99]
    assert len({tuple(shard_of(pa.array(numbers, t), HASH)) for t in (pa.int8(), pa.int64())}) == 1
    texts = {str(k.type): tuple(shard_of(k, HASH)) for k in KEYS[-4:]}
    assert len(set(texts.values())) == 1


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()), st.integers(1, 300))
def test_hash_spreads_and_stays_in_range(values, count):
    shards = shard_of(pa.array(values, pa.int64()), ShardScheme("hash", "k", count))
    assert all(0 <= s < count for s in shards)
    even = shard_of(pa.array(np.arange(0, 64_000, 64)), ShardScheme("hash", "k", 4))
    assert np.bincount(even, minlength=4).min() > 150


@given(
    st.lists(st.integers(-50, 50) | st.none(), max_size=40),
    st.lists(st.integers(-40, 40), unique=True, max_size=5).map(sorted),
)
def test_range_is_searchsorted_on_the_right(values, bounds):
    scheme = ShardScheme("range", "k", len(bounds) + 1, tuple(bounds))
    wanted = [0 if v is None else int(np.searchsorted(bounds, v, side="right")) for v in values]
    assert shard_of(pa.array(values, pa.int16()), scheme).tolist() == wanted
    assert [shard_of_value(v, pa.int16(), scheme) for v in values] == wanted


def test_range_of_other_types():
    days = ShardScheme("range", "k", 2, (dt.date(1994, 1, 1),))
    assert shard_of(pa.array([dt.date(1993, 12, 31), dt.date(1994, 1, 1)]), days).tolist() == [0, 1]
    for t in (pa.utf8(), pa.string_view(), pa.dictionary(pa.int8(), pa.utf8())):
        texts = ShardScheme("range", "k", 3, ("b", "m"))
        assert shard_of(pa.array(["a", "b", None, "z"], t), texts).tolist() == [0, 1, 0, 2]
    floats = ShardScheme("range", "k", 2, (0.5,))
    assert shard_of(pa.array([float("nan"), 0.5, 0.4]), floats).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("modulo", "k", 2), "by 'hash' or 'range', not by 'modulo'"),
        (("hash", "k", 0), "at least 1 shard, not 0"),
        (("hash", "k", 2, (1,)), "2 shards by hash need 0 bounds, not 1"),
        (("range", "k", 3, (1,)), "3 shards by range need 2 bounds, not 1"),
        (("range", "k", 3, (2, 2)), "bounds must ascend: 2, 2"),
        (("range", "k", 2, (float("inf"),)), "bounds must be finite"),
    ],
)
def test_schemes_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ShardScheme(*arguments)


def test_values_that_cannot_be_keys_are_refused():
    with pytest.raises(InputError, match="cannot be sharded by hash of a double column"):
        shard_of(pa.array([1.0]), HASH)
    with pytest.raises(InputError, match="'x' cannot be of the key's type int64"):
        shard_of_value("x", pa.int64(), HASH)


def _orders(rows=1000):
    keys = np.random.default_rng(3).integers(0, 200, rows)
    return pa.table(
        {
            "k": pa.array(keys),
            "row": pa.array(np.arange(rows)),
            "s": pa.array([f"c{i % 9}" for i in keys]).dictionary_encode(),
            "v": pa.array([f"a text of some length {i}" for i in keys], pa.string_view()),
        },
        metadata={"made": "by hand"},
    )


def test_shards_round_trip(tmp_path):
    table = pa.concat_tables([_orders(), _orders(10)])
    paths = write_shards(table, tmp_path / "orders", HASH, sort_by="k", batch_rows=64)
    assert [p.name for p in paths] == [f"shard-{i:02}.arrow" for i in range(5)]
    source = open_source(tmp_path / "orders")
    assert source.shards == HASH
    assert source.schema.equals(table.schema, check_metadata=True)
    assert max(ref.rows for ref in source.chunks()) == 64
    shards = _tables(tmp_path / "orders")
    for index, shard in enumerate(shards):
        assert set(shard_of(shard["k"].combine_chunks(), HASH).tolist()) == {index}
        assert shard["k"].to_pylist() == sorted(shard["k"].to_pylist())
        assert shard.schema.metadata == {b"made": b"by hand"}
    rows = [row for shard in shards for row in shard.to_pylist()]
    assert sorted(rows, key=str) == sorted(table.to_pylist(), key=str)
    assert column_bounds(source, ["k"])["k"].max == max(table["k"].to_pylist())


@pytest.mark.parametrize(
    ("keys", "bounds"),
    [
        (pa.array([1, None, 20]), (10,)),
        (pa.array(["a", None, "z"]), ("m",)),
        (pa.array([Decimal("0.10"), None, Decimal("9.99")]), (Decimal(5),)),
        (pa.array([0.1, None, 99.0]), (10,)),
        (pa.array([dt.date(1990, 1, 1), None, dt.date(2000, 1, 1)]), (dt.date(1995, 1, 1),)),
        (pa.array([0, None, 2**50], pa.timestamp("us")), (dt.datetime(1995, 1, 1),)),
    ],
    ids=lambda x: str(x.type) if isinstance(x, pa.Array) else "",
)
def test_range_shards_round_trip(tmp_path, keys, bounds):
    scheme = ShardScheme("range", "k", 2, bounds)
    write_shards(pa.table({"k": keys}), tmp_path, scheme)
    low, high = _tables(tmp_path)
    assert low["k"].to_pylist() == keys.to_pylist()[:2]
    assert high["k"].to_pylist() == keys.to_pylist()[2:]
    found = open_source(tmp_path).shards
    again = shard_of(keys, found)
    assert (found.by, found.key, found.count) == ("range", "k", 2)
    assert again.tolist() == [0, 0, 1]


def test_rows_keep_their_order_without_sort_by(tmp_path):
    write_shards(_orders(), tmp_path, HASH)
    for shard in _tables(tmp_path):
        assert shard["row"].to_pylist() == sorted(shard["row"].to_pylist())


def test_incomplete_sets_are_refused(tmp_path):
    paths = write_shards(_orders(), tmp_path, HASH)
    assert open_source(paths[1]).shards is None
    assert open_source(list(reversed(paths))).shards is None
    assert open_source(list(paths)).shards == HASH
    with pytest.raises(InputError, match="holds shards already"):
        write_shards(_orders(), tmp_path, HASH)
    paths[3].rename(tmp_path / "shard-99.arrow")
    with pytest.raises(InputError, match=r"shards 0 to 4 of one set .* hold: 0, 1, 2, 4, 3"):
        open_source(tmp_path)
    (tmp_path / "shard-99.arrow").unlink()
    with pytest.raises(InputError, match="hold: 0, 1, 2, 4"):
        open_source(tmp_path)
    with ipc.new_file(tmp_path / "shard-00.arrow", _orders().schema) as writer:
        writer.write_table(_orders())
    with pytest.raises(InputError, match="hold: none, 1, 2, 4"):
        open_source(tmp_path)


def test_spoilt_records_are_refused(tmp_path):
    for record, message in [(b"{", "cannot be read"), (_record("x"), "by 'x', which is no column")]:
        schema = pa.schema([("k", pa.int64())], {b"wherry.shard": record})
        path = tmp_path / "shard-00.arrow"
        with ipc.new_file(path, schema) as writer:
            writer.write_table(pa.table({"k": [1]}).replace_schema_metadata(schema.metadata))
        with pytest.raises(InputError, match=message):
            open_source(path)


def _record(key):
    return f'{{"by":"hash","key":"{key}","count":1,"bounds":[],"index":0}}'.encode()


def test_unknown_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match="no column 'k'"):
        write_shards(pa.table({"kk": [1]}), tmp_path, HASH)
    with pytest.raises(InputError, match="no column 'rwo'; did you mean 'row'"):
        write_shards(_orders(), tmp_path, HASH, sort_by="rwo")
    assert list(tmp_path.iterdir()) == []
