"""Groups by keys of any number, in a hash table: a program around `kernels/cuda/hashed.cu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Refused
from wherry.devices.accelerator import Block
from wherry.ir.expr import Call, Column, Node
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Groups
from wherry.ir.text import call_text
from wherry.render.cuda.answers import read_cells
from wherry.render.cuda.bind import Bound, Piece
from wherry.render.cuda.columns import Bytes
from wherry.render.cuda.expressions import stored_code, value
from wherry.render.cuda.filter import (
    BLOCK,
    FilterProgram,
    given_text,
    keep_rows,
    write_text,
)
from wherry.render.cuda.program import (
    CudaPass,
    CudaProgram,
    called,
    program_of,
    tests_text,
)
from wherry.render.cuda.state import Cell, argument, halves, in_halves
from wherry.render.cuda.values import Body, Frame, Value, ctype_of
from wherry.render.loop import Variant

_OWN: Final = (
    ("rows", "i64"),
    ("bits", "u32*"),
    ("counts", "u32*"),
    ("offsets", "u64*"),
    ("mask", "u64"),
    ("probes", "u64"),
    ("full", "u32*"),
    ("owners", "u64*"),
    ("firsts", "u64*"),
    ("places", "i64*"),
    ("states", "u64*"),
    ("made", "u64*"),
)
_BEGIN: Final = 1 << 18
"""Places of a table for keys of which nothing is known: it lies in a cache."""
_GROWTH: Final = 8
_PROBES: Final = 128
"""Places looked at before a table that may be too small is; of one half full few need so many."""
_SIGN: Final = np.uint64(1 << 63)


class Word(Struct, frozen=True):
    """A word of a state, or two of a sum of 128 bits; `ctype` is that of the value."""

    begin: int
    kind: str
    ctype: str


class Words(Struct, frozen=True):
    """What the states of groups hold, by name; all begin at 0."""

    size: int
    words: dict[str, Word]
    cells: tuple[Cell, ...]

    def read(self, states: Bytes) -> Read:
        """Give states, which are bytes, by the names of what they hold."""
        return Read(self.words, states.view(np.uint64).reshape(-1, self.size))


class Read(Struct, frozen=True):
    """States, which are rows of words."""

    words: dict[str, Word]
    states: np.ndarray[Any, np.dtype[np.uint64]]

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        """Give one value of all states; of 128 bits two uint64."""
        word = self.words[name]
        if word.ctype == "i128":
            return self.states[:, word.begin : word.begin + 2]
        held = self.states[:, word.begin]
        if word.kind == "sum":
            return held.view(np.int64) if word.ctype == "i64" else held
        held = ~held if word.kind == "min" else held
        if word.ctype == "i64":
            return (held ^ _SIGN).view(np.int64)
        if word.ctype == "double":
            return np.where(held >> np.uint64(63), held ^ _SIGN, ~held).view(np.float64)
        return held


class HashedProgram(Struct, frozen=True):
    """A program that groups: what it writes of keys, and what its states hold.

    Attributes
    ----------
    most : int or None
        How many groups there can be as statistics have it, if they say it.
    """

    filter: FilterProgram
    words: Words
    most: int | None

    @property
    def program(self) -> CudaProgram:
        """Give the program."""
        return self.filter.program


def render_hashed(plan: CudaPass, variant: Variant, most: int | None = None) -> HashedProgram:
    """Give the program of a pass whose sink is Groups, of keys of any number.

    Raises
    ------
    Refused
        If an aggregate depends on the order of rows, or needs more than integer atomics; with every
        reason.
    """
    assert isinstance(plan.step.sink, Groups)
    reasons = [reason for pair in called(plan) if (reason := _refuse(*pair, variant)) is not None]
    if reasons:
        raise Refused("the groups do not fit on chip, and cannot be hashed", tuple(reasons))
    frame, keys = Frame(), plan.roots[: len(plan.step.sink.keys)]
    for kind, ctype in _OWN:
        frame.entry(kind, "", ctype)
    tests = tests_text(frame, variant, plan.predicate, "passing_rows")
    words, collect = _collect_text(frame, variant, called(plan))
    copies = [
        f"c.made[at * {words.size} + {k}] = c.states[c.places[row] * {words.size} + {k}];"
        for k in range(words.size)
    ]
    write, outputs = write_text(frame, variant, keys, copies)
    key = _key_text(frame, variant, keys)
    given = given_text(frame, outputs, tested=True)
    sizes = f"constexpr int STATE_WORDS = {words.size};"
    parts = [tests, key, sizes, collect, write, *given]
    program = program_of(frame, parts, ["hashed", "filter"])
    return HashedProgram(FilterProgram(program, outputs, tested=True), words, most)


def _refuse(call: Call, node: Node | None, variant: Variant) -> str | None:
    if call.kind == "count" or node is None:
        return None
    ctype = ctype_of(node, variant)
    if call.kind == "sum" and ctype in {"float", "double"}:
        return f"{call_text(call)}: floats would be added in no fixed order"
    if call.kind != "sum" and ctype == "i128":
        return f"{call_text(call)}: 128 bits are not compared in one step"
    return None


def _key_text(frame: Frame, variant: Variant, keys: Sequence[Node]) -> str:
    """Give Key, key_at, same and hash: words that are equal where keys are; the last has nulls."""
    body, words, nulls = Body(frame, variant), list[str](), ["0ull"]
    for number, node in enumerate(keys):
        found, images = _key(node, body, variant)
        if found.valid is not None:
            nulls.append(f"(u64)!{found.valid} << {number}")
            images = [f"({found.valid} ? {image} : 0ull)" for image in images]
        words += images
    words.append(" | ".join(nulls))
    stores = [f"key.words[{k}] = {word};" for k, word in enumerate(words)]
    body.lines += ["Key key;", *stores, "return key;"]
    every = range(len(words))
    return "\n".join(
        [
            f"struct Key {{\n  u64 words[{len(words)}];\n}};",
            body.reader("key"),
            "DEVICE Key key_of(const Context& c, const i64 row, const Read_key& r) {",
            f"{body.text}}}",
            "DEVICE bool same(const Key& a, const Key& b) {",
            f"  return {' && '.join(f'a.words[{k}] == b.words[{k}]' for k in every)};\n}}",
            "DEVICE u64 hash(const Key& key) {\n  u64 found = 0;",
            *(f"  found = mixed(found * 31 + key.words[{k}] + {k + 1});" for k in every),
            "  return found;\n}",
        ]
    )


def _key(node: Node, body: Body, variant: Variant) -> tuple[Value, list[str]]:
    t = type_of(node)
    if pa.types.is_dictionary(t):
        assert isinstance(node, Column)
        found = stored_code(node.name, t.index_type, body)
        return found, [f"(u64){found.data}"]
    found = value(node, body)
    match ctype_of(node, variant):
        case "i128":
            return found, [f"(u64){found.data}", f"(u64)({found.data} >> 64)"]
        case "float" | "double":
            # Both zeros are one key, and so are all NaN.
            number = body.name("double", f"{found.data} == 0 ? 0.0 : (double){found.data}")
            return found, [f"({number} == {number} ? bits_of({number}) : ~0ull)"]
    return found, [f"(u64){found.data}"]


def _collect_text(
    frame: Frame, variant: Variant, calls: Sequence[tuple[Call, Node | None]]
) -> tuple[Words, str]:
    """Give the words of a state and `collect(c, row, state)`, which changes them atomically."""
    body, lines, cells = Body(frame, variant), ["atomicAdd(state, 1ull);"], list[Cell]()
    words, size = {"rows": Word(0, "sum", "i64")}, 1
    for number, (call, node) in enumerate(calls):
        found = None if node is None else argument(call, node, body)
        count, held = None, list[str]()
        if found is not None and found.valid is not None:
            count = f"count_{number}"
            words[count] = Word(size, "sum", "i64")
            lines.append(f"if ({found.valid}) atomicAdd(state + {size}, 1ull);")
            size += 1
        if found is not None and node is not None and call.kind != "count":
            apart = in_halves(call, node, variant.bounds)
            when = "" if found.valid is None else f"if ({found.valid}) "
            for part, each in enumerate(halves(found) if apart else [found]):
                held.append(f"value_{number}_{part}")
                word = words[held[part]] = _word(size, call, node, ctype_of(node, variant))
                lines.append(when + _changed(word, each.data))
                size += 2 if word.ctype == "i128" else 1
        value, high = (*held, None, None)[:2]
        cells.append(Cell(call, call_type(call), value, count, high))
    text = "\n".join(f"  {line}" for line in [*body.lines, *lines])
    head = (
        "DEVICE void collect(const Context& c, const i64 row, const Read_collect& r, u64* state) {"
    )
    whole = f"{body.reader('collect')}\n{head}\n{text}\n}}"
    return Words(size, words, tuple(cells)), whole


def _word(begin: int, call: Call, node: Node, ctype: str) -> Word:
    if call.kind == "sum" and pa.types.is_decimal(type_of(node)):
        return Word(begin, "sum", "i128")
    held = "double" if ctype in {"float", "double"} else "u64" if ctype[0] == "u" else "i64"
    return Word(begin, call.kind, held)


def _changed(word: Word, data: str) -> str:
    """Give the statement that adds a value to a word; a NaN is neither least nor greatest."""
    place = f"state + {word.begin}"
    if word.kind == "sum":
        wide = word.ctype == "i128"
        return f"add_wide({place}, {data});" if wide else f"atomicAdd({place}, (u64){data});"
    image = f"ordered(({word.ctype}){data})"
    image = f"~{image}" if word.kind == "min" else image
    unless = f"if ({data} == {data}) " if word.ctype == "double" else ""
    return f"{unless}atomicMax({place}, {image});"


class HashedWork:
    """A row for each group of the rows of each piece that pass, in order of first appearance.

    A table begins as large as groups were before, or may be; it grows, and all is done again, while
    it is too small. At most it has twice as many places as there are rows, or four times.
    """

    def __init__(self, made: HashedProgram, plan: CudaPass, bound: Bound) -> None:
        self._made, self._plan, self._bound = made, plan, bound
        assert isinstance(plan.step.sink, Groups)
        keys = range(len(plan.step.sink.keys))
        self._keys = pa.schema([plan.output.field(k) for k in keys])
        self._batches: list[pa.RecordBatch] = []
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Group a piece; when this returns its groups have left the device.

        Raises
        ------
        InputError
            If a sum of decimals needs more than 38 digits.
        """
        words, known, full = self._made.words, self._bound.learned, most_places(piece.rows)
        places = min(full, known.get("places") or places_for(self._made.most))
        table = self._inserted(piece, places, full)
        while table is None:
            places = min(places * _GROWTH, full)
            table = self._inserted(piece, places, full)
        known["places"] = places
        made, roots = self._made.filter, self._plan.roots
        kept = keep_rows(made, piece, self._keys, roots, (("made", ""), words.size * 8))
        states = words.read(kept.beside)
        self.selected += int(states["rows"].sum())
        columns = [*kept.columns, *read_cells(words.cells, states)]
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self._plan.output))

    def _inserted(self, piece: Piece, places: int, full: int) -> list[Block] | None:
        """Give the table with all rows in it, or None if it is too small for them."""
        device, rows, blocks = self._bound.device, piece.rows, list[Block]()
        for kind, size in table_sizes(self._made, rows, places).items():
            blocks.append(device.room(size) if kind == "places" else device.zeros(size))
            piece.put(kind, blocks[-1].address)
        flag = blocks[-1]
        piece.put("mask", places - 1)
        piece.put("probes", places if places == full else _PROBES)
        if rows:
            grid = -(-rows // (BLOCK * 8))
            self._bound.launch("insert_pass", grid, BLOCK, piece.context)
        if places < full and device.get(flag.address, flag.nbytes).any():
            return None
        return blocks

    def finish(self) -> list[pa.RecordBatch]:
        """Give the batches, in order."""
        return self._batches


def places_for(groups: int | None) -> int:
    """Give the places of a table for so many groups, or for any number."""
    return _BEGIN if groups is None else 2 << max(groups - 1, 0).bit_length()


def most_places(rows: int) -> int:
    """Give the places of a table that is large enough for any rows."""
    return places_for(rows)


def table_sizes(made: HashedProgram, rows: int, places: int) -> dict[str, int]:
    """Give the bytes of a table's parts, by entry; the last says that it is too small."""
    return {
        "owners": places * 8,
        "firsts": places * 8,
        "states": places * made.words.size * 8,
        "places": max(rows, 1) * 8,
        "full": 8,
    }
