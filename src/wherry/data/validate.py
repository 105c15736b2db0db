"""Looking at stored bytes once, so that everything after may trust them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wherry.base.errors import CorruptError, InputError
from wherry.data.arrays import dictionaries_of, leaves
from wherry.data.chunk import INLINE_VIEW_BYTES
from wherry.data.types import layout_of, value_type


def check_column(field: pa.Field, array: pa.Array, label: str) -> None:
    """Look at every value of `array` that a kernel would trust: offsets, indices, text, nulls.

    Views are looked at under nulls too, because pyarrow reads them there. An index of a dictionary
    under a null is not: it may be anything, and who reads it must look at the validity first.

    Raises
    ------
    CorruptError
        When the buffers do not hold what the type promises, naming `label` and the column.
    InputError
        When a dictionary holds a null: such a row is null although its validity bit is set.
    """
    try:
        array.validate(full=True)
    except pa.ArrowException as error:
        raise CorruptError(f"{label}: column {field.name!r} is corrupt: {error}") from error
    if not all(_views_lie_inside(a) for a in leaves(array) if layout_of(a.type) == "views"):
        raise CorruptError(f"{label}: column {field.name!r} is corrupt: a view under a null")
    if array.null_count and not field.nullable:
        raise CorruptError(f"{label}: column {field.name!r} is not nullable but has nulls")
    if any(values.null_count for values in dictionaries_of(array)):
        raise InputError(f"{label}: the dictionary of column {field.name!r} holds a null")


def check_lengths(batch: pa.RecordBatch, label: str) -> None:
    """Look at what a batch says of itself, not at its values: names, lengths, sizes of buffers."""
    try:
        batch.validate()
        for field in batch.schema:
            _read_names(field)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CorruptError(f"{label} is corrupt: {error}") from error


def check_batch(batch: pa.RecordBatch, label: str) -> None:
    """Apply `check_column` to every column of `batch`, after the lengths of the columns."""
    check_lengths(batch, label)
    for field, array in zip(batch.schema, batch.columns, strict=True):
        check_column(field, array, label)


def _read_names(field: pa.Field) -> None:
    """Read every name of a field: pyarrow makes text of them only when they are asked for."""
    t = value_type(field.type)
    _ = field.name, getattr(t, "tz", None)
    for child in t if pa.types.is_struct(t) else ():
        _read_names(child)


def _views_lie_inside(array: pa.Array) -> bool:
    """Say whether every view, also one under a null, points into the array's own data."""
    _, stored, *data = array.buffers()
    end = array.offset + len(array)
    views = np.frombuffer(stored, np.int32, 4 * end).reshape(-1, 4)[array.offset :]
    outside = views[views[:, 0] > INLINE_VIEW_BYTES].astype(np.int64)
    sizes = np.array([0, *(buffer.size for buffer in data)])
    known = (outside[:, 2] >= 0) & (outside[:, 2] < len(data))
    ends = outside[:, 3] + outside[:, 0]
    inside = (outside[:, 3] >= 0) & (ends <= sizes[np.where(known, outside[:, 2] + 1, 0)])
    return bool((views[:, 0] >= 0).all() and (known & inside).all())
