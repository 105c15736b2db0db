"""Code that combines the rows of runs: of rows that follow each other and have the same key.

runs(context, row, mask, starts, columns) -> 0

The rows in `mask` are those of one group after another: a bit of `starts` a row says that another
group begins. `columns` is the address of int64: how many groups there are so far, then where each
field of their states lies, a column each. Sums of a run are added as a tree over eight rows at a
time: one by one, each would wait for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir
from msgspec import Struct

from wherry.kernels.layout import BLOCK
from wherry.render import functions as fn
from wherry.render.functions import Writer
from wherry.render.loop import (
    I1,
    I32,
    I64,
    I128,
    Value,
    constant,
    declare,
    element_bytes,
    flags,
    load,
    store,
    vector,
)
from wherry.render.state import Cell, combined, identity, lanes_of, suffix

_AT_ONCE: Final = 8
_BYTE: Final = ir.IntType(8)


class Track(Struct, frozen=True):
    """A field of the states: what is combined, and how.

    Parameters
    ----------
    offset : int
        Of the field in a state.
    cell : Cell
        What the field belongs to.
    counts : bool
        The field is the cell's count.
    element : ir.Type
        Of the field.
    """

    offset: int
    cell: Cell
    counts: bool
    element: Any

    @property
    def nbytes(self) -> int:
        """Give the bytes of the field."""
        return element_bytes(self.element)

    def combined(self, b: Any, left: Any, right: Any) -> Any:
        """Give two values, or vectors, as one."""
        return b.add(left, right) if self.counts else combined(self.cell, b, left, right)

    def nothing(self, element: Any) -> float:
        """Give the value that changes nothing."""
        return 0 if self.counts else identity(self.cell, element)


class Runs(Struct, frozen=True):
    """What `runs` writes: its fields in order, and of which cells it counts the values.

    A cell whose argument cannot be null is not counted: every group has a row, and so a value.
    """

    tracks: tuple[Track, ...]
    counted: tuple[bool, ...]


def write_runs(w: Writer, cells: Sequence[Cell]) -> Runs:
    """Write `runs`: arguments of a block are computed in lanes, then combined run by run."""
    function, head = w.begin("runs", 5, result=False)
    loop = w.loop(function, head)
    found: list[tuple[Track, Any]] = []
    counted = []

    def keep(track: Track, lanes: Any) -> None:
        element = lanes.type.element
        room = head.alloca(vector(element, BLOCK))
        room.align = 64
        address = head.ptrtoint(room, I64)
        place = loop.body.mul(loop.lane, ir.Constant(I64, element_bytes(element)))
        store(loop.body, lanes, loop.body.add(address, place))
        found.append((track, (address, element)))

    for cell in cells:
        value = Value(None) if cell.argument is None else loop.value(cell.argument)
        known = None if value.valid is None else flags(loop.body, value.valid)
        counted.append(known is not None)
        if cell.kind == "count" or known is not None:
            one = constant(I64, 1)
            ones = one if known is None else loop.body.zext(known, vector(I64))
            keep(Track(cell.offset, cell, counts=True, element=I64), ones)
        for part, given in enumerate(lanes_of(cell, loop.body, value.data)):
            offset, lanes = cell.offset + 8 + part * cell.element_bytes, given
            track = Track(offset, cell, counts=False, element=cell.element)
            if known is not None:
                nothing = track.nothing(lanes.type.element)
                lanes = loop.body.select(known, lanes, constant(lanes.type.element, nothing))
            keep(track, lanes)
    loop.prefetch()
    b = loop.close()
    columns = function.args[4]
    places = [load(b, b.add(columns, ir.Constant(I64, 8 * n + 8)), I64) for n in range(len(found))]
    groups = load(b, columns, I64)
    tracks = [(t, room, place) for (t, room), place in zip(found, places, strict=True)]
    # No processor has vectors of 128-bit numbers: those are added one by one.
    narrow = [each for each in tracks if each[0].element is not I128]
    b = _together(function, b, narrow, groups) if narrow else b
    b = _one_by_one(function, b, [t for t in tracks if t[0].element is I128], groups)
    b.ret_void()
    return Runs(tuple(track for track, _ in found), tuple(counted))


def _together(function: Any, b: Any, tracks: Any, groups: Any) -> Any:
    """Combine runs of eight rows at a time; give the builder to go on with."""
    mask, starts = function.args[2], function.args[3]
    b = _packed(function, b, mask, [room for _, room, _ in tracks])
    one = ir.Constant(I64, 1)
    rows = fn.popcount(b, mask)
    ends = b.or_(b.lshr(starts, one), b.shl(one, b.sub(rows, one)))
    # A row is combined with those before it in its run: 1 before, then 2 more, then 4 more.
    steps, reach = [], starts
    for distance in (1, 2, 4):
        steps.append(b.or_(reach, ir.Constant(I64, 0x0101010101010101 * ((1 << distance) - 1))))
        reach = b.or_(reach, b.shl(reach, ir.Constant(I64, distance)))
    before = b.sub(groups, one)
    block, done = function.append_basic_block("eight"), function.append_basic_block("combined")
    first = b.add(before, b.and_(starts, one))
    carried = [
        _splat(b, load(b, _at(b, place, before, track.nbytes), track.element))
        for track, _, place in tracks
    ]
    head, b = b, ir.IRBuilder(block)
    row, group, *carries = (
        _phi(b, head, v) for v in (ir.Constant(I64, 0), first, *carried)
    )  # fmt: skip
    head.branch(block)

    def byte(word: Any) -> Any:
        return b.trunc(b.lshr(word, row), ir.IntType(_AT_ONCE))

    def chosen(bits: Any) -> Any:
        return b.bitcast(bits, vector(I1, _AT_ONCE))

    own = [chosen(byte(step)) for step in steps]
    begun, last = byte(starts), byte(ends)
    continued = chosen(b.and_(b.sub(begun, ir.Constant(begun.type, 1)), b.not_(begun)))
    for (track, (room, element), place), carry in zip(tracks, carries, strict=True):
        v = load(b, _at(b, room, row, element_bytes(element)), vector(element, _AT_ONCE))
        if track.element is not element:
            v = b.sext(v, vector(track.element, _AT_ONCE))
        if track.cell.kind == "sum" and not isinstance(track.element, ir.IntType):
            # Sums begin at 0.0, so that -0.0 alone makes 0.0.
            v = track.combined(b, v, _every(track.element, track.nothing(track.element)))
        for distance, alone in zip((1, 2, 4), own, strict=True):
            moved = _shuffled(b, v, [max(0, lane - distance) for lane in range(_AT_ONCE)])
            v = b.select(alone, v, track.combined(b, moved, v))
        v = b.select(continued, track.combined(b, carry, v), v)
        carry.add_incoming(_shuffled(b, v, [_AT_ONCE - 1] * _AT_ONCE), block)
        store(b, _compressed(b, v, chosen(last)), _at(b, place, group, track.nbytes))
    following = b.add(row, ir.Constant(I64, _AT_ONCE))
    row.add_incoming(following, block)
    group.add_incoming(b.add(group, fn.popcount(b, b.zext(last, I64))), block)
    b.cbranch(b.icmp_unsigned("<", following, rows), block, done)
    return ir.IRBuilder(done)


def _packed(function: Any, b: Any, mask: Any, rooms: Sequence[Any]) -> Any:
    """Put the values of the rows in `mask` side by side; give the builder to go on with."""
    block, done = function.append_basic_block("pack"), function.append_basic_block("packed")
    some = b.icmp_signed("!=", mask, ir.Constant(I64, -1))
    b.cbranch(some, block, done)
    head, b = b, ir.IRBuilder(block)
    row, to = (_phi(b, head, ir.Constant(I64, 0)) for _ in range(2))
    bits = b.trunc(b.lshr(mask, row), ir.IntType(_AT_ONCE))
    for room, element in rooms:
        size = element_bytes(element)
        v = load(b, _at(b, room, row, size), vector(element, _AT_ONCE))
        kept = _compressed(b, v, b.bitcast(bits, vector(I1, _AT_ONCE)))
        store(b, kept, _at(b, room, to, size))
    following = b.add(row, ir.Constant(I64, _AT_ONCE))
    row.add_incoming(following, block)
    to.add_incoming(b.add(to, fn.popcount(b, b.zext(bits, I64))), block)
    b.cbranch(b.icmp_unsigned("<", following, ir.Constant(I64, BLOCK)), block, done)
    return ir.IRBuilder(done)


def _one_by_one(function: Any, b: Any, tracks: Any, groups: Any) -> Any:
    """Combine row by row; give the builder to go on with. There is at least one row."""
    if not tracks:
        return b
    mask, starts = function.args[2], function.args[3]
    before = b.sub(groups, ir.Constant(I64, 1))
    block, done = function.append_basic_block("row"), function.append_basic_block("done")
    kept = [load(b, _at(b, place, before, t.nbytes), t.element) for t, _, place in tracks]
    head, b = b, ir.IRBuilder(block)
    rest, more, group, *values = (_phi(b, head, v) for v in (mask, starts, before, *kept))
    head.branch(block)
    one = ir.Constant(I64, 1)
    kind = ir.FunctionType(I64, [I64, I1])
    lane = b.call(declare(b.module, "llvm.cttz.i64", kind), [rest, ir.Constant(I1, 1)])
    fresh = b.trunc(more, I1)
    to = b.add(group, b.and_(more, one))
    for (track, (room, element), place), carried in zip(tracks, values, strict=True):
        nothing = ir.Constant(track.element, track.nothing(track.element))
        value = load(b, _at(b, room, lane, element_bytes(element)), element)
        value = fn.widened(track.cell, b, value)
        value = track.combined(b, b.select(fresh, nothing, carried), value)
        store(b, value, _at(b, place, to, track.nbytes))
        carried.add_incoming(value, block)
    less = b.and_(rest, b.sub(rest, one))
    rest.add_incoming(less, block)
    more.add_incoming(b.lshr(more, one), block)
    group.add_incoming(to, block)
    b.cbranch(b.icmp_unsigned("!=", less, ir.Constant(I64, 0)), block, done)
    return ir.IRBuilder(done)


def _at(b: Any, address: Any, number: Any, size: int) -> Any:
    return b.add(address, b.mul(number, ir.Constant(I64, size)))


def _phi(b: Any, head: Any, value: Any) -> Any:
    phi = b.phi(value.type)
    phi.add_incoming(value, head.block)
    return phi


def _every(element: Any, value: float) -> Any:
    """Give a vector of eight with `value` in every lane."""
    return ir.Constant(vector(element, _AT_ONCE), [value] * _AT_ONCE)


def _shuffled(b: Any, v: Any, lanes: list[int]) -> Any:
    return b.shuffle_vector(v, v, ir.Constant(vector(I32, _AT_ONCE), lanes))


def _splat(b: Any, value: Any) -> Any:
    unset = ir.Constant(vector(value.type, _AT_ONCE), ir.Undefined)
    return _shuffled(b, b.insert_element(unset, value, ir.Constant(I32, 0)), [0] * _AT_ONCE)


def _compressed(b: Any, v: Any, chosen: Any) -> Any:
    """Give the chosen lanes of eight side by side, from the first lane on."""
    if v.type.element == _BYTE:
        # LLVM ends the process over eight lanes of a byte where AVX-512 compresses bytes.
        wide = _compressed(b, b.zext(v, vector(ir.IntType(16), _AT_ONCE)), chosen)
        return b.trunc(wide, v.type)
    name = f"llvm.experimental.vector.compress.{suffix(v.type)}"
    kind = ir.FunctionType(v.type, [v.type, chosen.type, v.type])
    return b.call(declare(b.module, name, kind), [v, chosen, ir.Constant(v.type, ir.Undefined)])
