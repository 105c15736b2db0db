"""Columns of several arrays as the bytes of one: read back, they are the arrays put together."""

import ctypes

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.data.assemble import assembled, can_assemble, extent_of
from wherry.data.types import layout_of

TYPES = [
    pa.int8(), pa.uint16(), pa.date32(), pa.float64(), pa.decimal128(30, 2), pa.bool_(), pa.utf8(),
    pa.large_binary(), pa.binary(3),
]  # fmt: skip


def values(t):
    if pa.types.is_boolean(t):
        return st.booleans()
    if pa.types.is_string(t):
        return st.text(max_size=5)
    if layout_of(t) == "wide":
        return st.binary(max_size=5)
    if pa.types.is_fixed_size_binary(t) and not pa.types.is_decimal(t):
        return st.binary(min_size=3, max_size=3)
    return st.integers(0, 100)


def bytes_of(spans):
    return b"".join(ctypes.string_at(span.address, span.nbytes) for span in spans)


def read_back(t, found):
    parts = [None if found.valid is None else found.valid, found.values]
    parts += [found.data] if layout_of(t) in {"narrow", "wide"} else []
    buffers = [None if part is None else pa.py_buffer(bytes_of(part)) for part in parts]
    return pa.Array.from_buffers(t, found.rows, buffers)


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("t", TYPES, ids=str)
def test_arrays_are_put_together(t, data):
    arrays = []
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.lists(st.none() | values(t), max_size=20))
        whole = pa.array(rows, pa.int64()).cast(t) if pa.types.is_decimal(t) else pa.array(rows, t)
        begin = data.draw(st.integers(0, len(whole)))
        arrays.append(whole.slice(begin, data.draw(st.integers(0, len(whole) - begin))))
    found = assembled(arrays)
    assert (found.valid is None) == (not any(array.null_count for array in arrays))
    extent = extent_of(arrays, nulls=found.valid is not None)
    sizes = [len(bytes_of(part or ())) for part in (found.values, found.valid, found.data)]
    assert [extent.values, extent.valid, extent.data] == sizes
    made = read_back(t, found)
    made.validate(full=True)
    assert made.equals(pa.concat_arrays(arrays))


def test_values_of_one_buffer_are_one_span():
    whole = pa.array(np.arange(1000))
    found = assembled([whole.slice(0, 300), whole.slice(300, 700)])
    assert [span.nbytes for span in found.values] == [8000]
    assert found.values[0].address == whole.buffers()[1].address
    assert found.nbytes == 8000


def test_views_are_not_assembled():
    assert not can_assemble(pa.string_view())
    with pytest.raises(TypeError, match="string_view is not assembled"):
        assembled([pa.array(["a"], pa.string_view())])
