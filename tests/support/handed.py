"""Batches of every type to hand to other processes, and where the memory of batches lies."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
from support.wild import SCHEMA, stored_values

from wherry.data.chunk import buffer_addresses
from wherry.data.segment import SegmentPool

DEEP = pa.struct([("a", SCHEMA.field(len(SCHEMA) - 1).type), ("v", pa.string_view())])
ALL = SCHEMA.append(pa.field("deep", DEEP)).append(pa.field("fixed", pa.binary(5)))


def array_of(t: pa.DataType, rows: int, draw: Random, nulls: float) -> pa.Array:
    gone = np.array([draw.random() < nulls for _ in range(rows)], bool)
    if pa.types.is_struct(t):
        fields = [array_of(f.type, rows, draw, nulls) for f in t]
        mask = pa.array(gone) if nulls else None
        return pa.StructArray.from_arrays(fields, fields=list(t), mask=mask)
    if pa.types.is_dictionary(t):
        values = array_of(t.value_type, 5, draw, 0.0)
        codes = np.array([draw.randrange(5) for _ in range(rows)], np.int8)
        indices = pa.array(codes, mask=gone if nulls else None).cast(t.index_type)
        return pa.DictionaryArray.from_arrays(indices, values)
    possible = [value for value in stored_values(t) if value == value]  # NaN equals nothing
    return pa.array([None if g else draw.choice(possible) for g in gone], t)


def batch_of(
    rows: int, *, nulls: float = 0.0, seed: int = 1, schema: pa.Schema = ALL
) -> pa.RecordBatch:
    draw = Random(seed)
    columns = [array_of(field.type, rows, draw, nulls) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def numbers(pool: SegmentPool, rows: int, start: int = 0) -> pa.RecordBatch:
    """Give two columns of 8 bytes, written in segments."""
    first, second = pool.allocate(8 * rows), pool.allocate(8 * rows)
    np.frombuffer(first, np.int64)[:] = np.arange(start, start + rows)
    np.frombuffer(second, np.float64)[:] = np.arange(start, start + rows) / 2
    columns = [
        pa.Array.from_buffers(pa.int64(), rows, [None, first]),
        pa.Array.from_buffers(pa.float64(), rows, [None, second]),
    ]
    return pa.record_batch(columns, ["n", "half"])


def mapped_lines(name: str) -> list[str]:
    """Give the lines of this process's memory map that name `name`."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if name in line]


def all_inside(batches: Iterable[pa.RecordBatch], lines: Sequence[str]) -> bool:
    """Say whether every byte of batches lies in the given lines of the memory map."""
    spans = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in lines]
    return all(
        any(low <= address and address + size <= high for low, high in spans)
        for batch in batches
        for address, size in buffer_addresses(batch)
    )


def descriptors() -> int:
    """Give how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
