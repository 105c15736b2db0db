"""Batches in a device's memory, put there without a program."""

from threading import RLock

import numpy as np
import pyarrow as pa

from wherry.render.cuda.columns import DeviceColumn
from wherry.run.capsules import Memory, Texts
from wherry.run.device_table import DeviceArray, DeviceBatch, Lender

ALIGNED = 256


def lying(device, batch, lock=None):
    """Give a copy of a batch on a device: all columns in one block, dictionaries in others."""
    parts, end = [], 0

    def part(buffer):
        nonlocal end
        begin = end
        data = np.frombuffer(buffer, np.uint8) if buffer.size else np.zeros(0, np.uint8)
        parts.append((begin, data))
        end += -(-data.size // ALIGNED) * ALIGNED
        return begin

    places = []
    for column in batch.columns:
        # From where bytes begin, as programs write them.
        stored = column.indices if pa.types.is_dictionary(column.type) else column
        stored = pa.concat_arrays([stored.slice(0, 0), stored])
        valid, values = stored.buffers()[:2]
        places.append((None if valid is None else part(valid), part(values)))
    whole = np.zeros(max(end, ALIGNED), np.uint8)
    for begin, data in parts:
        whole[begin : begin + data.size] = data
    block, ready, lender = device.put(whole), device.launched(), Lender(device, lock or RLock())
    memory = Memory(device.kind, device.lent(block), ready)
    columns = []
    for field, column, (valid, values) in zip(batch.schema, batch.columns, places, strict=True):
        at = DeviceColumn(
            field.type,
            batch.num_rows,
            valid is not None,
            values=block.address + values,
            valid=0 if valid is None else block.address + valid,
        )
        texts = None
        if pa.types.is_dictionary(field.type):
            texts = _texts(device, column.dictionary)
        columns.append(DeviceArray(field.name, at, memory, texts, lender))
    return DeviceBatch(batch.schema, tuple(columns), memory, lender)


def _texts(device, array):
    blocks = [
        device.put(np.frombuffer(b, np.uint8)) if b is not None and b.size else None
        for b in array.buffers()
    ]
    places = tuple(0 if block is None else block.address for block in blocks)
    memory = [Memory(device.kind, device.lent(b), device.launched()) for b in blocks if b]
    return Texts(array, places, tuple(memory))
