"""Chunks run on a device whose answer stays there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.data.ledger import Ledger, LedgerEntry
from wherry.devices.accelerator import Accelerator, Block
from wherry.render.cuda.left import Left, begin_leaving
from wherry.run.capsules import Memory, Texts
from wherry.run.device_table import DeviceArray, DeviceBatch, DeviceTable, Lender
from wherry.run.on_device import Asked, Card, Loaded, Running, in_some_way

_STAGE: Final = 0
"""There is only one."""


def leave_chunks(card: Card, asked: Asked) -> DeviceTable:
    """Give what a stage makes of chunks, which does not leave the device.

    Parameters
    ----------
    asked : Asked
        Its stage is one pass that gives rows, all of whose columns the device writes.

    Raises
    ------
    InputError
        If a value cannot be computed, or dictionaries of a column have too many values together.
    Retryable
        If the device has no room for the answer and a few cells of the columns.
    """
    return in_some_way(card, asked, lambda running: _left(card, asked, running))


def _left(card: Card, asked: Asked, running: Running) -> DeviceTable:
    device, schema = card.device, asked.stage.output
    found = [left for share, _ in running.shares(begin_leaving) for left in share.finish()]
    # Of dictionaries that grew, the last begins as all others do.
    known = [column.dictionary for column in found[-1].columns] if found else []
    put = [None if array is None else _put(device, array) for array in known]
    ready, lender = device.launched(), Lender(device, card.held.lock)

    def lent(block: Block) -> Memory:
        return Memory(device.kind, device.lent(block), ready)

    texts = [
        None if array is None or blocks is None else _texts(array, blocks, lent)
        for array, blocks in zip(known, put, strict=True)
    ]
    batches = tuple(_batch(schema, left, texts, lent(left.block), lender) for left in found)
    entries = [
        *Loaded(device.name, running.evidence).whys,
        (f"dictionaries put onto {device.name}", sum(_nbytes(blocks) for blocks in put)),
        (f"written on {device.name}, and left there", sum(batch.nbytes for batch in batches)),
    ]
    return DeviceTable(
        schema,
        batches,
        device.name,
        Ledger(tuple(LedgerEntry(_STAGE, device.name, 0, n, why) for why, n in entries if n)),
    )


Blocks = list[Block | None]
"""Of each buffer of an array, if it has that."""


def _put(device: Accelerator, array: pa.Array) -> Blocks:
    """Give copies of the buffers of an array, whole."""
    return [
        None if buffer is None or not buffer.size else device.put(np.frombuffer(buffer, np.uint8))
        for buffer in array.buffers()
    ]


def _nbytes(blocks: Blocks | None) -> int:
    return sum(block.nbytes for block in blocks or () if block is not None)


def _texts(array: pa.Array, blocks: Blocks, lent: Callable[[Block], Memory]) -> Texts:
    places = tuple(0 if block is None else block.address for block in blocks)
    return Texts(array, places, tuple(lent(block) for block in blocks if block is not None))


def _batch(
    schema: pa.Schema, left: Left, texts: Sequence[Texts | None], memory: Memory, lender: Lender
) -> DeviceBatch:
    columns = tuple(
        DeviceArray(name, replace(column, dictionary=None, blocks=()), memory, words, lender)
        for name, column, words in zip(schema.names, left.columns, texts, strict=True)
    )
    return DeviceBatch(schema, columns, memory, lender)
