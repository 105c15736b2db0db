"""An answer in the memory of the device that made it, for libraries that read it there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import unknown_name
from wherry.data.ledger import Ledger
from wherry.devices.accelerator import Accelerator
from wherry.render.cuda.columns import DeviceColumn
from wherry.run.capsules import Memory, Texts, buffer_at, device_array, kept_by
from wherry.run.device_tensor import DeviceTensor, NotExported, check_tensor, stored_as


class Lender(Struct, frozen=True, eq=False):
    """The device whose memory it is, and who may ask it for something."""

    device: Accelerator
    lock: RLock

    def get(self, address: int, nbytes: int) -> pa.Buffer:
        """Give a copy of memory on the host."""
        with self.lock:
            return pa.py_buffer(self.device.get(address, nbytes))


class DeviceArray(Struct, frozen=True, eq=False, dict=True):
    """A column of a batch, in a device's memory.

    Attributes
    ----------
    name : str
    column : DeviceColumn
        Where it lies.
    texts : Texts or None
        The dictionary, of a column of codes.
    """

    name: str
    column: DeviceColumn
    memory: Memory
    texts: Texts | None
    lender: Lender

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} of {self.type} on {self.lender.device.name}>"

    @property
    def type(self) -> pa.DataType:
        """What its values are."""
        return self.column.type

    def __len__(self) -> int:
        return self.column.rows

    @property
    def nbytes(self) -> int:
        """Its bytes on the device, but for a dictionary's."""
        return self.stored.nbytes + (0 if self.validity is None else self.validity.nbytes)

    @cached_property
    def null_count(self) -> int:
        """How many values are null; if any may be, the bits come to the host the first time."""
        if not self.column.valid:
            return 0
        bits = self.lender.get(self.column.valid, -(-len(self) // 8))
        return int(pa.Array.from_buffers(pa.bool_(), len(self), [None, bits]).false_count)

    @property
    def stored(self) -> DeviceTensor:
        """What stands in memory for its values, whatever it is where one is null.

        Codes of a dictionary, integers of dates and times, words of decimals, bytes of eight truths
        each (`wherry.run.device_tensor.stored_as`).
        """
        dtype, count = stored_as(self.type, len(self))
        return self._tensor(dtype, count, self.column.values)

    @property
    def validity(self) -> DeviceTensor | None:
        """The bits of values that are not null, eight in a byte, the lowest first; None: all."""
        if not self.column.valid:
            return None
        return self._tensor(np.dtype(np.uint8), -(-len(self) // 8), self.column.valid)

    def _tensor(self, dtype: np.dtype[Any], count: int, address: int) -> DeviceTensor:
        return DeviceTensor(dtype, count, address, self.memory, self.lender.device)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Give the type of device, 2 for CUDA, and which of these it is."""
        return self.memory.kind

    def __dlpack__(self, **asked: object) -> object:
        """Give the values as `DeviceTensor.__dlpack__` does.

        Raises
        ------
        NotExported
            If they are no integers or floats, or some are null; with what is possible instead.
        """
        check_tensor(self.name, self.type, self.null_count)
        return self.stored.__dlpack__(**asked)  # type: ignore[arg-type]

    def __arrow_c_device_array__(
        self, requested_schema: object = None, **asked: object
    ) -> tuple[object, object]:
        """Give it by Arrow's device interface, as `DeviceBatch` does; the type has no name."""
        _check_asked(asked)
        if requested_schema is not None:
            wanted = pa.DataType._import_from_c_capsule(requested_schema)
            if not wanted.equals(self.type):
                raise NotExported(f"column {self.name!r} is {self.type}, not {wanted}; {_NO_CAST}")
        return device_array(self._there(), self.memory, [self.texts])

    def to_arrow(self) -> pa.Array:
        """Give a copy on the host."""
        return self._on_host(self.lender.get)

    def _there(self) -> pa.Array:
        """Give an array that nobody may read, whose dictionary is the host's."""
        texts = None if self.texts is None else kept_by(self.texts)
        return _array(self.column, self._lent, texts, self.null_count)

    def _lent(self, address: int, nbytes: int) -> pa.Buffer:
        return buffer_at(address, nbytes, self.memory)

    def _on_host(self, get: Callable[[int, int], pa.Buffer]) -> pa.Array:
        return _array(self.column, get, None if self.texts is None else self.texts.array)


class DeviceBatch(Struct, frozen=True, eq=False):
    """Rows of an answer, all in one block of a device's memory.

    Attributes
    ----------
    columns : tuple of DeviceArray
    """

    schema: pa.Schema
    columns: tuple[DeviceArray, ...]
    memory: Memory
    lender: Lender

    def __repr__(self) -> str:
        named = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"<{self.num_rows} rows of {named} on {self.lender.device.name}>"

    @property
    def num_rows(self) -> int:
        """How many rows there are, one at least."""
        return len(self.columns[0])

    @property
    def nbytes(self) -> int:
        """The bytes of its columns."""
        return sum(column.nbytes for column in self.columns)

    def column(self, name: str) -> DeviceArray:
        """Give a column.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        if name not in self.schema.names:
            raise unknown_name("column", name, self.schema.names)
        return self.columns[self.schema.names.index(name)]

    def __arrow_c_device_array__(
        self, requested_schema: object = None, **asked: object
    ) -> tuple[object, object]:
        """Give capsules `arrow_schema` and `arrow_device_array`; nothing is copied.

        The array has an event that consumers wait for before they read (`sync_event`), on CUDA
        cards. The memory is kept until all consumers have let go of it; who does while kernels of
        theirs still read it, on a stream that does not wait for the default one, waits for these
        first. What may be null is counted first, which waits for the device.

        Parameters
        ----------
        requested_schema : capsule, optional
            This one: nothing is cast.

        Raises
        ------
        NotExported
            If another schema, or anything else, is asked for.
        """
        _check_asked(asked)
        if requested_schema is not None:
            wanted = pa.Schema._import_from_c_capsule(requested_schema)
            if not wanted.equals(self.schema):
                raise NotExported(f"the schema is\n{self.schema}\nand not\n{wanted}\n{_NO_CAST}")
        columns = [column._there() for column in self.columns]
        made = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return device_array(made, self.memory, [column.texts for column in self.columns])

    def to_arrow(self) -> pa.RecordBatch:
        """Give a copy on the host, which crosses the link at once."""
        block = self.memory.block
        whole = self.lender.get(block.address, block.nbytes)
        columns = [
            column._on_host(lambda at, nbytes: whole.slice(at - block.address, nbytes))
            for column in self.columns
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


class DeviceTable(Struct, frozen=True, eq=False):
    """An answer that lies in the memory of the device that made it.

    Attributes
    ----------
    schema : pyarrow.Schema
    batches : tuple of DeviceBatch
        Its rows in order; none has no row.
    device : str
        As the system calls it.
    ledger : Ledger
        What was loaded and written for it.
    """

    schema: pa.Schema
    batches: tuple[DeviceBatch, ...]
    device: str
    ledger: Ledger

    def __repr__(self) -> str:
        named = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        count = len(self.batches)
        return f"<{self.num_rows} rows of {named} in {count} batches on {self.device}>"

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(batch.num_rows for batch in self.batches)

    @property
    def nbytes(self) -> int:
        """The bytes of all columns."""
        return sum(batch.nbytes for batch in self.batches)

    def to_arrow(self) -> pa.Table:
        """Give a copy on the host, one batch after the other."""
        batches = [batch.to_arrow() for batch in self.batches]
        return pa.Table.from_batches(batches, schema=self.schema)


_NO_CAST = "possible: the column as it is; cast it in the pipeline"


def _check_asked(asked: dict[str, object]) -> None:
    """Refuse what is not known, as Arrow's interface wants it."""
    unknown = [name for name, value in asked.items() if value is not None]
    if unknown:
        raise NotImplementedError(f"possible: requested_schema, and not {', '.join(unknown)}")


def _array(
    column: DeviceColumn,
    buffer: Callable[[int, int], pa.Buffer],
    texts: pa.Array | None,
    nulls: int = -1,
) -> pa.Array:
    """Give a column as an array of buffers of whatever memory."""
    t = column.type if texts is None else column.type.index_type
    valid = buffer(column.valid, -(-column.rows // 8)) if column.valid else None
    values = buffer(column.values, -(-column.rows * t.bit_width // 8))
    made = pa.Array.from_buffers(t, column.rows, [valid, values], nulls)
    if texts is None:
        return made
    # Codes are those of the dictionary; they may lie where nobody here may look.
    return pa.DictionaryArray.from_arrays(made, texts, ordered=column.type.ordered, safe=False)
