"""Vectors that sum up few groups: what each aggregate keeps in lanes until it goes into a state.

spread(context, row, needed, masks, groups, lanes)   each group's rows of a block into its lanes
fold(lanes, groups, states)                          lanes into states; the lanes begin anew

Arguments are computed once a block, whatever the number of groups. Equal arguments share lanes, and
aggregates whose argument has no nulls share a count. Sums of exact numbers that 64 bits may not
hold are kept in parts of 32 bits, so that lanes of 64 bits do not overflow. Lanes are added up in
the same order in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import ir
from msgspec import Struct, field

from wherry.kernels.layout import BLOCK, LANES
from wherry.render.functions import Writer, add_count, popcount, update
from wherry.render.intervals import INT64
from wherry.render.loop import (
    I64,
    I128,
    Loop,
    Value,
    Variant,
    constant,
    element_bytes,
    flags,
    load,
    store,
    vector,
)
from wherry.render.state import (
    Cell,
    combined,
    identity,
    lanes_of,
    packed,
    reduced,
    values_range,
)

_LONGEST: Final = 1 << 22
"""Blocks after which lanes are folded though nothing is near overflowing: a lane gets 4 values of a
block, so parts of 32 bits stay below 2**56, and 16 lanes of them below 2**60."""
_SHORTEST: Final = 64
"""Folding more often than this would cost more than sums in parts."""
_HALF: Final = (1 << 32) - 1


class Track(Struct, frozen=True):
    """The lanes of one argument of one kind of aggregate, from `offset` on.

    Parameters
    ----------
    cell : Cell
        The first aggregate that they belong to.
    element : ir.Type
        Of a lane.
    parts : int
        Vectors, one behind the other.
    split : bool
        A sum in parts of 32 bits.
    """

    cell: Cell
    element: Any
    parts: int
    split: bool
    offset: int

    @property
    def part_bytes(self) -> int:
        """Give the bytes of one vector."""
        return LANES * element_bytes(self.element)


class Lanes(Struct):
    """How the lanes of a group lie, counts first; complete once `spread` is written.

    Parameters
    ----------
    of : list of (int, int or None)
        By cell: which count it reads, and which track.
    period : int
        Blocks after which lanes must be folded.
    """

    counts: int = 0
    tracks: list[Track] = field(default_factory=list)
    of: list[tuple[int, int | None]] = field(default_factory=list)
    period: int = _LONGEST

    @property
    def stride(self) -> int:
        """Give the bytes of a group."""
        last = self.tracks[-1] if self.tracks else None
        return self.first if last is None else last.offset + last.parts * last.part_bytes

    @property
    def first(self) -> int:
        """Give where the first track lies."""
        return -(-self.counts * 8 // BLOCK) * BLOCK

    def initial(self) -> bytes:
        """Give the lanes before any row."""
        found = bytes(self.first)
        for track in self.tracks:
            value = identity(track.cell, track.element)
            found += packed(track.element, value) * (LANES * track.parts)
        return found


def write_spread(w: Writer, cells: Sequence[Cell]) -> Lanes:
    """Write `spread`; give how the lanes lie that it adds to."""
    function, head = w.begin("spread", 6, result=False)
    loop = w.loop(function, head, function.args[2])
    lanes, rooms, words = Lanes(), list[tuple[Track, list[Any], int]](), list[Any]([None])
    tracks: dict[Any, int] = {}
    counted: dict[Any, int] = {}
    found: list[tuple[Cell, list[Any], int, bool]] = []
    for cell in cells:
        value = Value(None) if cell.argument is None else loop.value(cell.argument)
        if value.valid is not None and cell.argument not in counted:
            counted[cell.argument] = len(words)
            words.append(loop.gather_word(value.valid))
        count = 0 if value.valid is None else counted[cell.argument]
        track = None
        if cell.parts:
            key = cell.kind, cell.argument
            if key not in tracks:
                tracks[key] = len(found)
                vectors, blocks = _vectors(cell, loop, value.data, w.variant)
                lanes.period = min(lanes.period, blocks)
                found.append((cell, vectors, count, _splits(cell, w.variant)))
            track = tracks[key]
        lanes.of.append((count, track))
    lanes.counts = len(words)
    at = lanes.first
    for cell, vectors, count, split in found:
        track_ = Track(cell, vectors[0].type.element, len(vectors), split, at)
        at += track_.parts * track_.part_bytes
        lanes.tracks.append(track_)
        rooms.append((track_, [_kept(loop, head, v) for v in vectors], count))
    loop.prefetch()
    after = loop.close()
    known = [None if word is None else word() for word in words]
    with _each(function, after, function.args[4]) as (b, group, following):
        mask = load(b, b.add(function.args[3], b.mul(group, ir.Constant(I64, 8))), I64)
        some = function.append_basic_block("some")
        b.cbranch(b.icmp_unsigned("!=", mask, ir.Constant(I64, 0)), some, following)
        b.position_at_end(some)
        base = b.add(function.args[5], b.mul(group, ir.Constant(I64, lanes.stride)))
        _add_masked(b, base, [mask if k is None else b.and_(mask, k) for k in known], rooms)
    return lanes


def _splits(cell: Cell, variant: Variant) -> bool:
    return cell.element is I128 and cell.kind == "sum" and _blocks(cell, variant) < _SHORTEST


def _blocks(cell: Cell, variant: Variant) -> int:
    """Give after how many blocks a sum in lanes of 64 bits might be too large for 64 bits."""
    assert cell.argument is not None
    low, high = values_range(cell.argument, variant.bounds)
    return INT64[1] // (BLOCK * max(-low, high, 1))


def _vectors(cell: Cell, loop: Loop, data: Any, variant: Variant) -> tuple[list[Any], int]:
    """Give what is added to the parts of a track, and for how many blocks that is safe."""
    if cell.kind != "sum" or cell.element is not I128:
        return lanes_of(cell, loop.body, data), _LONGEST
    if not _splits(cell, variant):
        return [data], min(_blocks(cell, variant), _LONGEST)
    b, half, shift = loop.body, constant(I64, _HALF), constant(I64, 32)
    if data.type.element is I64:
        return [b.and_(data, half), b.ashr(data, shift)], _LONGEST
    low = b.trunc(data, vector(I64))
    high = b.trunc(b.ashr(data, constant(I128, 64)), vector(I64))
    parts = [b.and_(low, half), b.lshr(low, shift)]
    upper = [high] if cell.parts == 1 else [b.and_(high, half), b.ashr(high, shift)]
    return [*parts, *upper], _LONGEST


def _kept(loop: Loop, head: Any, lanes: Any) -> Any:
    """Keep the vectors of a block in memory; give where."""
    room = head.alloca(vector(lanes.type.element, BLOCK))
    room.align = 64
    address = head.ptrtoint(room, I64)
    size = ir.Constant(I64, element_bytes(lanes.type.element))
    store(loop.body, lanes, loop.body.add(address, loop.body.mul(loop.lane, size)))
    return address


@contextmanager
def _each(function: Any, head: Any, count: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Write a loop over `count` groups: builder, group, and the block to go on with the next."""
    names = ("group", "next", "done")
    block, following, done = (function.append_basic_block(n) for n in names)
    head.cbranch(head.icmp_unsigned("!=", count, ir.Constant(I64, 0)), block, done)
    b = ir.IRBuilder(block)
    group = b.phi(I64, "group")
    group.add_incoming(ir.Constant(I64, 0), head.block)
    yield b, group, following
    b.branch(following)
    b.position_at_end(following)
    more = b.add(group, ir.Constant(I64, 1))
    group.add_incoming(more, following)
    b.cbranch(b.icmp_unsigned("<", more, count), block, done)
    ir.IRBuilder(done).ret_void()


def _add_masked(b: Any, base: Any, masks: list[Any], rooms: Sequence[Any]) -> None:
    for number, mask in enumerate(masks):
        add_count(b, b.add(base, ir.Constant(I64, 8 * number)), popcount(b, mask))
    bits = [
        [flags(b, b.trunc(b.lshr(m, ir.Constant(I64, q)), ir.IntType(LANES))) for m in masks]
        for q in range(0, BLOCK, LANES)
    ]
    for track, places, count in rooms:
        kind = vector(track.element)
        for part, room in enumerate(places):
            at = b.add(base, ir.Constant(I64, track.offset + part * track.part_bytes))
            sums = load(b, at, kind)
            for quarter, chosen in enumerate(bits):
                place = b.add(room, ir.Constant(I64, quarter * track.part_bytes))
                added = combined(track.cell, b, sums, load(b, place, kind))
                sums = b.select(chosen[count], added, sums)
            store(b, sums, at)


def write_fold(w: Writer, cells: Sequence[Cell], lanes: Lanes, stride: int) -> None:
    """Write `fold` for lanes that lie as `lanes` says and states of `stride` bytes."""
    function, head = w.begin("fold", 3, result=False)
    with _each(function, head, function.args[1]) as (b, group, _):
        base = b.add(function.args[0], b.mul(group, ir.Constant(I64, lanes.stride)))
        state = b.add(function.args[2], b.mul(group, ir.Constant(I64, stride)))
        counts = [load(b, b.add(base, ir.Constant(I64, 8 * n)), I64) for n in range(lanes.counts)]
        values = [_folded(b, base, track) for track in lanes.tracks]
        for cell, (count, place) in zip(cells, lanes.of, strict=True):
            at = b.add(state, ir.Constant(I64, cell.offset))
            add_count(b, at, counts[count])
            for part, value in enumerate(() if place is None else values[place]):
                update(cell, b, at, part, value)
        for number in range(lanes.counts):
            store(b, ir.Constant(I64, 0), b.add(base, ir.Constant(I64, 8 * number)))
        for track in lanes.tracks:
            nothing = constant(track.element, identity(track.cell, track.element))
            for part in range(track.parts):
                place = ir.Constant(I64, track.offset + part * track.part_bytes)
                store(b, nothing, b.add(base, place))


def _folded(b: Any, base: Any, track: Track) -> list[Any]:
    """Give the values of a track as the parts of its cells' states."""
    cell, vectors = track.cell, []
    for part in range(track.parts):
        place = ir.Constant(I64, track.offset + part * track.part_bytes)
        vectors.append(load(b, b.add(base, place), vector(track.element)))
    if not track.split:
        return [reduced(cell, b, v) for v in vectors]
    # Sums of parts of 32 bits are below 2**63; what is left of the highest may wrap as 128 bits do.
    sums = [b.sext(reduced(cell, b, v, I64), I128) for v in vectors]
    joined = [b.add(sums[0], b.shl(sums[1], ir.Constant(I128, 32)))]
    if track.parts == 3:
        return [b.add(joined[0], b.shl(sums[2], ir.Constant(I128, 64)))]
    if track.parts == 4:
        joined.append(b.add(sums[2], b.shl(sums[3], ir.Constant(I128, 32))))
    return joined
