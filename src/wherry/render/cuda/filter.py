"""Rows that pass, written in their order: a program around `kernels/cuda/filter.cu`."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.ir.stage import output_schema
from wherry.render.cuda.bind import Bound
from wherry.render.cuda.expressions import stored_code, value
from wherry.render.cuda.program import CudaPass, CudaProgram, program_of, tests_text
from wherry.render.cuda.values import Body, Frame, ctype_of, stored_ctype
from wherry.render.loop import Variant

BLOCK: Final = 256
TILE: Final = 2048
"""Rows of a block; both as in filter.cu."""
MOST_BITMAPS: Final = 64
_FEW: Final = 4
"""Outputs whose loads are under way for several rows at once; of 15 NVRTC took 3 s."""
_OWN: Final = (("rows", "i64"), ("bits", "u32*"), ("counts", "u32*"), ("offsets", "u64*"))


class FilterProgram(Struct, frozen=True):
    """A program that keeps rows, and where each output's values and validity go.

    Attributes
    ----------
    outputs : tuple
        Of each output: the number of its bitmap of values or None, and of its validity or None.
    """

    program: CudaProgram
    outputs: tuple[tuple[int | None, int | None], ...]


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
    tests = tests_text(frame, variant, plan.predicate)
    write, outputs = _write_text(frame, variant, plan.roots)
    bitmaps = sum(number is not None for pair in outputs for number in pair)
    if bitmaps > MOST_BITMAPS:
        text = f"{bitmaps} outputs are truths or have nulls; a kernel writes {MOST_BITMAPS} bitmaps"
        raise Refused(text)
    parts = [
        tests,
        write,
        _bitmap_text(frame, bitmaps),
        f"constexpr bool TESTED = {str(plan.predicate is not None).lower()};",
        f"constexpr int BITMAPS = {bitmaps};",
        f"constexpr int AT_ONCE = {1 if len(plan.roots) > _FEW else 8};",
    ]
    return FilterProgram(program_of(frame, parts, ["filter"]), outputs)


def _write_text(
    frame: Frame, variant: Variant, roots: tuple[Node, ...]
) -> tuple[str, tuple[tuple[int | None, int | None], ...]]:
    """Give `write(c, row, at)`: values go to memory, truths and validity are returned as bits."""
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
    body.lines += [*stores, f"return {' | '.join(terms) or '0'};"]
    head = "DEVICE u64 write(const Context& c, const i64 row, const u64 at) {\n"
    return f"{head}{body.text}}}", tuple(outputs)


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
    """Give the rows of a chunk that pass, with exactly as much memory as they need.

    Two launches more where there is a predicate: the number of rows comes back in between.
    """
    device, schema = chunk.device, output_schema(plan.step, plan.schema)
    rows, tiles = chunk.rows, -(-chunk.rows // TILE)
    if rows and plan.predicate is not None:
        chunk.words.update(
            {
                ("bits", ""): device.room(-(-rows // 32) * 4),
                ("counts", ""): device.room(tiles * 4),
                ("offsets", ""): device.room((tiles + 1) * 8),
            }
        )
        # Nothing is written yet: the context of the first two kernels has no place for outputs.
        for slot, _ in made.program.slots:
            if slot[0] in {"out", "bitmap"}:
                chunk.words[slot] = 0
        context = chunk.context(made.program)
        device.launch(made.program, "mask_pass", tiles, BLOCK, context)
        device.launch(made.program, "scan_pass", 1, BLOCK, context)
        end = device.get(chunk.words["offsets", ""] + tiles * 8, 8)
        rows = int(end.view(np.uint64)[0])
    else:
        chunk.words.update(dict.fromkeys((("bits", ""), ("counts", ""), ("offsets", "")), 0))
    sizes = _sizes(made, schema, rows)
    chunk.words.update({slot: device.room(size) for slot, size in sizes.items()})
    if rows:
        device.launch(made.program, "write_pass", tiles, BLOCK, chunk.context(made.program))
    found = {s: pa.py_buffer(device.get(chunk.words[s], size)) for s, size in sizes.items()}
    return _read(made, plan, chunk, found, rows)


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


def _read(
    made: FilterProgram,
    plan: CudaPass,
    chunk: Bound,
    found: dict[tuple[str, str], pa.Buffer],
    rows: int,
) -> pa.RecordBatch:
    schema, columns = output_schema(plan.step, plan.schema), []
    for number, (t, pair) in enumerate(zip(schema.types, made.outputs, strict=True)):
        values, known = (None if b is None else found["bitmap", str(b)] for b in pair)
        values = found["out", str(number)] if values is None else values
        stored = t.index_type if pa.types.is_dictionary(t) else t
        array = pa.Array.from_buffers(stored, rows, [known, values])
        if pa.types.is_dictionary(t):
            root = plan.roots[number]
            assert isinstance(root, Column)
            texts = chunk.columns[root.name].dictionary
            array = pa.DictionaryArray.from_arrays(array, texts, ordered=t.ordered)
        columns.append(array)
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
