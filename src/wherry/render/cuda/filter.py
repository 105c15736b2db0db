"""Rows that pass, written in their order: a program around `kernels/cuda/filter.cu`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.devices.accelerator import ALIGNED, Accelerator, Block
from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.render.cuda.bind import Piece
from wherry.render.cuda.columns import Bytes
from wherry.render.cuda.expressions import stored_code, value
from wherry.render.cuda.program import CudaPass, CudaProgram, program_of, tests_text
from wherry.render.cuda.values import Body, Frame, ctype_of, stored_ctype
from wherry.render.loop import Slot, Variant

BLOCK: Final = 256
SCANNING: Final = 1024
TILE: Final = 2048
"""Rows of a block."""
SCANNED: Final = 16_384
"""Tiles of a block of `scan_pass`; all as in filter.cu."""
MOST_BITMAPS: Final = 64
_AT_ONCE: Final = 4
"""Rows of a thread that are written together: half of a tile, and registers for many threads."""
_OWN: Final = (("rows", "i64"), ("bits", "u32*"), ("counts", "u32*"), ("offsets", "u64*"))
_OFFSETS: Final[Slot] = ("offsets", "")
_LITTLE: Final = 256 << 10
"""Bytes that are copied sooner than another copy is waited for."""
_NOTHING: Final = np.empty(0, np.uint8)
Sizes = dict[Slot, int]
Outputs = tuple[tuple[int | None, int | None], ...]


class FilterProgram(Struct, frozen=True):
    """A program that keeps rows, and where each output's values and validity go.

    Attributes
    ----------
    outputs : tuple
        Of each output: the number of its bitmap of values or None, and of its validity or None.
    """

    program: CudaProgram
    outputs: Outputs
    tested: bool


def render_filter(plan: CudaPass, variant: Variant) -> FilterProgram:
    """Give the program of a pass whose sink is Rows.

    Raises
    ------
    Refused
        If it has more outputs than its kernels have room for.
    """
    frame = Frame()
    for kind, ctype in _OWN:
        frame.entry(kind, "", ctype)
    tests = tests_text(frame, variant, plan.predicate, "test_rows")
    write, outputs = write_text(frame, variant, plan.roots)
    tested = plan.predicate is not None
    parts = [tests, write, *given_text(frame, outputs, tested=tested)]
    return FilterProgram(program_of(frame, parts, ["filter"]), outputs, tested)


def given_text(frame: Frame, outputs: Outputs, *, tested: bool) -> list[str]:
    """Give what filter.cu needs besides `test_rows` and `write`.

    Raises
    ------
    Refused
        If there are more bitmaps than `write` has bits.
    """
    bitmaps = sum(number is not None for pair in outputs for number in pair)
    if bitmaps > MOST_BITMAPS:
        text = f"{bitmaps} outputs are truths or have nulls; a kernel writes {MOST_BITMAPS} bitmaps"
        raise Refused(text)
    return [
        _bitmap_text(frame, bitmaps),
        f"constexpr bool TESTED = {str(tested).lower()};",
        f"constexpr int BITMAPS = {bitmaps};",
    ]


def write_text(
    frame: Frame, variant: Variant, roots: tuple[Node, ...], more: Sequence[str] = ()
) -> tuple[str, Outputs]:
    """Give `write(c, row, at)`: values go to memory, truths and validity are returned as bits.

    Parameters
    ----------
    more : sequence of str
        Statements that write something else.
    """
    body, bits, stores = Body(frame, variant), list[str](), list[str]()

    def bit(text: str | None) -> int | None:
        if text is not None:
            bits.append(text)
        return None if text is None else len(bits) - 1

    outputs = []
    for number, node in enumerate(roots):
        t = type_of(node)
        if pa.types.is_dictionary(t):
            assert isinstance(node, Column)
            found, ctype = stored_code(node.name, t.index_type, body), stored_ctype(t.index_type)
        else:
            found, ctype = value(node, body), ctype_of(node, variant)
        if pa.types.is_boolean(t):
            outputs.append((bit(found.data), bit(found.valid)))
            continue
        outputs.append((None, bit(found.valid)))
        stores += _stores(frame, number, t, found.data, ctype)
    terms = [f"(u64)({text}) << {number}" for number, text in enumerate(bits)]
    body.lines += [*stores, *more, f"return {' | '.join(terms) or '0'};"]
    rows = f"constexpr int AT_ONCE = {min(body.at_once, _AT_ONCE)};"
    head = "DEVICE u64 write(const Context& c, const i64 row, const u64 at, const Read_write& r) {"
    return f"{body.reader('write')}\n{head}\n{body.text}}}\n{rows}", tuple(outputs)


def _stores(frame: Frame, number: int, t: pa.DataType, data: str, ctype: str) -> list[str]:
    if t.bit_width < 128 or pa.types.is_dictionary(t):
        stored = stored_ctype(t.index_type if pa.types.is_dictionary(t) else t)
        return [f"{frame.entry('out', str(number), f'{stored}*')}[at] = ({stored}){data};"]
    out, high = frame.entry("out", str(number), "i64*"), f"(i64)({data} >> 64)"
    if ctype == "i64":
        high = f"{data} >> 63"
    return [f"{out}[2 * at] = (i64){data};", f"{out}[2 * at + 1] = {high};"]


def _bitmap_text(frame: Frame, bitmaps: int) -> str:
    """Give `bitmap(c, number)`: where the bits of that number go."""
    places = "0"
    for number in reversed(range(bitmaps)):
        places = f"number == {number} ? {frame.entry('bitmap', str(number), 'u32*')} : {places}"
    return f"DEVICE u32* bitmap(const Context& c, const int number) {{\n  return {places};\n}}"


class FilterWork:
    """The rows of a share that pass: a batch a piece, with exactly as much memory as they need."""

    def __init__(self, made: FilterProgram, plan: CudaPass) -> None:
        self._made, self._plan = made, plan
        self._schema = plan.output
        self._batches: list[pa.RecordBatch] = []
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Write what passes of a piece; when this returns it has left the device."""
        kept = keep_rows(self._made, piece, self._schema, self._plan.roots)
        self._batches.append(batch_of(kept, self._schema))
        self.selected += kept.rows

    def finish(self) -> list[pa.RecordBatch]:
        """Give the batches, in order."""
        return self._batches


class Kept(Struct, frozen=True):
    """Rows that were kept, and bytes that were written beside their columns."""

    rows: int
    columns: list[pa.Array]
    beside: Bytes


def batch_of(kept: Kept, schema: pa.Schema) -> pa.RecordBatch:
    """Give rows that were kept as a batch; there may be no columns."""
    if kept.columns:
        return pa.RecordBatch.from_arrays(kept.columns, schema=schema)
    return pa.RecordBatch.from_struct_array(pa.array([{}] * kept.rows, pa.struct([])))


def keep_rows(
    made: FilterProgram,
    piece: Piece,
    schema: pa.Schema,
    roots: Sequence[Node],
    beside: tuple[Slot, int] | None = None,
) -> Kept:
    """Give the rows of a piece that `test_rows` keeps.

    Parameters
    ----------
    beside : tuple, optional
        The entry for what else `write` writes, and how many bytes of it are a row's.
    """
    rows, found = _found(made, piece, lambda rows: written_sizes(made, schema, rows, beside))
    outputs = list(zip(schema.types, roots, strict=False))
    columns = columns_of(made, outputs, found, rows, piece.bound.dictionaries)
    return Kept(rows, columns, _NOTHING if beside is None else found[beside[0]])


def columns_of(
    made: FilterProgram,
    outputs: Sequence[tuple[pa.DataType, Node]],
    found: Mapping[Slot, Bytes],
    rows: int,
    dictionaries: Mapping[str, pa.Array],
) -> list[pa.Array]:
    """Give what `write` wrote of `rows` rows as columns; `outputs` are their types and roots."""
    columns = [_column(made, number, t, found, rows) for number, (t, _) in enumerate(outputs)]
    together = zip(columns, outputs, strict=True)
    return [_coded(column, root, t, dictionaries) for column, (t, root) in together]


def _found(
    made: FilterProgram, piece: Piece, sizes: Callable[[int], Sizes]
) -> tuple[int, dict[Slot, Bytes]]:
    """Give how many rows are kept, and what is written of them.

    If memory for all rows is little to copy, one copy is waited for instead of two.
    """
    most = sizes(piece.rows)
    if made.tested and piece.rows and room_of(most) <= _LITTLE:
        scratch = scratch_sizes(piece.rows)
        placed = place(piece, most | {_OFFSETS: scratch.pop(_OFFSETS)})
        blocks = _count(piece, scratch)
        _write(piece)
        got = placed.read(piece.bound.device)
        del blocks  # The kernel that reads them has ended.
        rows = int(got[_OFFSETS].view(np.uint64)[-1])
        # Nothing keeps the memory of rows that are not there.
        return rows, {slot: got[slot][:size].copy() for slot, size in sizes(rows).items()}
    rows, written = write_rows(made, piece, sizes)
    if written is None:
        return 0, dict.fromkeys(most, _NOTHING)
    return rows, written.read(piece.bound.device)


def write_rows(
    made: FilterProgram, piece: Piece, sizes: Callable[[int], Sizes]
) -> tuple[int, Placed | None]:
    """Queue what writes the rows that are kept, and give how many they are; None if there are none.

    If rows are tested their number is waited for, so that what is written has exactly as much
    memory as it needs.

    Parameters
    ----------
    sizes : callable
        Gives the bytes of what is written of so many rows.
    """
    rows, scratch = piece.rows, list[Block]()
    if rows and made.tested:
        scratch = _count(piece, scratch_sizes(rows))
        end = scratch[-1].address + _tiles(piece) * 8
        rows = int(piece.bound.device.get(end, 8).view(np.uint64)[0])
    if not rows:
        return 0, None
    placed = place(piece, sizes(rows))
    _write(piece)
    return rows, placed


def _tiles(piece: Piece) -> int:
    return -(-piece.rows // TILE)


def _count(piece: Piece, scratch: Sizes) -> list[Block]:
    """Queue what finds which rows are kept, and where those of each tile go; give where it does."""
    blocks = [piece.bound.device.room(size) for size in scratch.values()]
    for (kind, _), block in zip(scratch, blocks, strict=True):
        piece.put(kind, block.address)
    context = piece.context
    piece.bound.launch("mask_pass", _tiles(piece), BLOCK, context)
    piece.bound.launch("scan_pass", -(-_tiles(piece) // SCANNED), SCANNING, context)
    return blocks


def _write(piece: Piece) -> None:
    """Queue what writes rows to where they were given room."""
    piece.bound.launch("write_pass", _tiles(piece), BLOCK, piece.context)


class Placed(Struct, frozen=True):
    """A block for what leaves the device in one copy, and where in it each entry's bytes lie."""

    block: Block
    begins: dict[Slot, int]
    sizes: Sizes

    def read(self, device: Accelerator) -> dict[Slot, Bytes]:
        """Give the bytes of each, once all launches before have ended."""
        got = device.get(self.block.address, self.block.nbytes)
        return {slot: got[at : at + self.sizes[slot]] for slot, at in self.begins.items()}


def place(piece: Piece, sizes: Sizes) -> Placed:
    """Give room for what a piece's kernels write, which know it by its entries."""
    begins, end = dict[Slot, int](), 0
    for slot, size in sizes.items():
        begins[slot] = end
        end += _aligned(size)
    # Bits are set one by one.
    bits = any(kind == "bitmap" for kind, _ in sizes)
    device = piece.bound.device
    block = device.zeros(max(end, ALIGNED)) if bits else device.room(max(end, ALIGNED))
    for (kind, name), begin in begins.items():
        piece.put(kind, block.address + begin, name)
    return Placed(block, begins, sizes)


def scratch_sizes(rows: int) -> Sizes:
    """Give the bytes of what is written on the way, by entry; the offsets last."""
    tiles = -(-rows // TILE)
    sizes = {"bits": -(-rows // 32) * 4, "counts": tiles * 4}
    return {(kind, ""): size for kind, size in sizes.items()} | {_OFFSETS: (tiles + 1) * 8}


def written_sizes(
    made: FilterProgram, schema: pa.Schema, rows: int, beside: tuple[Slot, int] | None = None
) -> Sizes:
    """Give the bytes of each output and bitmap, and of what else is written, by entry."""
    sizes: Sizes = {}
    for number, (t, pair) in enumerate(zip(schema.types, made.outputs, strict=True)):
        if pair[0] is None:
            width = t.index_type.bit_width if pa.types.is_dictionary(t) else t.bit_width
            sizes["out", str(number)] = rows * width // 8
        for bitmap in pair:
            if bitmap is not None:
                sizes["bitmap", str(bitmap)] = -(-rows // 32) * 4
    return sizes if beside is None else sizes | {beside[0]: rows * beside[1]}


def room_of(sizes: Sizes) -> int:
    """Give the bytes of a block for all of it."""
    return sum([_aligned(size) for size in sizes.values()])


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _column(
    made: FilterProgram, number: int, t: pa.DataType, found: Mapping[Slot, Bytes], rows: int
) -> pa.Array:
    """Give what was written of an output; of a dictionary the codes."""
    pair = made.outputs[number]
    bitmaps = [None if b is None else pa.py_buffer(found["bitmap", str(b)]) for b in pair]
    values = pa.py_buffer(found["out", str(number)]) if pair[0] is None else bitmaps[0]
    stored = t.index_type if pa.types.is_dictionary(t) else t
    return pa.Array.from_buffers(stored, rows, [bitmaps[1], values])


def _coded(
    column: pa.Array, root: Node, t: pa.DataType, dictionaries: Mapping[str, pa.Array]
) -> pa.Array:
    """Give codes with the dictionary that they are of, and any other column as it is."""
    if not pa.types.is_dictionary(t):
        return column
    assert isinstance(root, Column)
    return pa.DictionaryArray.from_arrays(column, dictionaries[root.name], ordered=t.ordered)
