"""The contexts of launches: addresses of columns on the device, numbers, and constants.

What does not change from piece to piece is found once, and kept for the next time that the same
program is asked for with the same constants.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.data.types import value_type
from wherry.devices.accelerator import Accelerator, Block
from wherry.ir.expr import Literal
from wherry.ir.literals import bind, unscaled
from wherry.ir.reference import literal_scalar
from wherry.ir.resolve import type_of
from wherry.render.bind import Table
from wherry.render.cuda.columns import USES, Bytes, DeviceColumn
from wherry.render.cuda.program import CudaPass, CudaProgram
from wherry.render.loop import OWN, Slot, codes_name
from wherry.render.prepare import tabulate

T = TypeVar("T")
_WORD: Final = (1 << 64) - 1
_ADDRESSES: Final = frozenset({"values", "valid", "data", "buffers"})
_MOST_BOUND: Final = 256
_MOST_BYTES: Final = 64 << 20


class Layout(Struct, frozen=True):
    """Where the context of a program holds what.

    Attributes
    ----------
    places : dict
        Of each slot the number of its word.
    columns : tuple
        The words that columns fill: their number, the column, and the field of `DeviceColumn`.
    read : dict
        What is read of which columns, of `USES`.
    """

    places: dict[Slot, int]
    columns: tuple[tuple[int, str, str], ...]
    read: dict[str, frozenset[str]]
    packed: struct.Struct


def layout_of(program: CudaProgram) -> Layout:
    """Give where a program's context holds what."""
    slots = [slot for slot, _ in program.slots]
    filled = [
        (place, _column_of(name), kind) for place, (kind, name) in enumerate(slots) if kind in USES
    ]
    read: dict[str, frozenset[str]] = {}
    for _, name, kind in filled:
        read[name] = read.get(name, frozenset()) | {kind}
    places = {slot: place for place, slot in enumerate(slots)}
    columns = tuple((place, name, USES[kind]) for place, name, kind in filled)
    return Layout(places, columns, read, struct.Struct(f"<{len(slots)}Q"))


def _column_of(name: str) -> str:
    """Give the column that a slot is of; codes are values of their dictionary's column."""
    return name.removeprefix(codes_name("")) if name.startswith(OWN) else name


class Bound(Struct, frozen=True):
    """A program with its constants on a device.

    Attributes
    ----------
    words : list of int
        Of a context; 0 where they are of a piece.
    dictionaries : dict
        Of dictionary columns: their texts, on the host.
    blocks : list of Block
        What keeps the constants there.
    learned : dict
        What one run found out and the next may begin with; no answer depends on it.
    """

    device: Accelerator
    program: CudaProgram
    layout: Layout
    words: list[int]
    dictionaries: dict[str, pa.Array]
    blocks: list[Block]
    learned: dict[str, int]

    def launch(self, entry: str, grid: int, block: int, context: bytes, *, shared: int = 0) -> None:
        """Run a kernel of the program."""
        self.device.launch(self.program.text, entry, grid, block, context, shared=shared)

    def piece(
        self, columns: Mapping[str, DeviceColumn], rows: int, first: int, ones: Callable[[], int]
    ) -> Piece:
        """Give the context of a piece, but for what its kernels are given besides.

        Parameters
        ----------
        first : int
            The number of its first row.
        ones : callable
            Gives the address of bits that say that all rows are valid.

        Raises
        ------
        WherryError
            If something that the program reads was not put on the device.
        """
        words = self.words.copy()
        for place, name, field in self.layout.columns:
            column = columns[name]
            if field == "valid" and not column.nulls:
                # In a program for pieces that have some.
                words[place] = ones()
                continue
            words[place] = getattr(column, field)
            if not words[place] and field in _ADDRESSES:
                raise WherryError(f"the {field} of column {name!r} are not on the device")
        words[0] = rows
        return Piece(self, rows, first, words)


class Piece(Struct, frozen=True):
    """Consecutive rows on a device, and the words of their context; the first says how many."""

    bound: Bound
    rows: int
    first: int
    words: list[int]

    def put(self, kind: str, word: int, name: str = "") -> None:
        """Fill a word, if the program has it."""
        place = self.bound.layout.places.get((kind, name))
        if place is not None:
            self.words[place] = word

    @property
    def context(self) -> bytes:
        """Give the words as a kernel takes them."""
        return self.bound.layout.packed.pack(*self.words)


class Constants:
    """What a device keeps for programs: texts and tables by content, and programs bound to them.

    Parameters
    ----------
    most_bytes : int
        Of texts and tables; what was not asked for longest is let go of first.
    """

    def __init__(self, device: Accelerator, most_bytes: int = _MOST_BYTES) -> None:
        self.device, self._most = device, most_bytes
        self._blocks: dict[bytes, Block] = {}
        self._nbytes = 0
        self._bound: dict[Any, tuple[Any, Any]] = {}

    def block(self, data: Bytes) -> Block:
        """Give a block that holds `data` for as long as it is referred to."""
        key = data.tobytes() or b"\0"
        block = self._blocks.pop(key, None)
        if block is None:
            block = self.device.put(np.frombuffer(key, np.uint8))
            self._nbytes += len(key)
        self._blocks[key] = block
        while self._nbytes > self._most and len(self._blocks) > 1:
            oldest = next(iter(self._blocks))
            del self._blocks[oldest]
            self._nbytes -= len(oldest)
            # What was bound keeps its blocks.
            self._bound.clear()
        return block

    def kept(self, key: Any, of: Any, make: Callable[[], T]) -> T:
        """Give what `make` gave the last time that `key` was asked for.

        Parameters
        ----------
        of : object
            What `key` has identities of: kept as long as it is, so that none comes again.
        """
        found = self._bound.get(key)
        if found is None:
            if len(self._bound) >= _MOST_BOUND:
                self._bound.clear()
            found = self._bound[key] = (of, make())
        made: T = found[1]
        return made


class Given(Struct, frozen=True):
    """What a program is given that does not change from piece to piece.

    Attributes
    ----------
    dictionaries : dict
        Of dictionary columns: the texts of all pieces.
    numbers : dict
        What else stands in the context.
    """

    literals: tuple[Literal, ...]
    dictionaries: dict[str, pa.Array]
    numbers: Mapping[Slot, int]


def bound_to(plan: CudaPass, program: CudaProgram, given: Given, constants: Constants) -> Bound:
    """Give a program with its constants."""
    literals, dictionaries = given.literals, given.dictionaries
    tables = {
        str(x.number): tabulate(
            bind(node, literals), x.column, dictionaries[x.column], plan.schema.field(x.column).type
        )
        for node, x in plan.lookups.items()
    }
    blocks, words = list[Block](), list[int]()

    def put(data: Bytes) -> int:
        blocks.append(constants.block(data))
        return blocks[-1].address

    for slot, _ in program.slots:
        kind, name = slot
        if slot in given.numbers:
            word = given.numbers[slot]
        elif kind == "last":
            word = len(dictionaries[name])
        elif kind in {"table", "known"}:
            word = put(_table(tables[name], kind))
        elif kind == "parts":
            word = put(_parts(name))
        elif kind in {"bytes", "size"}:
            data = _text(literals[int(name)])
            word = put(data) if kind == "bytes" else data.size
        elif kind in {"constant", "low", "high"}:
            word = _number(kind, literals[int(name)])
        else:
            word = 0
        words.append(word & _WORD)
    return Bound(constants.device, program, layout_of(program), words, dictionaries, blocks, {})


def _table(table: Table, kind: str) -> Bytes:
    return (table.values if kind == "table" else table.known).view(np.uint8)


def _text(literal: Literal) -> Bytes:
    assert isinstance(literal.value, str | bytes)
    text = literal.value
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)


def _number(kind: str, literal: Literal) -> int:
    number = stored_number(literal)
    if isinstance(number, float):
        return int.from_bytes(struct.pack("<d", number), "little")
    return number >> 64 if kind == "high" else number


def stored_number(literal: Literal) -> int | float:
    """Give what stands for a constant: its integer, unscaled or as stored, or its float."""
    t = value_type(type_of(literal))
    if isinstance(literal.value, bool | float):
        return literal.value
    if pa.types.is_floating(t):
        return float(literal.value)  # type: ignore[arg-type]
    if isinstance(literal.value, int | Decimal):
        return unscaled(literal)
    buffer = pa.array([literal_scalar(literal)], t).buffers()[1]
    return int.from_bytes(bytes(buffer)[: t.bit_width // 8], "little", signed=True)


def _parts(pattern: str) -> Bytes:
    """Give the parts of a pattern as texts.cu reads them."""
    parts = [part.encode() for part in pattern.split("\0")]
    head = np.array([len(parts), *map(len, parts)], np.int64).tobytes()
    whole = head + b"".join(parts)
    # Whole words, so that it can end where memory does.
    return np.frombuffer(whole + bytes(-len(whole) % 8), np.uint8)
