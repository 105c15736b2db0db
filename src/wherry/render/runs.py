"""Rows whose keys ascend, grouped without hashing; and pieces whose keys ascend, put in a row.

runs(context, row, mask, starts, state) -> 0

The first of the rows in `mask` goes to the state at `state`, or to the next one if the lowest bit
of `starts` is set, and so on, a bit of `starts` a row. What a state holds is kept in registers and
written for every row: that costs less than to tell where a run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from llvmlite import ir

from wherry.data.chunk import referenced_bytes
from wherry.kernels.layout import BLOCK, RUN_ROOM
from wherry.kernels.skeletons import skeletons
from wherry.render import functions as fn
from wherry.render.bind import Chunk, bind_slots
from wherry.render.functions import Writer
from wherry.render.loop import (
    I1,
    I64,
    declare,
    element_bytes,
    load,
    store,
    vector,
)
from wherry.render.passes import PassPlan
from wherry.render.room import scratch
from wherry.render.state import Cell, combined, identity, lanes_of, stride
from wherry.render.team import Team, alone, each

_runs = skeletons("runs")

PROBE: Final = 16
"""Blocks whose keys must ascend before code for runs is compiled."""


def write_runs(w: Writer, cells: Sequence[Cell]) -> tuple[bool, ...]:
    """Write `runs`: arguments of a block are computed in lanes, then combined row by row.

    Tells of each cell whether its argument can be null here. One that cannot is not counted: every
    group has a row, and so a value.
    """
    function, head = w.begin("runs", 5, result=False)
    loop = w.loop(function, head)
    found: list[tuple[Cell, Any, list[Any]]] = []
    for cell in cells:
        if cell.argument is None:
            found.append((cell, None, []))
            continue
        value = loop.value(cell.argument)
        known = None if value.valid is None else loop.gather_word(value.valid)
        rooms = []
        for lanes in lanes_of(cell, loop.body, value.data):
            element = lanes.type.element
            room = head.alloca(vector(element, BLOCK))
            room.align = 64
            address = head.ptrtoint(room, I64)
            place = loop.body.mul(loop.lane, ir.Constant(I64, element_bytes(element)))
            store(loop.body, lanes, loop.body.add(address, place))
            rooms.append((address, element))
        found.append((cell, known, rooms))
    after = loop.close()
    words = [None if known is None else known() for _, known, _ in found]
    _each_row(function, after, stride(cells), found, words)
    return tuple(word is not None for word in words)


def _each_row(function: Any, head: Any, width: int, found: Any, words: list[Any]) -> None:
    """Write the loop over the set bits of the mask; it has at least one."""
    block, done = function.append_basic_block("row"), function.append_basic_block("done")
    _, _, mask, starts, state = function.args
    b = ir.IRBuilder(block)
    rest, more, at = (_phi(b, head, value) for value in (mask, starts, state))
    kept = []
    for (cell, _, _), word in zip(found, words, strict=True):
        places = [(cell.offset, I64)] if cell.kind == "count" or word is not None else []
        values = cell.offset + 8
        places += [(values + cell.element_bytes * n, cell.element) for n in range(cell.parts)]
        for place, kind in places:
            before = load(head, head.add(state, ir.Constant(I64, place)), kind)
            kept.append((place, _phi(b, head, before)))
    head.branch(block)
    lane = b.call(
        declare(b.module, "llvm.cttz.i64", ir.FunctionType(I64, [I64, I1])),
        [rest, ir.Constant(I1, 1)],
    )
    fresh = b.trunc(more, I1)
    to = b.select(fresh, b.add(at, ir.Constant(I64, width)), at)
    made = _combined(b, found, words, (lane, fresh), iter(kept))
    for (place, phi), value in zip(kept, made, strict=True):
        store(b, value, b.add(to, ir.Constant(I64, place)))
        phi.add_incoming(value, block)
    less = b.and_(rest, b.sub(rest, ir.Constant(I64, 1)))
    rest.add_incoming(less, block)
    more.add_incoming(b.lshr(more, ir.Constant(I64, 1)), block)
    at.add_incoming(to, block)
    b.cbranch(b.icmp_unsigned("!=", less, ir.Constant(I64, 0)), block, done)
    ir.IRBuilder(done).ret_void()


def _phi(b: Any, head: Any, value: Any) -> Any:
    phi = b.phi(value.type)
    phi.add_incoming(value, head.block)
    return phi


def _combined(b: Any, found: Any, words: list[Any], row: tuple[Any, Any], kept: Any) -> list[Any]:
    """Give counts and values of the state after a row."""
    lane, fresh = row
    one, none = ir.Constant(I64, 1), ir.Constant(I64, 0)
    made = []
    for (cell, _, rooms), word in zip(found, words, strict=True):
        bit = one if word is None else b.and_(b.lshr(word, lane), one)
        if cell.kind == "count" or word is not None:
            made.append(b.add(b.select(fresh, none, next(kept)[1]), bit))
        for address, element in rooms:
            nothing = ir.Constant(cell.element, identity(cell, cell.element))
            before = b.select(fresh, nothing, next(kept)[1])
            size = ir.Constant(I64, element_bytes(element))
            value = load(b, b.add(address, b.mul(lane, size)), element)
            value = fn.widened(cell, b, value)
            if word is not None:
                value = b.select(b.trunc(bit, I1), value, nothing)
            made.append(combined(cell, b, before, value))
    return made


def room_for(words: int) -> np.ndarray[Any, Any]:
    """Give the scratch that the skeletons of runs need."""
    return scratch("runs", words * (BLOCK * 8 + RUN_ROOM) + RUN_ROOM)


def joints(
    plan: PassPlan, pieces: Sequence[pa.RecordBatch], team: Team = alone
) -> list[bool] | None:
    """Tell of each piece but the last whether its last key is the next one's first.

    Parameters
    ----------
    plan : PassPlan
        A pass that merges rows; it reads its keys as they are.
    pieces : sequence of RecordBatch
        None empty.

    Returns
    -------
    list of bool or None
        None if some key does not ascend, or can be null.
    """
    keys = plan.function("keys", frozenset(), lambda w: fn.write_keys(w, plan.keys))
    words: int = keys.made
    edges = np.empty((len(pieces), 2, words), np.int64)
    names = {name for kind, name in keys.slots if kind in {"values", "bits"}}

    def ascends(number: int) -> bool:
        piece = pieces[number]
        columns = {name: piece.column(name) for name in names}
        if any(column.null_count for column in columns.values()):
            return False
        chunk = Chunk(piece.num_rows, columns)
        context = bind_slots(keys.slots, chunk, np.zeros(2, np.int64))
        whole, padded = context.addresses
        return bool(
            _runs.ascending(
                keys.address, whole, chunk.blocks, padded, chunk.rest, words,
                room_for(words).ctypes.data, edges[number].ctypes.data,
            )
        )  # fmt: skip

    if not ascends(0) or not all(each(team, len(pieces), ascends)):
        return None
    lasts, firsts = edges[:-1, 1].tolist(), edges[1:, 0].tolist()
    if any(last > first for last, first in zip(lasts, firsts, strict=True)):
        return None
    return [last == first for last, first in zip(lasts, firsts, strict=True)]


@dataclass(frozen=True, slots=True)
class Chain:
    """Pieces in a row: what lies between joints, and the rows that meet there.

    Attributes
    ----------
    between : list of RecordBatch or None
        In order; None stands for the next group of `meeting`.
    meeting : list of RecordBatch
        The rows of groups that begin in one piece and end in another.
    """

    between: list[pa.RecordBatch | None]
    meeting: list[pa.RecordBatch]


def chain(pieces: Sequence[pa.RecordBatch], joints: Sequence[bool]) -> Chain:
    """Give pieces cut at their joints; nothing is copied."""
    between: list[pa.RecordBatch | None] = []
    meeting: list[pa.RecordBatch] = []
    for piece, before, after in zip(pieces, [False, *joints], [*joints, False], strict=True):
        first, last = int(before), piece.num_rows - int(after)
        if before:
            meeting.append(piece.slice(0, 1))
        if last > first:
            between.append(piece.slice(first, last - first))
        if after and not (before and piece.num_rows == 1):
            between.append(None)
            meeting.append(piece.slice(piece.num_rows - 1))
    return Chain(between, meeting)


def in_a_row(
    plan: PassPlan,
    pieces: Sequence[Any],
    group: Callable[[pa.RecordBatch], pa.RecordBatch],
    team: Team = alone,
) -> tuple[list[pa.RecordBatch], int] | None:
    """Give the groups of pieces by reference if their keys ascend, and how many bytes are new.

    Parameters
    ----------
    plan, pieces
        As for `joints`; None as well if a piece is not written.
    group : callable
        Gives the groups of few rows: those that begin in one piece and end in another.
    """
    if not all(isinstance(piece, pa.RecordBatch) for piece in pieces):
        return None
    joined = joints(plan, pieces, team)
    if joined is None:
        return None
    found = chain(pieces, joined)
    if not found.meeting:
        return list(pieces), 0
    met = group(pa.concat_batches(found.meeting))
    groups = iter(range(met.num_rows))
    row = [met.slice(next(groups), 1) if b is None else b for b in found.between]
    return row, referenced_bytes([met])
