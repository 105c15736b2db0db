"""Many groups whose keys lie in a known domain: a key is the number of its state.

Where all chunks meet it is known between what the keys lie, by statistics or by a look at them. If
there are not many more slots than rows, no key is hashed, searched for or stored.

Sketch, for 6 million rows of a key and a value: up to 200 thousand slots have 1.6 MB of states,
which stay in the second-level cache; rows are added where they lie (`_addressed`). Of 6 million
slots, rows are dealt into partitions whose states stay there: 16 bytes a row, written once and read
once (`_partitioned`).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Column
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render import functions as fn
from wherry.render.bind import Chunk, bind_slots
from wherry.render.dealt import Dealt, deal_slots
from wherry.render.domains import addresses, seen, slots_in, with_domains
from wherry.render.encode import Domain, slot_arrays
from wherry.render.intervals import Bounds
from wherry.render.loop import Variant
from wherry.render.ordered import Ordered, Part
from wherry.render.partitioned import merge_hashed, piece_table
from wherry.render.passes import Extra, PassPlan
from wherry.render.room import scratch
from wherry.render.state import dense, layout, read
from wherry.render.team import Team, alone, each
from wherry.render.waiting import Waiting

_slots = skeletons("slots")

_MOST: Final = 1 << 31
"""Slots that 32 bits number."""
_SLOTS_A_ROW: Final = 4
"""More of them, and beginning and reading states costs more than searching for keys."""
_NEAR: Final = 2 << 20
"""Bytes of states that stay in the second-level cache, if nothing else is there."""
_PART: Final = 1 << 20
"""Bytes of a partition's states, which share the cache with its records."""
_MOST_PARTS: Final = 256
"""Partitions; the records gathered for more would leave the first-level cache."""
_LEAST_PARTS: Final = 16
"""Partitions, so that threads have something to share."""
_ROWS_A_SLOT: Final = 8
"""Rows of a strand for each slot of its states, so that joining them is a small part."""
_STRANDS: Final = 2
"""Each costs a pass over all slots; more threads than that are not used where rows lie."""
_PIECE: Final = 1 << 15
"""Slots or groups that a thread takes at a time."""

Array = np.ndarray[Any, Any]


class _Outside(Exception):
    """A key is not in its domain: what was said of it is wrong."""


class _Task(Struct, frozen=True):
    """Rows of chunks to be grouped, by the slots of their keys."""

    pieces: Sequence[Waiting]
    chunks: Sequence[Chunk]
    domains: tuple[Domain, ...]
    nullable: frozenset[str]
    merge: PassPlan
    pool: SegmentPool
    team: Team

    @property
    def plan(self) -> PassPlan:
        """Give the pass that reads the rows."""
        return self.pieces[0].plan

    @property
    def slots(self) -> int:
        """Give how many slots there are."""
        return slots_in(self.domains)

    @property
    def single(self) -> bool:
        """Tell whether there is one key, and it is an integer as its slot is."""
        return len(self.domains) == 1 and not pa.types.is_boolean(self.domains[0].type)

    @property
    def named(self) -> int:
        """Give what the first slot is called: slots of a single key are called as the key is."""
        return self.domains[0].low if self.single else 0


def merge(
    pieces: Sequence[Dealt | Waiting | pa.RecordBatch],
    plan: PassPlan,
    pool: SegmentPool,
    team: Team = alone,
) -> tuple[pa.RecordBatch, int]:
    """Give what `merge_hashed` gives of the same: by slots where the keys have a known domain."""
    waiting = [piece for piece in pieces if isinstance(piece, Waiting)]
    # Chunks of one program are read by one pass; what was stored before may differ.
    if len(waiting) == len(pieces) and all(p.plan is waiting[0].plan for p in waiting):
        # Statistics may lie about what is stored: rows are held against them, then looked at.
        for bounds in (waiting[0].plan.bounds, {}):
            task = _task(waiting, bounds, plan, (pool, team))
            if task is None:
                break
            try:
                return _grouped(task)
            except _Outside:
                continue
    return merge_hashed(pieces, plan, pool, team)


def _task(
    pieces: Sequence[Waiting], bounds: Bounds, merge: PassPlan, how: tuple[SegmentPool, Team]
) -> _Task | None:
    """Give what is to be done; None if the domain of the keys is unknown or too large."""
    pool, team = how
    domains = _domains(pieces, bounds, team)
    if domains is None:
        return None
    nullable = frozenset[str]().union(*(piece.nullable for piece in pieces))
    chunks = [with_domains(piece.chunk, domains) for piece in pieces]
    return _Task(pieces, chunks, domains, nullable, merge, pool, team)


def _domains(pieces: Sequence[Waiting], bounds: Bounds, team: Team) -> tuple[Domain, ...] | None:
    """Give the domains of the keys, by `bounds` of columns if they say; None if too large."""
    rows = sum(piece.num_rows for piece in pieces)
    most, found = min(_MOST, _SLOTS_A_ROW * rows), list[Domain]()
    for key in pieces[0].plan.keys:
        t = type_of(key)
        if pa.types.is_boolean(t):
            found.append(Domain(0, 2, t))
        elif not isinstance(key, Column) or not addresses(t):
            return None
        elif key.name in bounds:
            low, high = bounds[key.name]
            found.append(Domain(low, high - low + 1, t))
        else:
            found.append(_met(pieces, key.name, team))
        if slots_in(found) > most:
            return None
    return tuple(found)


def _met(pieces: Sequence[Waiting], name: str, team: Team) -> Domain:
    """Give between what the values of a column lie, in all chunks."""
    columns = [piece.chunk.columns[name] for piece in pieces]
    found = each(team, len(columns), lambda number: seen(columns[number], len(columns[number])))
    low = min(domain.low for domain in found)
    high = max(domain.low + domain.size for domain in found)
    return Domain(low, high - low, columns[0].type)


def _grouped(task: _Task) -> tuple[pa.RecordBatch, int]:
    """Give the groups, and the bytes of records made.

    Raises
    ------
    _Outside
        If a key is not in its domain.
    """
    rows = sum(piece.num_rows for piece in task.pieces)
    add = task.plan.function(
        "add", task.nullable, lambda w: fn.write_add(w, layout(task.plan.calls, w.variant))
    )
    near = task.slots * len(add.made[1]) <= _NEAR
    if near and rows >= _STRANDS * _ROWS_A_SLOT * task.slots:
        return _addressed(task, add), 0
    return _partitioned(task, len(add.made[1]))


class _Strand(Struct, frozen=True):
    """Rows of neighbouring chunks, added: a state for each slot, and slots as they were met."""

    states: Array
    order: Array
    groups: int


def _addressed(task: _Task, add: Extra) -> pa.RecordBatch:
    """Group rows where they lie: strands of chunks beside each other, each with its own states."""
    cells, begin, counted = add.made
    plan, slots, width = task.plan, task.slots, len(begin)
    keys = plan.function(
        "slots", task.nullable, lambda w: fn.write_slots(w, plan.keys, "slots"), add
    )
    initial = np.frombuffer(begin, np.uint8)
    # How many there are shows in how sums are rounded: not threads, but the rows alone decide it.
    strands = min(_STRANDS, len(task.chunks))
    edges = [len(task.chunks) * number // strands for number in range(strands + 1)]

    def follow(number: int) -> _Strand:
        states = _bytes(task.pool, slots * width)
        order = _bytes(task.pool, 4 * (slots + 1)).view(np.int32)
        met, ids = np.zeros((slots + 63) // 64, np.int64), scratch("ids", 8 * BLOCK)
        _slots.begin(states.ctypes.data, width, slots, initial.ctypes.data)
        groups = 0
        for place in range(edges[number], edges[number + 1]):
            piece, chunk = task.pieces[place], task.chunks[place]
            context = bind_slots(keys.slots, chunk, piece.literals)
            whole, padded = context.addresses
            groups = _slots.address(
                keys.address, add.address, whole, chunk.blocks, padded, chunk.rest,
                0 if piece.chosen is None else piece.chosen.ctypes.data, slots, met.ctypes.data,
                order.ctypes.data, groups, states.ctypes.data, ids.ctypes.data,
            )  # fmt: skip
            if groups < 0:
                raise _Outside
        return _Strand(states, order, groups)

    found = each(task.team, strands, follow)
    order = _joined_orders(found, slots, task.pool)
    _join(task, found, (cells, width, counted))
    states = _AtSlots(order, found[0].states.ctypes.data, width, task, found)
    columns = _keys(order.astype(np.int64) + task.named, task)
    columns += [read(c, states, counted=n) for c, n in zip(cells, counted, strict=True)]
    return task.merge.batch_of(columns)


def _bytes(pool: SegmentPool, nbytes: int) -> Array:
    return np.frombuffer(pool.allocate(nbytes), np.uint8)


def _joined_orders(strands: Sequence[_Strand], slots: int, pool: SegmentPool) -> Array:
    """Give the int32 slots of all strands in order of first appearance."""
    if len(strands) == 1:
        return strands[0].order[: strands[0].groups]
    met = np.zeros((slots + 63) // 64, np.int64)
    order = _bytes(pool, 4 * (slots + 1)).view(np.int32)
    groups = 0
    for strand in strands:
        groups += _slots.join_orders(
            strand.order.ctypes.data, strand.groups, met.ctypes.data,
            order.ctypes.data + 4 * groups,
        )  # fmt: skip
    return order[:groups]


def _join(task: _Task, strands: Sequence[_Strand], kept: tuple[Any, int, Any]) -> None:
    """Add the states of all strands to those of the first, one after the other."""
    cells, width, counted = kept
    code = task.plan.function(
        "join", task.nullable, lambda w: fn.write_join(w, cells, width, counted)
    )
    first = strands[0].states.ctypes.data

    def join(number: int) -> None:
        low = number * _PIECE
        count = min(_PIECE, task.slots - low)
        for strand in strands[1:]:
            _slots.join_states(
                code.address, first + low * width, strand.states.ctypes.data + low * width, count
            )

    each(task.team, -(-task.slots // _PIECE), join)


class _AtSlots(Struct, frozen=True):
    """Fields of states that lie slot by slot, of some slots."""

    order: Array
    address: int
    step: int
    task: _Task
    keep: Any

    def field(self, offset: int, dtype: Any) -> Array:
        """Give the field at a byte of the state."""
        size, count = np.dtype(dtype).itemsize, len(self.order)
        target = np.frombuffer(self.task.pool.allocate(count * size), dtype)

        def take(number: int) -> None:
            low = number * _PIECE
            _slots.take_slots(
                self.order.ctypes.data + 4 * low, min(_PIECE, count - low), self.address + offset,
                self.step, size, target.ctypes.data + size * low,
            )  # fmt: skip

        each(self.task.team, -(-count // _PIECE), take)
        return target


def _partitioned(task: _Task, width: int) -> tuple[pa.RecordBatch, int]:
    """Deal rows into partitions of slots, and group each partition by itself."""
    merge, pool, slots = task.merge, task.pool, task.slots
    shift = _shift(slots, width)

    def dealt(number: int) -> Dealt:
        piece, chunk = task.pieces[number], task.chunks[number]
        selection = piece.chosen, piece.num_rows
        made = deal_slots(
            task.plan, chunk, task.nullable, piece.literals, selection, slots=slots, shift=shift,
            pool=pool,
        )  # fmt: skip
        if made is None:
            raise _Outside
        return made

    found = each(task.team, len(task.pieces), dealt)
    cells = layout(merge.calls, Variant(merge.bounds, frozenset()))
    counted = tuple(found[0].layout.counts(number) for number in range(len(cells)))
    cells, begin = dense(cells, counted)
    begin = begin or bytes(8)
    table, _kept = piece_table(found, cells, counted, len(begin), merge.folder)
    initial = np.frombuffer(begin, np.uint8)
    width, inside = len(begin), 1 << shift
    # The groups of a partition are at most its rows, and at most its slots.
    most = np.minimum(np.sum([piece.counts for piece in found], axis=0), inside).tolist()
    ends = np.cumsum([0, *(n + 1 for n in most)]).tolist()
    order, firsts = (_bytes(pool, 8 * ends[-1]).view(np.int64) for _ in range(2))
    targets = _bytes(pool, width * ends[-1]).reshape(-1, width)
    base = task.named
    begun = set[int]()

    def group(part: int) -> Part:
        room = slice(ends[part], ends[part + 1])
        states, ids = scratch("states", inside * width), scratch("ids", 8 * BLOCK)
        if get_ident() not in begun:
            _slots.begin(states.ctypes.data, width, inside, initial.ctypes.data)
            begun.add(get_ident())
        met = np.zeros((inside + 63) // 64, np.int64)
        groups = _slots.fold_slots(
            part, table.ctypes.data, len(found), inside - 1, base + (part << shift),
            met.ctypes.data, order[room].ctypes.data, firsts[room].ctypes.data,
            states.ctypes.data, width, targets[room].ctypes.data, ids.ctypes.data,
            initial.ctypes.data,
        )  # fmt: skip
        return Part(groups, order[room].reshape(-1, 1), firsts[room], targets[room])

    parts = each(task.team, ((slots - 1) >> shift) + 1, group)
    ordered = Ordered(parts, sum(piece.span for piece in found), pool, task.team)
    numbers = ordered.of([part.seen for part in parts]).field(0, np.int64)
    states = ordered.of([part.states for part in parts])
    columns = _keys(numbers, task)
    columns += [read(c, states, counted=n) for c, n in zip(cells, counted, strict=True)]
    return merge.batch_of(columns), sum(piece.nbytes for piece in found)


def _shift(slots: int, width: int) -> int:
    """Give how many low bits of a slot do not tell its partition."""
    shift = max(1, _PART // width).bit_length() - 1
    while slots >> shift < _LEAST_PARTS and shift > 6:
        shift -= 1
    while (slots - 1) >> shift >= _MOST_PARTS:
        shift += 1
    return shift


def _keys(names: Array, task: _Task) -> list[pa.Array]:
    """Give the keys that slots stand for, which are called as `_Task.named` says."""
    domains = task.domains
    if not task.single:
        return slot_arrays(names, domains)
    (domain,), t = domains, domains[0].type
    nulls, bits = 0, None
    if task.nullable:
        known = names != domain.low + domain.size
        nulls = len(names) - int(np.count_nonzero(known))
        bits = pa.py_buffer(np.packbits(known, bitorder="little")) if nulls else None
    values = names if t.bit_width == 64 else names.astype(f"i{t.bit_width // 8}")
    return [pa.Array.from_buffers(t, len(values), [bits, pa.py_buffer(values)], nulls)]
