"""Memory of a CUDA card that others read on streams of theirs: what waits for what.

The stand-in for cupy does nothing before somebody waits for it, and then no more than that needs.
"""

import ctypes
import threading

import numpy as np
import pyarrow as pa
import pytest
from support import fake_cupy
from support.lying import lying

from wherry.run import capsules
from wherry.run.device_tensor import NotExported

VALUES = np.arange(1000, dtype=np.int64)
GONE = np.full(1000, 7, np.int64)


@pytest.fixture
def cupy(monkeypatch):
    return fake_cupy.install(monkeypatch)


@pytest.fixture
def device(cupy):
    """Give the card with number 1."""
    return fake_cupy.card()


def put(device, values=VALUES):
    return lying(device, pa.record_batch([pa.array(values)], names=["x"]))


def lies(address):
    """Give what lies there now, whatever was asked for."""
    return np.frombuffer(ctypes.string_at(address, 8000), np.int64)


@pytest.fixture
def there(cupy, device):
    made = put(device)
    assert not np.array_equal(lies(made.memory.block.address), VALUES)
    # Elsewhere this thread is busy with another card.
    cupy.choose(0)
    yield made
    assert cupy.chosen() == 0


def default(cupy):
    """Give the default stream of card 1."""
    return cupy.streams[1, 1]


@pytest.mark.parametrize("asked", [None, 1])
def test_the_default_stream_waits(cupy, there, asked):
    column = there.column("x")
    assert column.__dlpack_device__() == (2, 1)
    capsule = column.__dlpack__(stream=asked)
    address = there.memory.block.address
    assert not np.array_equal(lies(address), VALUES)
    default(cupy).carry_out()
    assert np.array_equal(lies(address), VALUES)
    found = capsules._DLTensor.from_address(capsules._pointer(capsule, b"dltensor"))
    assert (found.data, found.device_type, found.device_id) == (address, 2, 1)


def test_a_stream_of_the_consumer_waits(cupy, there):
    cupy.choose(1)
    stream = fake_cupy.Stream(cupy, True)
    cupy.choose(0)
    there.column("x").__dlpack__(stream=stream.ptr)
    stream.carry_out()
    assert np.array_equal(lies(there.memory.block.address), VALUES)


def test_nobody_waits_if_that_is_asked_for(cupy, there):
    there.column("x").__dlpack__(stream=-1)
    assert (1, 1) not in cupy.streams


@pytest.mark.parametrize("stream", [0, -2, True, "1"])
def test_streams_that_there_are_not(there, stream):
    with pytest.raises(NotExported, match=f"stream is {stream!r}; possible: None or 1"):
        there.column("x").__dlpack__(stream=stream)


def test_the_event_of_an_array_is_waited_for(cupy, there):
    _, capsule = there.__arrow_c_device_array__()
    found = capsules._ArrowDeviceArray.from_address(
        capsules._pointer(capsule, b"arrow_device_array")
    )
    assert (found.device_type, found.device_id) == (2, 1)
    event = ctypes.c_void_p.from_address(found.sync_event).value
    cupy.choose(1)
    cupy.events[event].synchronize()
    cupy.choose(0)
    assert np.array_equal(lies(there.memory.block.address), VALUES)
    # It is there as long as what it is the event of.
    del there
    assert event in cupy.events


def test_what_pyarrow_does_not_take_is_let_go_of(cupy, device):
    made = put(device)
    event = ctypes.c_void_p.from_address(made.memory.ready.handle).value
    schema, capsule = made.__arrow_c_device_array__()
    with pytest.raises(pa.ArrowKeyError, match="Device type 2"):
        pa.record_batch(made)
    with pytest.raises(pa.ArrowKeyError, match="Device type 2"):
        pa.RecordBatch._import_from_c_device_capsule(schema, capsule)
    del made, schema
    assert event in cupy.events
    del capsule
    assert event not in cupy.events


@pytest.mark.parametrize("thread", [False, True])
def test_memory_is_used_anew_once_others_have_read_it(cupy, device, thread):
    made = put(device)
    address = made.memory.block.address
    holder = [made.column("x").__dlpack__()]
    del made
    seen = []
    cupy.choose(1)
    default(cupy).ask(lambda: seen.append(lies(address)))
    cupy.choose(0)
    if thread:
        letting_go = threading.Thread(target=holder.clear)
        letting_go.start()
        letting_go.join()
    else:
        holder.clear()
    assert cupy.chosen() == 0
    again = put(device, GONE)
    assert again.memory.block.address == address
    # The card runs ahead of whoever asked for the default stream's work.
    assert np.array_equal(np.frombuffer(device.get(address, 8000), np.int64), GONE)
    assert np.array_equal(seen[0], VALUES)


def test_memory_of_a_card_that_failed_is_let_go_of(cupy, device):
    made = put(device)
    cupy.failing["record"] = 0
    del made
    cupy.failing.clear()
    assert np.array_equal(put(device, GONE).to_arrow().column(0), pa.array(GONE))
