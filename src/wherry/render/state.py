"""What an aggregate keeps: a count of values, then the value; the same for totals and for groups.

Decimals of 64 bits are added in 64-bit lanes and widened once per block where 64 of them provably
fit. Decimals that might not leave room for the sum of many in 128 bits are added in two halves, so
that no sum is ever wrong: whether it fits 38 digits shows when the aggregate is read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from llvmlite import ir
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.ir.expr import Call, Node
from wherry.ir.resolve import call_type, type_of
from wherry.ir.text import call_text
from wherry.ir.types import SPREADS, type_range
from wherry.render.intervals import INT64, Bounds, interval, within
from wherry.render.loop import (
    F32,
    F64,
    I64,
    I128,
    Variant,
    constant,
    declare,
    element_bytes,
    element_of,
    vector,
)
from wherry.render.moments import PARTS, read_moments

_ROWS: Final = 1 << 40
"""No chunk has more rows: a sum of that many values below 2**87 stays below 2**127."""
_INT128: Final = (-(1 << 127), (1 << 127) - 1)
_DIGITS: Final = 38
_SURELY_FITS: Final = 10**38 >> 64
_EXACT: Final = Context(prec=80)
_WIDE: Final = np.dtype("V16")


class Cell(Struct, frozen=True):
    """The state of one aggregate: an int64 count at `offset`, then `parts` elements.

    Parameters
    ----------
    kind : str
        sum, min, max or count, or made of moments: see `render.moments`.
    argument : Node, optional
        What is aggregated; None counts rows.
    t : pyarrow.DataType
        Of the result.
    element : ir.Type
        Of the kept value.
    parts : int
        0 for a count, 2 for a sum in two halves, 3 for moments, otherwise 1.
    narrow : bool
        A decimal sum whose blocks may be added in 64 bits.
    """

    kind: str
    argument: Node | None
    t: pa.DataType
    offset: int
    element: Any
    parts: int
    narrow: bool
    unsigned: bool

    @property
    def spread(self) -> bool:
        """Tell whether moments are kept, which are added in ways of their own."""
        return self.kind in SPREADS

    @property
    def element_bytes(self) -> int:
        """Give the bytes between two parts."""
        return max(8, element_bytes(self.element))

    @property
    def size(self) -> int:
        """Give the bytes of count and parts."""
        return 8 + self.parts * self.element_bytes


def layout(calls: Sequence[Call], variant: Variant) -> tuple[Cell, ...]:
    """Give the cells of aggregates, one behind the other."""
    cells: list[Cell] = []
    offset = 0
    for call in calls:
        cells.append(_cell(call, variant, offset))
        offset += cells[-1].size
    return tuple(cells)


def stride(cells: Sequence[Cell]) -> int:
    """Give the bytes of a whole state."""
    return sum(cell.size for cell in cells)


def _cell(call: Call, variant: Variant, offset: int) -> Cell:
    t = call_type(call)
    if call.kind in SPREADS:
        return Cell(call.kind, call.argument, t, offset, F64, PARTS, narrow=False, unsigned=False)
    if call.argument is None or call.kind == "count":
        return Cell("count", call.argument, t, offset, I64, 0, narrow=False, unsigned=False)
    source = type_of(call.argument)
    unsigned = pa.types.is_unsigned_integer(source)
    if call.kind != "sum":
        element = element_of(call.argument, variant)
        return Cell(
            call.kind, call.argument, t, offset, element, 1, narrow=False, unsigned=unsigned
        )
    if not pa.types.is_decimal(source):
        element = F64 if pa.types.is_floating(source) else I64
        return Cell("sum", call.argument, t, offset, element, 1, narrow=False, unsigned=unsigned)
    low, high = values_range(call.argument, variant.bounds)
    many = within((low * _ROWS, high * _ROWS), _INT128)
    narrow = many and within((low * 64, high * 64), INT64)
    return Cell("sum", call.argument, t, offset, I128, 1 if many else 2, narrow, unsigned=False)


def values_range(node: Node, bounds: Bounds) -> tuple[int, int]:
    """Give integers between which the values that are summed lie."""
    found, whole = interval(node, bounds), type_range(type_of(node))
    return found if within(found, whole) else whole


def identity(cell: Cell, element: Any) -> float:
    """Give the value that changes nothing."""
    if cell.kind == "sum" or cell.spread:
        return 0
    if element in (F32, F64):
        return float("nan")
    low, high = (0, (1 << element.width) - 1) if cell.unsigned else _signed(element.width)
    return high if cell.kind == "min" else low


def _signed(bits: int) -> tuple[int, int]:
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def lanes_of(cell: Cell, b: Any, data: Any) -> list[Any]:
    """Give the vectors that are carried through a block for a vector of arguments."""
    if cell.parts == 0:
        return []
    if cell.kind != "sum" or cell.narrow:
        return [data]
    if cell.element is F64:
        return [data if data.type.element is F64 else b.fpext(data, vector(F64))]
    element = data.type.element
    if cell.element is I64:
        extend = b.zext if cell.unsigned else b.sext
        return [data if element is I64 or element.width == 64 else extend(data, vector(I64))]
    data = data if element.width == 128 else b.sext(data, vector(I128))
    if cell.parts == 1:
        return [data]
    low = b.and_(data, constant(I128, (1 << 64) - 1))
    return [low, b.ashr(data, constant(I128, 64))]


def combined(cell: Cell, b: Any, left: Any, right: Any) -> Any:
    """Give two values, or two vectors of them, as one."""
    element = left.type.element if isinstance(left.type, ir.VectorType) else left.type
    if cell.kind == "sum":
        return b.fadd(left, right) if element is F64 else b.add(left, right)
    kind = ir.FunctionType(left.type, [left.type] * 2)
    return b.call(
        declare(b.module, f"llvm.{_chooser(cell, element)}.{suffix(left.type)}", kind),
        [left, right],
    )


def _chooser(cell: Cell, element: Any) -> str:
    if element in (F32, F64):
        return f"{cell.kind}num"
    return ("u" if cell.unsigned else "s") + cell.kind


def suffix(t: Any) -> str:
    """Give what LLVM calls a type in the names of its functions."""
    if isinstance(t, ir.VectorType):
        return f"v{t.count}{suffix(t.element)}"
    return f"i{t.width}" if isinstance(t, ir.IntType) else "f32" if t is F32 else "f64"


def reduced(cell: Cell, b: Any, lanes: Any, wanted: Any = None) -> Any:
    """Give one value for a vector of them, of type `wanted` or the state's."""
    element, wanted = lanes.type.element, wanted or cell.element
    named = suffix(lanes.type)
    if cell.kind == "sum" and element is F64:
        kind = ir.FunctionType(F64, [F64, lanes.type])
        function = declare(b.module, f"llvm.vector.reduce.fadd.{named}", kind)
        # reassoc lets the lanes be added as a tree; the tree is the same in every run.
        return b.call(function, [ir.Constant(F64, -0.0), lanes], fastmath=("reassoc",))
    name = {"sum": "add", "min": "fmin", "max": "fmax"}[cell.kind]
    if cell.kind != "sum" and element not in (F32, F64):
        name = _chooser(cell, element)
    function = declare(
        b.module, f"llvm.vector.reduce.{name}.{named}", ir.FunctionType(element, [lanes.type])
    )
    value = b.call(function, [lanes])
    return value if element == wanted else b.sext(value, wanted)


def initial(cells: Sequence[Cell]) -> bytes:
    """Give the state before any row."""
    found = b""
    for cell in cells:
        found += bytes(8)
        value = identity(cell, cell.element) if cell.parts else 0
        for _ in range(cell.parts):
            found += packed(cell.element, value).ljust(cell.element_bytes, b"\0")
    return found


def dense(cells: Sequence[Cell], counted: Sequence[bool]) -> tuple[tuple[Cell, ...], bytes]:
    """Give cells without counts that are not counted, and the state before any row.

    Such a cell begins 8 bytes before its value, where another's bytes are.
    """
    found, state = [], b""
    for cell, count in zip(cells, counted, strict=True):
        begin = initial([cell])
        if cell.kind != "count" and not count:
            found.append(replace(cell, offset=len(state) - 8))
            begin = begin[8:]
        else:
            found.append(replace(cell, offset=len(state)))
        state += begin
    return tuple(found), state


def packed(element: Any, value: float) -> bytes:
    """Give a value as it lies in memory."""
    if element in (F32, F64):
        return struct.pack("<f" if element is F32 else "<d", value)
    size = element_bytes(element)
    return (int(value) & ((1 << (8 * size)) - 1)).to_bytes(size, "little")


class Fields(Protocol):
    """States of groups by field."""

    def field(self, offset: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Give the field at a byte of the state, of all groups, side by side."""


class Matrix(Struct, frozen=True):
    """States that lie row by row: uint8, one row a group."""

    states: np.ndarray[Any, Any]

    def field(self, offset: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Give a field of all groups."""
        size = np.dtype(dtype).itemsize
        return np.ascontiguousarray(self.states[:, offset : offset + size]).view(dtype).reshape(-1)


def read(cell: Cell, states: Fields, *, counted: bool = True) -> pa.Array:
    """Give an aggregate of every group.

    Parameters
    ----------
    counted : bool
        Whether the cell counted its values; otherwise every group is known to have one.
    """
    if cell.kind == "count":
        return _array(cell.t, states.field(cell.offset, "<i8"), None)
    if cell.spread:
        counts = states.field(cell.offset, "<i8")
        places = (cell.offset + 8 * part for part in range(1, 1 + PARTS))
        return read_moments(cell.kind, counts, [states.field(at, "<f8") for at in places])
    none = states.field(cell.offset, "<i8") == 0 if counted else None
    none = none if none is not None and none.any() else None
    if pa.types.is_decimal(cell.t):
        return _decimals(cell, states, none)
    dtype = np.dtype(f"V{element_bytes(cell.element)}")
    return _array(cell.t, states.field(cell.offset + 8, dtype), none)


def _array(t: pa.DataType, values: np.ndarray[Any, Any], none: Any) -> pa.Array:
    """Give stored values as an array; unlike pa.array this never lets another thread have the GIL.

    Two threads with chunks of 64 Ki rows lose more by handing it over than by computing.
    """
    nulls = 0 if none is None else int(np.count_nonzero(none))
    bits = pa.py_buffer(np.packbits(~none, bitorder="little")) if nulls else None
    return pa.Array.from_buffers(t, len(values), [bits, pa.py_buffer(values)], nulls)


def _decimals(cell: Cell, states: Fields, none: Any) -> pa.Array:
    if cell.t.bit_width < 128:
        low = states.field(cell.offset + 8, "<i8")
        return _array(cell.t, low.astype(f"<i{cell.t.bit_width // 8}"), none)
    if cell.parts == 1 and cell.element is I128:
        whole = states.field(cell.offset + 8, "V16").view("<i8").reshape(-1, 2)
    elif cell.parts == 1:
        low = states.field(cell.offset + 8, "<i8")
        whole = np.stack([low, low >> 63], axis=1)
    else:
        whole = _joined(cell, states)
    high = whole[:, 1] if none is None else whole[~none, 1]
    # Far below 10**38 in the high half no digit is too many, and the words are the answer.
    if bool((np.abs(high) < _SURELY_FITS).all()):
        return _array(cell.t, whole, none)
    return pa.array(_checked(cell, states, none), cell.t)


def _joined(cell: Cell, states: Fields) -> np.ndarray[Any, Any]:
    """Give sums in two halves as 128 bits; the highest there is where one might need more."""
    lower, upper = (
        states.field(cell.offset + 8 + part * cell.element_bytes, "V16").view("<i8").reshape(-1, 2)
        for part in (0, 1)
    )
    # The lower half is a sum of less than 2**40 numbers below 2**64: what is above goes up.
    high = upper[:, 0] + lower[:, 1]
    fits = (upper[:, 1] == upper[:, 0] >> 63) & (np.abs(upper[:, 0]) < _SURELY_FITS)
    return np.stack([lower[:, 0], np.where(fits, high, np.iinfo(np.int64).max)], axis=1)


def _checked(cell: Cell, states: Fields, none: Any) -> list[Decimal | None]:
    size, found = element_bytes(cell.element), []
    places = [cell.offset + 8 + part * cell.element_bytes for part in range(cell.parts)]
    fields = [states.field(place, f"V{size}") for place in places]
    for group, row in enumerate(zip(*fields, strict=True)):
        missing = none is not None and none[group]
        whole = 0
        for part, value in enumerate(row):
            whole += int.from_bytes(value.tobytes(), "little", signed=True) << (64 * part)
        if abs(whole) >= 10**_DIGITS and not missing:
            assert cell.argument is not None
            text = call_text(Call(cell.kind, cell.argument))
            raise InputError(f"{text} needs more than {_DIGITS} digits")
        found.append(None if missing else Decimal(whole).scaleb(-cell.t.scale, _EXACT))
    return found
