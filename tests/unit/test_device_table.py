"""Batches in a device's memory as others take them: by Arrow's device interface, and by DLPack.

The stand-in's memory is the host's, so that pyarrow and numpy really read what is handed to them.
"""

import mmap
from decimal import Decimal
from threading import RLock
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunks import batch_of
from support.cuda_shim import ShimDevice
from support.lying import lying

from wherry.base.errors import InputError
from wherry.render.cuda.columns import DeviceColumn
from wherry.run import capsules
from wherry.run.capsules import Memory
from wherry.run.device_table import DeviceArray, Lender
from wherry.run.device_tensor import NotExported

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
INTEGERS += [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
NUMBERS = [*INTEGERS, pa.float16(), pa.float32(), pa.float64()]
OTHERS = [
    pa.bool_(), pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns"), pa.duration("s"),
    pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.decimal128(9, 2), pa.decimal128(38, 5),
    pa.dictionary(pa.int8(), pa.utf8()), pa.dictionary(pa.int32(), pa.large_utf8(), True),
    pa.dictionary(pa.uint16(), pa.int64()),
]  # fmt: skip
TEXTS = ["", "a", "wherry", "ü" * 40]


@st.composite
def arrays(draw, t):
    """Give a column of a type, perhaps a slice, of random bits where a type allows any."""
    rows, before = draw(st.integers(1, 200)), draw(st.integers(0, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    mask = rng.random(rows + before) < share
    if pa.types.is_dictionary(t):
        texts = pa.array(TEXTS if t.value_type != pa.int64() else [3, None, 2**40], t.value_type)
        codes = pa.array(rng.integers(0, len(texts), rows + before), t.index_type, mask=mask)
        found = pa.DictionaryArray.from_arrays(codes, texts, ordered=t.ordered)
    elif pa.types.is_decimal(t):
        values = [Decimal(int(n)).scaleb(-t.scale) for n in rng.integers(-9999, 9999, len(mask))]
        found = pa.array([None if m else v for v, m in zip(values, mask, strict=True)], t)
    elif pa.types.is_boolean(t):
        found = pa.array(rng.random(len(mask)) < 0.5, t, mask=mask)
    else:
        width = t.bit_width // 8
        stored = rng.integers(0, 100, len(mask)).astype(f"i{width}")
        if t == pa.date64():
            stored *= 86_400_000
        if pa.types.is_floating(t):
            stored = (stored / 4).astype(t.to_pandas_dtype())
            found = pa.array(stored, t, mask=mask)
        else:
            integers = pa.array(stored, pa.from_numpy_dtype(stored.dtype), mask=mask)
            found = pa.Array.from_buffers(t, len(mask), integers.buffers())
    return found.slice(before)


@st.composite
def batches(draw):
    types = draw(st.lists(st.sampled_from([*NUMBERS, *OTHERS]), min_size=1, max_size=5))
    columns = [draw(arrays(t)) for t in types]
    rows = min(map(len, columns))
    columns = [column.slice(0, rows) for column in columns]
    return pa.RecordBatch.from_arrays(columns, names=[f"x{n}" for n in range(len(columns))])


@given(batches())
@settings(max_examples=150, deadline=None)
def test_what_pyarrow_takes_is_what_lies_there(batch):
    device = ShimDevice()
    there = lying(device, batch)
    assert there.to_arrow().equals(batch)
    taken = [pa.record_batch(there) for _ in range(2)]
    columns = [pa.array(column) for column in there.columns]
    addresses = [column.buffers()[1].address for column in taken[0].columns]
    assert addresses == [column.column.values for column in there.columns]
    for column, found in zip(there.columns, columns, strict=True):
        assert column.texts is None or found.dictionary.buffers()[1].address in column.texts.places
    assert device.taken > 0
    del there, column
    for found in taken:
        found.validate(full=True)
        assert found.equals(batch)
        assert [c.null_count for c in found.columns] == [c.null_count for c in batch.columns]
    for number, found in enumerate(columns):
        assert found.equals(batch.column(number))
    del taken, columns, found
    assert device.taken == 0


@given(st.sampled_from(NUMBERS).flatmap(arrays))
@settings(max_examples=100, deadline=None)
def test_what_numpy_takes_is_what_lies_there(array):
    device = ShimDevice()
    there = lying(device, pa.record_batch([array], names=["x"])).column("x")
    if array.null_count:
        with pytest.raises(BufferError, match=rf"{array.null_count} of its values are null"):
            np.from_dlpack(there)
        bits = np.unpackbits(np.from_dlpack(there.validity), bitorder="little")[: len(array)]
        assert bits.tolist() == array.is_valid().to_pylist()
        found = np.from_dlpack(there.stored)
        assert found[bits == 1].tolist() == array.drop_null().to_pylist()
    else:
        found = np.from_dlpack(there)
        assert found.tolist() == array.to_pylist()
        bits = None
    assert found.dtype == array.type.to_pandas_dtype()
    assert found.ctypes.data == there.column.values
    del there
    assert device.taken > 0
    del found, bits
    assert device.taken == 0


CASES = [
    (pa.bool_(), "truths are bits; possible: `.stored`, eight in a byte"),
    (pa.date32(), "date32.* is no dtype; possible: `.stored`, as int32"),
    (pa.timestamp("us"), "`.stored`, as int64"),
    (pa.decimal128(9, 2), "unscaled, as int64; or a cast to float64"),
    (pa.dictionary(pa.int8(), pa.utf8()), "its codes, as int8"),
]


@pytest.mark.parametrize(("t", "said"), CASES)
def test_what_is_no_tensor_says_what_is_possible(t, said):
    column = batch_of(300, 0.0, 1).column({str(v): k for k, v in named().items()}[str(t)])
    there = lying(ShimDevice(), pa.record_batch([column], names=["x"])).column("x")
    with pytest.raises(NotExported, match=f"column 'x' has no tensor: .*{said}"):
        np.from_dlpack(there)
    stored = np.from_dlpack(there.stored)
    if pa.types.is_boolean(t):
        bits = np.unpackbits(stored, bitorder="little")[:300]
        assert bits.tolist() == column.to_pylist()
    elif pa.types.is_decimal(t):
        unscaled = [int(value.scaleb(2)) for value in column.to_pylist()]
        assert stored[::2].tolist() == unscaled
        assert stored[1::2].tolist() == [-(value < 0) for value in unscaled]
    else:
        plain = column.indices if pa.types.is_dictionary(t) else column
        assert stored.tolist() == plain.view(pa.from_numpy_dtype(stored.dtype)).to_pylist()


def named():
    return {field.name: field.type for field in batch_of(300, 0.0, 1).schema}


@pytest.fixture
def device():
    return ShimDevice()


@pytest.fixture
def there(device):
    batch = batch_of(1000, 0.3, 5).select(["i8", "f64", "b", "c"])
    return lying(device, batch)


def test_capsules_that_nobody_takes_keep_nothing(device):
    there = lying(device, batch_of(1000, 0.3, 5).select(["i8", "c"]))
    capsules = [there.__arrow_c_device_array__() for _ in range(3)]
    capsules += [column.__arrow_c_device_array__() for column in there.columns]
    tensors = [column.stored.__dlpack__() for column in there.columns]
    del there
    assert device.taken > 0
    del capsules, tensors
    assert device.taken == 0


def test_a_capsule_is_taken_once(there):
    schema, array = there.__arrow_c_device_array__()
    wanted = there.to_arrow()
    assert pa.RecordBatch._import_from_c_device_capsule(schema, array).equals(wanted)
    with pytest.raises(ValueError, match="released"):
        pa.RecordBatch._import_from_c_device_capsule(*there.__arrow_c_device_array__()[:1], array)
    capsule = there.column("i8").stored.__dlpack__()
    holder = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0))
    np.from_dlpack(holder)
    with pytest.raises(ValueError, match="incorrect name"):
        np.from_dlpack(holder)


def test_schemas_that_are_asked_for(there):
    wanted = there.to_arrow()
    for schema in (None, there.schema.__arrow_c_schema__()):
        made = there.__arrow_c_device_array__(requested_schema=schema)
        assert pa.RecordBatch._import_from_c_device_capsule(*made).equals(wanted)
    other = there.schema.set(0, pa.field("i8", pa.int64()))
    with pytest.raises(NotExported, match="cast it in the pipeline"):
        there.__arrow_c_device_array__(other.__arrow_c_schema__())
    column = there.column("i8")
    assert pa.array(column, pa.int8()).equals(wanted.column("i8"))
    with pytest.raises(NotExported, match="column 'i8' is int8, not int64"):
        pa.array(column, pa.int64())
    for thing in (there, column):
        with pytest.raises(NotImplementedError, match="and not other"):
            thing.__arrow_c_device_array__(None, other=1, none=None)


def test_what_is_asked_of_tensors(there):
    stored = there.column("f64").stored
    assert (stored.shape, len(stored), stored.nbytes) == ((1000,), 1000, 8000)
    assert stored.__dlpack_device__() == there.column("f64").__dlpack_device__() == (1, 0)
    for asked in ({"copy": False}, {"dl_device": (1, 0)}, {"max_version": (1, 1)}):
        stored.__dlpack__(**asked)
    for asked, said in (
        ({"copy": True}, "a copy of values"),
        ({"dl_device": (2, 0)}, r"on device \(1, 0\) were asked for on device \(2, 0\)"),
        ({"stream": 1}, "stream is 1 for memory of the host"),
    ):
        with pytest.raises(NotExported, match=said):
            stored.__dlpack__(**asked)
    with pytest.raises(InputError, match="no column 'f6'; did you mean 'f64'"):
        there.column("f6")


def test_bytes_are_counted(there):
    assert [column.nbytes for column in there.columns] == [1125, 8125, 250, 1125]
    assert there.nbytes == 10625


class FarDevice:
    """A device whose memory nobody here may touch; it has 3 nulls in every column."""

    kind = 2, 1

    def get(self, address, nbytes):
        bits = np.full(nbytes, 255, np.uint8)
        bits[0] = 0b11111000
        return bits


class FarEvent(SimpleNamespace):
    handle = 0x5EED


@pytest.fixture
def far():
    memory = mmap.mmap(-1, 64 * mmap.PAGESIZE, prot=0)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    yield address
    memory.seek(0)  # until here nobody lets go of it


@pytest.mark.parametrize("t", [*NUMBERS, *OTHERS], ids=str)
def test_memory_of_a_card_is_not_touched(t, far):
    device, texts = FarDevice(), None
    block = SimpleNamespace(address=far, nbytes=1 << 14)
    memory = Memory(device.kind, block, FarEvent())
    if pa.types.is_dictionary(t):
        known = pa.array(TEXTS if t.value_type != pa.int64() else [3, None, 2**40], t.value_type)
        buffers = known.buffers()
        places = tuple(0 if b is None else far + 64 * n for n, b in enumerate(buffers, 1))
        texts = capsules.Texts(known, places, (memory,))
    column = DeviceColumn(t, 500, True, values=far, valid=far + 4096)
    lender = Lender(device, RLock())
    one = DeviceArray("x", column, memory, texts, lender)
    schema, capsule = one.__arrow_c_device_array__()
    found = capsules._ArrowDeviceArray.from_address(
        capsules._pointer(capsule, b"arrow_device_array")
    )
    assert (found.device_type, found.device_id, found.sync_event) == (2, 1, 0x5EED)
    array = found.array
    assert (array.length, array.null_count, array.offset) == (500, 3, 0)
    assert [array.buffers[n] for n in range(array.n_buffers)] == [far + 4096, far]
    if texts is not None:
        inner = array.dictionary.contents
        assert tuple(inner.buffers[n] or 0 for n in range(inner.n_buffers)) == texts.places
    # The wheels of pyarrow know no cards: they say so, and the capsule is let go of.
    with pytest.raises(pa.ArrowKeyError, match="Device type 2"):
        pa.Array._import_from_c_device_capsule(schema, capsule)
    tensor = one.stored.__dlpack__(stream=-1)
    made = capsules._DLTensor.from_address(capsules._pointer(tensor, b"dltensor"))
    assert (made.data, made.device_type, made.device_id) == (far, 2, 1)
