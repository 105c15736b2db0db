"""Keys of groups at their edges: how many groups, how many keys, what counts as equal."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import wherry as wh
from wherry import col

SYSTEMS = ["this-machine", "dpu-csd-host"]
NAN = float("nan")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("groups", [1, 1023, 1024, 1025, 100_000])
def test_any_number_of_groups(groups, system):
    keys = np.concatenate([np.arange(groups), np.arange(groups)[::-1]])
    table = pa.table({"k": keys, "x": np.arange(2 * groups)})
    batches = table.to_batches(max_chunksize=max(1, groups // 3))
    made = wh.scan(pa.Table.from_batches(batches)).group_by("k").agg(s=col("x").sum())
    found = made.collect(system).to_pydict()
    assert found == {"k": list(range(groups)), "s": [2 * groups - 1] * groups}


def test_more_nullable_keys_than_a_word_has_bits():
    constant = {f"k{i}": [1, 1, 1, 1] for i in range(66)}
    table = pa.table({**constant, "y": [0, None, 0, None], "z": [0, 0, None, 0]})
    made = wh.scan(table).group_by(*table.column_names).agg(n=wh.count()).collect()
    assert made.select(["k65", "y", "z", "n"]).to_pylist() == [
        {"k65": 1, "y": 0, "z": 0, "n": 1},
        {"k65": 1, "y": None, "z": 0, "n": 2},
        {"k65": 1, "y": 0, "z": None, "n": 1},
    ]


@pytest.mark.parametrize("system", SYSTEMS)
def test_keys_that_are_equal_meet_over_chunks(system):
    chunks = [
        ([0.0, NAN, None], ["a", "b", None]),
        ([-0.0, -NAN, None], ["b", "a", None]),
        ([0.0, NAN, 1.0], ["a", "b", "c"]),
    ]
    batches = [
        pa.record_batch({"f": pa.array(f), "d": pa.array(d).dictionary_encode()}) for f, d in chunks
    ]
    query = wh.scan(pa.Table.from_batches(batches))
    floats = query.group_by("f").agg(n=wh.count()).collect(system).to_pydict()
    assert [str(abs(f)) if f is not None else f for f in floats["f"]] == ["0.0", "nan", None, "1.0"]
    assert floats["n"] == [3, 3, 2, 1]
    texts = query.group_by("d").agg(n=wh.count()).collect(system).to_pylist()
    assert texts == [
        {"d": "a", "n": 3},
        {"d": "b", "n": 3},
        {"d": None, "n": 2},
        {"d": "c", "n": 1},
    ]
