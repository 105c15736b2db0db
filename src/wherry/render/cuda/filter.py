"""Rows that pass, written in their order: a program around `kernels/cuda/filter.cu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.ir.stage import output_schema
from wherry.render.cuda.bind import Bound
from wherry.render.cuda.device import Bytes
from wherry.render.cuda.expressions import stored_code, value
from wherry.render.cuda.program import CudaPass, CudaProgram, program_of, tests_text
from wherry.render.cuda.values import Body, Frame, ctype_of, stored_ctype
from wherry.render.loop import Slot, Variant

BLOCK: Final = 256
SCANNING: Final = 1024
TILE: Final = 2048
"""Rows of a block; all as in filter.cu."""
MOST_BITMAPS: Final = 64
WRITTEN_BYTES: Final = 128
"""Of a thread's registers, for what is read of several rows before they are written."""
_OWN: Final = (("rows", "i64"), ("bits", "u32*"), ("counts", "u32*"), ("offsets", "u64*"))


WRITTEN: Final = frozenset({"bits", "counts", "offsets", "out", "bitmap", "made"})
"""What the context says nothing of before it is known how many rows are kept."""
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
    rows = f"constexpr int AT_ONCE = {body.at_once(WRITTEN_BYTES)};"
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


def run_filter(made: FilterProgram, plan: CudaPass, chunk: Bound) -> pa.RecordBatch:
    """Give the rows of a chunk that pass, with exactly as much memory as they need."""
    schema = output_schema(plan.step, plan.schema)
    kept = keep_rows(made, chunk, schema, plan.roots)
    if not kept.columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * kept.rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(kept.columns, schema=schema)


class Kept(Struct, frozen=True):
    """Rows that were kept, and bytes that were written beside their columns."""

    rows: int
    columns: list[pa.Array]
    beside: Bytes


def keep_rows(
    made: FilterProgram,
    chunk: Bound,
    schema: pa.Schema,
    roots: Sequence[Node],
    beside: tuple[Slot, int] | None = None,
) -> Kept:
    """Give the rows of a chunk that `test_rows` keeps.

    Two launches more where there is a test: the number of rows comes back in between.

    Parameters
    ----------
    beside : tuple, optional
        The entry for what else `write` writes, and how many bytes of it are a row's.
    """
    device, rows, tiles = chunk.device, chunk.rows, -(-chunk.rows // TILE)
    # Nothing is written yet: the first kernels are given no place for outputs.
    chunk.words.update({s: 0 for s, _ in made.program.slots if s[0] in WRITTEN})
    if rows and made.tested:
        sizes = {"bits": -(-rows // 32) * 4, "counts": tiles * 4, "offsets": (tiles + 1) * 8}
        chunk.words.update({(kind, ""): device.room(size) for kind, size in sizes.items()})
        context = chunk.context(made.program)
        device.launch(made.program, "mask_pass", tiles, BLOCK, context)
        device.launch(made.program, "scan_pass", 1, SCANNING, context)
        end = device.get(chunk.words["offsets", ""] + tiles * 8, 8)
        rows = int(end.view(np.uint64)[0])
    places = _sizes(made, schema, rows)
    if beside is not None:
        places[beside[0]] = rows * beside[1]
    chunk.words.update({slot: device.room(size) for slot, size in places.items()})
    if rows:
        device.launch(made.program, "write_pass", tiles, BLOCK, chunk.context(made.program))
    found = {slot: device.get(chunk.words[slot], size) for slot, size in places.items()}
    columns = [_column(made, number, t, found, rows) for number, t in enumerate(schema.types)]
    columns = [_coded(*each, chunk) for each in zip(columns, roots, schema.types, strict=False)]
    rest = np.empty(0, np.uint8) if beside is None else found[beside[0]]
    return Kept(rows, columns, rest)


def _sizes(made: FilterProgram, schema: pa.Schema, rows: int) -> dict[tuple[str, str], int]:
    """Give the bytes of each output and bitmap."""
    sizes = {}
    for number, (t, pair) in enumerate(zip(schema.types, made.outputs, strict=True)):
        if pair[0] is None:
            width = t.index_type.bit_width if pa.types.is_dictionary(t) else t.bit_width
            sizes["out", str(number)] = rows * width // 8
        for bitmap in pair:
            if bitmap is not None:
                sizes["bitmap", str(bitmap)] = -(-rows // 32) * 4
    return sizes


def _column(
    made: FilterProgram, number: int, t: pa.DataType, found: dict[Slot, Bytes], rows: int
) -> pa.Array:
    """Give what was written of an output; of a dictionary the codes."""
    pair = made.outputs[number]
    bitmaps = [None if b is None else pa.py_buffer(found["bitmap", str(b)]) for b in pair]
    values = pa.py_buffer(found["out", str(number)]) if pair[0] is None else bitmaps[0]
    stored = t.index_type if pa.types.is_dictionary(t) else t
    return pa.Array.from_buffers(stored, rows, [bitmaps[1], values])


def _coded(column: pa.Array, root: Node, t: pa.DataType, chunk: Bound) -> pa.Array:
    """Give codes with the dictionary that they are of, and any other column as it is."""
    if not pa.types.is_dictionary(t):
        return column
    assert isinstance(root, Column)
    texts = chunk.columns[root.name].dictionary
    return pa.DictionaryArray.from_arrays(column, texts, ordered=t.ordered)
