"""The first rows in key order are what sorting all of them gives, whatever the key's type."""

from decimal import Decimal
from itertools import pairwise
from threading import Thread

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given

from wherry.ir.stage import SortKey
from wherry.render import top_k
from wherry.render.reference import order_of
from wherry.render.team import alone, new_counter

TYPES = {
    **{str(t): t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(t): t for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(t): t for t in (pa.float32(), pa.float64(), pa.date32(), pa.timestamp("us"))},
}
FLOATS = (0.0, -0.0, 1.5, -2.5, float("inf"), float("-inf"), float("nan"))


def values_of(t):
    if pa.types.is_floating(t):
        return st.sampled_from(FLOATS)
    signed = not pa.types.is_unsigned_integer(t)
    ends = (-(1 << t.bit_width - 1), (1 << t.bit_width - 1) - 1)
    low, high = ends if signed else (0, (1 << t.bit_width) - 1)
    return st.sampled_from((low, high, 0, 1, 2)) | st.integers(max(low, -3), 3)


def array_of(values, t):
    integers = pa.types.is_date(t) or pa.types.is_timestamp(t)
    made = pa.array(values, pa.int32() if t.bit_width == 32 else pa.int64()) if integers else None
    return pa.array(values, t) if made is None else made.view(t)


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_first_rows_equal_sorted_rows(name, data):
    t = TYPES[name]
    some = data.draw(st.lists(values_of(t) | st.none(), min_size=1, max_size=12))
    rows, skipped = data.draw(st.integers(0, 400)), data.draw(st.integers(0, 9))
    step = data.draw(st.integers(1, 7))
    values = [some[i * step // 3 % len(some)] for i in range(rows + skipped)]
    array = array_of(values, t).slice(skipped)
    batch = pa.record_batch([array, pa.array(np.arange(rows) % 5)], names=["a", "b"])
    count, descending = data.draw(st.integers(1, 40)), data.draw(st.booleans())
    for by in ((SortKey("a", descending),), (SortKey("a", descending), SortKey("b", True))):
        found = list(top_k.first_places(by, batch, count))
        assert found == order_of(by, batch)[:count].to_pylist()


def candidates(array, key, count, *, ties):
    return top_k.candidates(top_k.keys_of([array]), key, count, alone, ties=ties)


def test_a_decimal_of_more_than_64_bits_is_sorted_instead():
    small = [Decimal(i % 97) for i in range(1000)]
    by, names = (SortKey("a", True),), ["a"]
    for at in (0, 500, 999):
        values = [*small[:at], Decimal(10) ** 30, *small[at:]]
        array = pa.array(values, pa.decimal128(38, 0))
        batch = pa.record_batch([array], names=names)
        assert top_k.first_places(by, batch, 3)[0] == at
        assert candidates(array, by[0], 3, ties=False) is None
    exact = pa.array(small, pa.decimal128(38, 0))
    assert candidates(exact, by[0], 3, ties=False) is not None


def test_more_ties_than_room_are_sorted_instead():
    equal = pa.array(np.zeros(20_000))
    assert candidates(equal, SortKey("a", True), 3, ties=True) is None
    assert candidates(equal, SortKey("a", True), 3, ties=False).tolist() == [0, 1, 2]


def test_rows_with_the_smallest_word_of_all_end_the_search():
    least = pa.array(np.full(5000, -(1 << 63)))
    assert candidates(least, SortKey("a", False), 4, ties=False).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("descending", [False, True])
@given(data=st.data())
def test_threads_find_the_first_rows_of_many_chunks_together(descending, data):
    values = data.draw(st.lists(st.integers(-3, 3) | st.none(), min_size=40, max_size=400))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    array, count = pa.array(values, pa.int64()), data.draw(st.integers(1, 9))
    edges = [0, *cuts, len(values)]
    chunks = [array[a:b] for a, b in pairwise(edges)]
    key = SortKey("a", descending)
    assume(array.null_count + count <= len(values))

    def team(work):
        counter = new_counter()
        threads = [Thread(target=work, args=(int(counter.ctypes.data),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = top_k.candidates(top_k.keys_of(chunks), key, count, team, ties=False)
    first = order_of((key,), pa.record_batch([array], names=["a"]))[:count]
    assert found.tolist() == sorted(first.to_pylist())
