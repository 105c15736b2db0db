"""Memory of devices for others: the capsules of Arrow's device interface and of DLPack.

pyarrow and numpy make the capsules, of arrays at a device's addresses that nobody here reads. What
is changed in them is which device it is, and where dictionaries lie. So it is not Python that is
called when they are let go of: that may be where an error is on its way, or where Python has ended.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.devices.accelerator import Block, Event

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _ArrowArray(ctypes.Structure):
    pass


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset")),
    *((name, ctypes.c_int64) for name in ("n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.POINTER(_ArrowArray)),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]


class _ArrowDeviceArray(ctypes.Structure):
    _fields_ = [
        ("array", _ArrowArray),
        ("device_id", ctypes.c_int64),
        ("device_type", ctypes.c_int32),
        ("sync_event", ctypes.c_void_p),
        ("reserved", ctypes.c_int64 * 3),
    ]


class _DLTensor(ctypes.Structure):
    """What a capsule of DLPack begins with."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
    ]


class Memory(Struct, frozen=True, eq=False):
    """What others keep for as long as they read a device's memory.

    Attributes
    ----------
    kind : tuple of int
        The type of device, and which of these it is.
    block : Block
        Lent.
    ready : Event
        From when on there is in it what others are to read.
    """

    kind: tuple[int, int]
    block: Block
    ready: Event


class Texts(Struct, frozen=True, eq=False):
    """A dictionary on the host and in a device's memory.

    Attributes
    ----------
    places : tuple of int
        The address on the device of each of its buffers.
    memory : tuple of Memory
        What keeps them there.
    """

    array: pa.Array
    places: tuple[int, ...]
    memory: tuple[Memory, ...]


def buffer_at(address: int, nbytes: int, memory: object) -> pa.Buffer:
    """Give memory of a device as a buffer, which may be handed on and not be read."""
    return pa.foreign_buffer(address, nbytes, memory)


def kept_by(texts: Texts) -> pa.Array:
    """Give a dictionary of the host that keeps the device's with each of its buffers."""
    array = texts.array
    buffers = [
        None if b is None else pa.foreign_buffer(b.address, b.size, (b, texts.memory))
        for b in array.buffers()
    ]
    counts = len(array), buffers, array.null_count, array.offset
    return pa.Array.from_buffers(array.type, *counts)


def device_array(
    made: pa.Array | pa.RecordBatch, memory: Memory, texts: Sequence[Texts | None]
) -> tuple[object, object]:
    """Give the capsules of a schema and of an array on a device.

    Parameters
    ----------
    made : Array or RecordBatch
        Of buffers on the device, with null counts that are known, and dictionaries of the host.
    texts : sequence of Texts or None
        Of each column, or of the array, the dictionary.
    """
    schema, capsule = made.__arrow_c_device_array__()
    found = _ArrowDeviceArray.from_address(_pointer(capsule, b"arrow_device_array"))
    found.device_type, found.device_id = memory.kind
    found.sync_event = memory.ready.handle or None
    array = found.array
    columns = [array.children[number].contents for number in range(array.n_children)]
    for column, known in zip(columns or [array], texts, strict=True):
        if known is not None:
            _move(column.dictionary.contents, known.places)
    return schema, capsule


def _move(array: _ArrowArray, places: Sequence[int]) -> None:
    """Say where the buffers of an array lie instead."""
    assert array.n_buffers == len(places)
    for number, place in enumerate(places):
        if place:
            array.buffers[number] = place


class _Values(Struct, frozen=True, eq=False):
    """What numpy makes an array of that lies where this says."""

    memory: object
    __array_interface__: dict[str, Any]


def tensor(address: int, rows: int, dtype: np.dtype[Any], memory: Memory) -> object:
    """Give the capsule of a tensor of one dimension on a device."""
    interface = {"data": (address, False), "shape": (rows,), "typestr": dtype.str, "version": 3}
    capsule = np.asarray(_Values(memory, interface)).__dlpack__()
    found = _DLTensor.from_address(_pointer(capsule, b"dltensor"))
    found.device_type, found.device_id = memory.kind
    return capsule
