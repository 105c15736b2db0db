"""Values in a device's memory, as DLPack hands them on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.devices.accelerator import Accelerator
from wherry.run.capsules import Memory, tensor

_HOST: Final = 1
"""The type of devices that have no streams."""
_UNORDERED: Final = -1
_DEFAULT: Final = 1


class NotExported(InputError, BufferError):
    """What was asked for cannot be handed on as it lies there."""


class DeviceTensor(Struct, frozen=True, eq=False):
    """Values of one dimension, to be taken by `torch.from_dlpack` and its like.

    They are whoever's who takes them, and may be written to: others see that. The memory is kept as
    long as anybody has it. Who lets go of it while kernels of theirs still read it, on a stream
    that does not wait for the default one, waits for these first.

    Attributes
    ----------
    dtype : numpy.dtype
    """

    dtype: np.dtype[Any]
    rows: int
    address: int
    memory: Memory
    device: Accelerator

    @property
    def shape(self) -> tuple[int]:
        """How many values there are."""
        return (self.rows,)

    @property
    def nbytes(self) -> int:
        """Their bytes."""
        return self.rows * self.dtype.itemsize

    def __len__(self) -> int:
        return self.rows

    def __dlpack_device__(self) -> tuple[int, int]:
        """Give the type of device, 2 for CUDA, and which of these it is."""
        return self.memory.kind

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Give a capsule `dltensor`; nothing is copied.

        Parameters
        ----------
        stream : int, optional
            The consumer's, which begins to read once the values are there; nobody waits here. None
            and 1 are the default one, 2 each thread's own, -1 none: the consumer sees to it.
        max_version : tuple of int, optional
            Every consumer takes what the first version has.
        dl_device, copy : optional
            This device, and no copy.

        Raises
        ------
        NotExported
            If another device, a copy, or a stream that there is not, is asked for.
        """
        del max_version
        if dl_device is not None and tuple(dl_device) != self.memory.kind:
            text = f"values on device {self.memory.kind} were asked for on device {dl_device}"
            raise NotExported(f"{text}; possible: that one, or to_arrow(), a copy on the host")
        if copy:
            text = "a copy of values on a device was asked for; possible: copy=None or copy=False"
            raise NotExported(f"{text}, or to_arrow(), a copy on the host")
        self._order(stream)
        return tensor(self.address, self.rows, self.dtype, self.memory)

    def _order(self, stream: object) -> None:
        """Let a consumer's stream wait for the values."""
        if self.memory.kind[0] == _HOST:
            if stream is not None:
                raise NotExported(f"stream is {stream!r} for memory of the host; possible: None")
            return
        if stream == _UNORDERED:
            return
        if stream is None:
            stream = _DEFAULT
        if isinstance(stream, bool) or not isinstance(stream, int) or stream <= 0:
            text = "possible: None or 1, the default one; 2, each thread's own; the address of one"
            raise NotExported(f"stream is {stream!r}; {text}; -1: none is to wait")
        self.device.follows(stream, self.memory.ready)


def stored_as(t: pa.DataType, rows: int) -> tuple[np.dtype[Any], int]:
    """Give what stands in memory for values of a type, and how much of it for so many.

    Truths are bits, of which each byte has eight, the lowest first; decimals of 128 bits two words,
    the low one first.
    """
    if pa.types.is_dictionary(t):
        t = t.index_type
    if pa.types.is_boolean(t):
        return np.dtype(np.uint8), -(-rows // 8)
    if is_dtype(t):
        return np.dtype(t.to_pandas_dtype()), rows
    if t.bit_width == 128:
        return np.dtype(np.int64), 2 * rows
    return np.dtype(f"i{t.bit_width // 8}"), rows


def is_dtype(t: pa.DataType) -> bool:
    """Tell whether tensors have values of a type."""
    return bool(pa.types.is_integer(t) or pa.types.is_floating(t))


def check_tensor(name: str, t: pa.DataType, nulls: int) -> None:
    """Refuse a column whose values are no tensor.

    Raises
    ------
    NotExported
        With what is possible instead.
    """
    stored = str(stored_as(t, 1)[0])
    if pa.types.is_dictionary(t):
        text = f"{t} is a dictionary; possible: `.stored`, its codes, as {stored}"
    elif pa.types.is_boolean(t):
        text = "truths are bits; possible: `.stored`, eight in a byte, or a cast to int8"
    elif pa.types.is_decimal(t):
        text = f"{t} is no dtype; possible: `.stored`, unscaled, as {stored}; or a cast to float64"
    elif not is_dtype(t):
        text = f"{t} is no dtype; possible: `.stored`, as {stored}"
    elif nulls:
        text = f"{nulls} of its values are null; possible: `.stored`, which has anything there, "
        text += "with the bits of `.validity`, or a filter by is_not_null()"
    else:
        return
    raise NotExported(f"column {name!r} has no tensor: {text}")
