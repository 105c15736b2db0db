"""The first rows in key order: a program around `kernels/cuda/top.cu`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.devices.accelerator import Block
from wherry.ir.expr import Node
from wherry.ir.resolve import type_of
from wherry.ir.stage import Order, SortKey
from wherry.render.cuda.bind import Bound, Piece
from wherry.render.cuda.columns import Bytes
from wherry.render.cuda.expressions import value
from wherry.render.cuda.filter import (
    FilterProgram,
    Kept,
    Sizes,
    batch_of,
    columns_of,
    given_text,
    place,
    write_text,
    written_sizes,
)
from wherry.render.cuda.program import CudaPass, CudaProgram, program_of, tests_text
from wherry.render.cuda.values import Body, Frame, ctype_of
from wherry.render.loop import Slot, Variant

BLOCK: Final = 256
TILE: Final = 2048
"""Rows that a block reads in one turn, and entries that it keeps; both as in top.cu."""
_MOST_BLOCKS: Final = 528
"""Four on each core of the largest card; the answer does not depend on how many there are."""
_SAFE_DIGITS: Final = 18
"""Below 2**63 by far."""
REACHED_BYTES: Final = 16
_FOUND: Final[Slot] = ("found", "")
_OWN: Final = (
    ("rows", "i64"),
    ("count", "i64"),
    ("blocks", "i64"),
    ("reached", "struct Reached*"),
    ("bests", "u64*"),
    ("found", "u64*"),
)


class TopProgram(Struct, frozen=True):
    """A program that finds first rows: what it writes of them, and of how many words a key is."""

    filter: FilterProgram
    count: int
    key_words: int

    @property
    def program(self) -> CudaProgram:
        """Give the program."""
        return self.filter.program

    @property
    def shared(self) -> int:
        """Give the bytes of memory on chip that a launch asks for."""
        return TILE * self.entry_bytes

    @property
    def entry_bytes(self) -> int:
        """Give the bytes of a key with the number of its row."""
        return 8 * (self.key_words + 1)


def render_top(plan: CudaPass, top: Order, variant: Variant, shared_bytes: int) -> TopProgram:
    """Give the program of a pass whose sink is Rows, of which the first in an order are wanted.

    Raises
    ------
    Refused
        If keys do not fit on chip, or it has more outputs than its kernels have room for.
    """
    frame, roots = Frame(), dict(zip(plan.output.names, plan.roots, strict=True))
    for kind, ctype in _OWN:
        frame.entry(kind, "", ctype)
    tests = tests_text(frame, variant, plan.predicate, "test_rows")
    words, keys = _keys_text(frame, variant, [(roots[key.column], key) for key in top.by])
    write, outputs = write_text(frame, variant, plan.roots)
    given = given_text(frame, outputs, tested=False)
    program = program_of(frame, [tests, keys, write, *given], ["top"])
    assert top.count is not None
    made = TopProgram(FilterProgram(program, outputs, tested=False), top.count, words)
    if made.shared > shared_bytes:
        text = f"{TILE} keys of {words} words need {made.shared} bytes on chip"
        raise Refused(f"{text}; a block has {shared_bytes}")
    return made


def _keys_text(frame: Frame, variant: Variant, keys: list[tuple[Node, SortKey]]) -> tuple[int, str]:
    """Give of how many words a key is, and Entry, front and key_of."""
    body, words = Body(frame, variant), list[str]()
    for node, key in keys:
        words += _images(node, key, body, variant)
    first = Body(frame, variant)
    front = _images(*keys[0], first, variant)[0]
    stores = [f"entry.words[{number}] = {word};" for number, word in enumerate(words)]
    body.lines += ["Entry entry;", *stores, "return entry;"]
    arguments = "const Context& c, const i64 row"
    return len(words), "\n".join(
        [
            f"constexpr int KEY_WORDS = {len(words)}, FRONTS = {first.at_once};",
            "struct Entry {\n  u64 words[KEY_WORDS + 1];\n};",
            first.reader("front"),
            f"DEVICE u64 front({arguments}, const Read_front& r) {{",
            f"{first.text}  return {front};\n}}",
            body.reader("key"),
            f"DEVICE Entry key_of({arguments}, const Read_key& r) {{\n{body.text}}}",
        ]
    )


def _images(node: Node, key: SortKey, body: Body, variant: Variant) -> list[str]:
    """Give words in whose order values come: nulls last, before them NaN, in either direction."""
    found, ctype = value(node, body), ctype_of(node, variant)
    turned = "~" if key.descending else ""
    if ctype in {"float", "double"}:
        # Both zeros are equal. The complement of an infinity is below that of 1.
        number = body.name("double", f"{found.data} == 0 ? 0.0 : (double){found.data}")
        images = [f"({number} == {number} ? {turned}ordered({number}) : ~1ull)"]
    elif ctype == "i128":
        high = f"{turned}ordered((i64)({found.data} >> 64))"
        images = [high, f"{turned}(u64){found.data}"]
    else:
        held = "u64" if ctype == "u64" else "i64"
        images = [f"{turned}ordered(({held}){found.data})"]
    if found.valid is None:
        return images
    if _fills_words(node, ctype):
        # The last image gives its place to nulls, and takes that of the one before: the next word
        # tells them apart.
        image = body.name("u64", images[0])
        last = f"(u64)({image} == ~0ull)"
        return [f"({found.valid} ? {image} - {last} : ~0ull)", f"({found.valid} ? {last} : 0ull)"]
    return [f"({found.valid} ? {image} : ~0ull)" for image in images]


def _fills_words(node: Node, ctype: str) -> bool:
    """Tell whether images may be any word, so that none is left for nulls."""
    t = type_of(node)
    few = pa.types.is_decimal(t) and t.precision <= _SAFE_DIGITS
    return ctype in {"i64", "u64"} and not few


class TopWork:
    """The first rows of each piece in key order, but for those that are behind enough of others."""

    def __init__(self, made: TopProgram, plan: CudaPass, bound: Bound) -> None:
        self._made, self._plan, self._bound = made, plan, bound
        self._reached = bound.device.zeros(REACHED_BYTES)
        self._batches: list[pa.RecordBatch] = []
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Find the first rows of a piece; when this returns they have left the device."""
        made, sizes = self._made, top_sizes(self._made, self._plan, piece.rows)
        device, blocks = self._bound.device, blocks_of(piece.rows)
        found: Mapping[Slot, Bytes] = dict.fromkeys(sizes, np.empty(0, np.uint8))
        rows, bests = 0, list[Block]()
        if piece.rows and made.count:
            bests.append(device.room(bests_bytes(made, blocks)))
            words = {"count": made.count, "blocks": blocks, "reached": self._reached.address}
            for kind, word in (words | {"bests": bests[0].address}).items():
                piece.put(kind, word)
            placed = place(piece, sizes)
            for entry, grid in (("top_pass", blocks), ("pick_pass", 1)):
                self._bound.launch(entry, grid, BLOCK, piece.context, shared=made.shared)
            got = placed.read(device)
            rows, self.selected = map(int, got[_FOUND].view(np.uint64))
            exact = written_sizes(made.filter, self._plan.output, rows)
            # Nothing keeps the memory of rows that are not there.
            found = got | {slot: got[slot][:size].copy() for slot, size in exact.items()}
        schema, texts = self._plan.output, self._bound.dictionaries
        outputs = list(zip(schema.types, self._plan.roots, strict=True))
        columns = columns_of(made.filter, outputs, found, rows, texts)
        self._batches.append(batch_of(Kept(rows, columns, found[_FOUND]), schema))

    def finish(self) -> list[pa.RecordBatch]:
        """Give the batches, in order."""
        return self._batches


def blocks_of(rows: int) -> int:
    """Give how many blocks look through rows."""
    return min(-(-rows // TILE), _MOST_BLOCKS)


def bests_bytes(made: TopProgram, blocks: int) -> int:
    """Give the bytes of what blocks find."""
    return blocks * made.count * made.entry_bytes


def top_sizes(made: TopProgram, plan: CudaPass, rows: int) -> Sizes:
    """Give the bytes of what leaves the device, by entry."""
    most = min(made.count, rows)
    return {_FOUND: 16} | written_sizes(made.filter, plan.output, most)
