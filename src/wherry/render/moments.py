"""Moments: what is kept of numbers so that their variance can be told, and merged, exactly enough.

A state holds a count n, a pivot p, S = sum(x - p) and Q = sum((x - p)^2). Then the sum of squares
about the mean is M = Q - S^2 / n. Values near each other lose nothing in x - p, however far from 0
they are. The pivot is the first value, and from 64 values on becomes the mean whenever n has
doubled. While it is one of the values, (p - mean)^2 <= M, so Q <= (n + 1) M. If it was the
mean of k values, and there are n <= 2 k, then n (p - mean)^2 <= M (n - k) / k <= M, so Q <= 2 M and
the subtraction cancels one bit: the relative error is that of adding up n / 64 sums of blocks.
Welford's recurrence does no better, with a division a row.

Partial rows merge likewise: each stands for w values at (pivot - p) + shift, so that no mean is
rounded far from 0, and adds its own M. (T. Chan, G. Golub, R. LeVeque, "Algorithms for Computing
the Sample Variance", The American Statistician 37, 1983.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from llvmlite import ir
from msgspec import Struct

from wherry.ir.expr import Node
from wherry.ir.types import MOMENTS, SPREADS
from wherry.kernels.layout import LANES
from wherry.render.loop import (
    BITS,
    F64,
    I1,
    I64,
    Loop,
    both,
    constant,
    declare,
    flags,
    load,
    splat,
    store,
    vector,
)

PARTS: Final = 3
"""Pivot, S and Q, behind the count."""
_SETTLES: Final = 64
"""Values from which on the pivot follows the mean: fewer lose 6 bits at most, and
groups of few rows would ask for a division all the time."""


class Parts(Node, frozen=True):
    """The fields of moments as native terms; null together, where there were no values."""

    operands: tuple[Node, ...]
    type: pa.DataType = MOMENTS


class Rooms(Struct, frozen=True):
    """Where the values of a block lie: one room of 64 numbers, or one for each field of moments."""

    places: tuple[Any, ...]
    valid: Any


def keep_values(loop: Loop, head: Any, argument: Node) -> Rooms:
    """Write code that keeps the values of a block, or the fields of partial moments."""
    nodes = argument.operands if isinstance(argument, Parts) else (argument,)
    places, valid = [], None
    for node in nodes:
        value = loop.value(node)
        valid = both(loop.body, valid, value.valid)
        room = head.alloca(vector(value.data.type.element, 64))
        room.align = 64
        address = head.ptrtoint(room, I64)
        at = loop.body.add(address, loop.body.mul(loop.lane, ir.Constant(I64, 8)))
        store(loop.body, value.data, at)
        places.append(address)
    return Rooms(tuple(places), valid)


def add_block(b: Any, at: Any, word: Any, rooms: Rooms) -> None:
    """Write code that adds the rows of a block in `word` to the state at `at`."""
    first = _first_set(b, word)
    pivot = _pivot(b, at, _at(b, rooms.places[len(rooms.places) > 1], first, F64))
    pivots = splat(b, pivot)
    total, squares = constant(F64, 0.0), constant(F64, 0.0)
    count: Any = constant(I64, 0)
    for lane in range(0, 64, LANES):
        chosen = flags(b, b.trunc(b.lshr(word, ir.Constant(I64, lane)), BITS))
        weight, moved, square = _terms(b, rooms, ir.Constant(I64, lane), pivots, vector)
        total = b.fadd(total, b.select(chosen, moved, constant(F64, 0.0)))
        squares = b.fadd(squares, b.select(chosen, square, constant(F64, 0.0)))
        if weight is not None:
            count = b.add(count, b.select(chosen, weight, constant(I64, 0)))
    counted = _popcount(b, word) if len(rooms.places) == 1 else _reduced(b, "add", count)
    _add(b, at, (counted, _reduced(b, "fadd", total), _reduced(b, "fadd", squares)))


def add_row(b: Any, at: Any, lane: Any, bit: Any, rooms: Rooms) -> None:
    """Write code that adds the row `lane` of a block to the state at `at`, if `bit` is 1."""
    pivot = _pivot(b, at, _at(b, rooms.places[len(rooms.places) > 1], lane, F64))
    weight, moved, square = _terms(b, rooms, lane, pivot, lambda element: element)
    present, nothing = b.trunc(bit, I1), ir.Constant(F64, 0.0)
    count = bit if weight is None else b.select(present, weight, ir.Constant(I64, 0))
    _add(b, at, (count, b.select(present, moved, nothing), b.select(present, square, nothing)))


def _terms(b: Any, rooms: Rooms, lane: Any, pivot: Any, shape: Any) -> tuple[Any, Any, Any]:
    """Give the weight (None: 1) and what is added to S and Q, of one row or LANES of them."""
    if len(rooms.places) == 1:
        moved = b.fsub(_at(b, rooms.places[0], lane, shape(F64)), pivot)
        return None, moved, b.fmul(moved, moved)
    count, pivots, shifts, squares = (
        _at(b, place, lane, shape(I64 if n == 0 else F64)) for n, place in enumerate(rooms.places)
    )
    moved = b.fadd(b.fsub(pivots, pivot), shifts)
    weighted = b.fmul(b.sitofp(count, shape(F64)), moved)
    return count, weighted, b.fadd(squares, b.fmul(weighted, moved))


def _at(b: Any, room: Any, lane: Any, kind: Any) -> Any:
    return load(b, b.add(room, b.mul(lane, ir.Constant(I64, 8))), kind)


def _first_set(b: Any, word: Any) -> Any:
    """Give the lowest set bit; 0 if there is none, when nobody counts what lies there."""
    kind = ir.FunctionType(I64, [I64, I1])
    found = b.call(declare(b.module, "llvm.cttz.i64", kind), [word, ir.Constant(I1, 0)])
    return b.and_(found, ir.Constant(I64, 63))


def _popcount(b: Any, word: Any) -> Any:
    return b.call(declare(b.module, "llvm.ctpop.i64", ir.FunctionType(I64, [I64])), [word])


def _pivot(b: Any, at: Any, value: Any) -> Any:
    """Give the state's pivot, having let it be `value` if there is none yet."""
    place = b.add(at, ir.Constant(I64, 8))
    none = b.icmp_unsigned("==", load(b, at, I64), ir.Constant(I64, 0))
    pivot = b.select(none, value, load(b, place, F64))
    store(b, pivot, place)
    return pivot


def _add(b: Any, at: Any, found: tuple[Any, Any, Any]) -> None:
    count, total, squares = found
    before = load(b, at, I64)
    after = b.add(before, count)
    store(b, after, at)
    for offset, value in ((16, total), (24, squares)):
        place = b.add(at, ir.Constant(I64, offset))
        store(b, b.fadd(load(b, place, F64), value), place)
    doubled = b.icmp_unsigned(">", b.xor(before, after), before)
    many = b.icmp_unsigned(">=", after, ir.Constant(I64, _SETTLES))
    with b.if_then(b.and_(doubled, many), likely=False):
        _settle(b, at, b.sitofp(after, F64))


def _settle(b: Any, at: Any, count: Any) -> None:
    """Write code that moves the pivot to the mean, as far as it can be written as one number."""
    places = [b.add(at, ir.Constant(I64, offset)) for offset in (8, 16, 24)]
    pivot, total, squares = (load(b, place, F64) for place in places)
    mean = b.fadd(pivot, b.fdiv(total, count))
    moved = b.fsub(mean, pivot)
    rest = b.fsub(total, b.fmul(count, moved))
    less = b.fmul(moved, b.fadd(total, rest))
    # Squares that overflowed stay infinite; their difference would not be a number.
    finite = b.fcmp_ordered("<", squares, ir.Constant(F64, float("inf")))
    made = (mean, rest, b.fsub(squares, less))
    for place, value, old in zip(places, made, (pivot, total, squares), strict=True):
        store(b, b.select(finite, value, old), place)


def _reduced(b: Any, how: str, lanes: Any) -> Any:
    element = lanes.type.element
    name = f"llvm.vector.reduce.{how}.v{LANES}{'f64' if element is F64 else 'i64'}"
    if how == "add":
        kind = ir.FunctionType(element, [lanes.type])
        return b.call(declare(b.module, name, kind), [lanes])
    function = declare(b.module, name, ir.FunctionType(F64, [F64, lanes.type]))
    # reassoc lets the lanes be added as a tree; the tree is the same in every run.
    return b.call(function, [ir.Constant(F64, -0.0), lanes], fastmath=("reassoc",))


def read_moments(kind: str, counts: Any, parts: Sequence[Any]) -> pa.Array:
    """Give moments, or what is made of them, of every state.

    Parameters
    ----------
    kind : str
        moments, var, std, var_pop or std_pop.
    counts, parts : numpy.ndarray
        int64 and three times float64: n, p, S and Q of every state.
    """
    assert kind in SPREADS
    pivot, total, squares = parts
    with np.errstate(all="ignore"):
        shift = total / counts
        m2 = np.maximum(squares - total * shift, 0.0)
        # Squares that overflow are infinite, not unknown.
        m2 = np.where(np.isinf(squares) & np.isfinite(total), np.inf, m2)
        if kind == "moments":
            none = counts == 0
            # What lies in the state of no values depends on what the block held.
            fields = [np.where(none, 0.0, part) for part in (pivot, shift, m2)]
            arrays = [pa.array(counts), *map(pa.array, fields)]
            return pa.StructArray.from_arrays(arrays, fields=list(MOMENTS), mask=pa.array(none))
        less = 0 if kind.endswith("_pop") else 1
        found = m2 / (counts - less)
        found = np.sqrt(found) if kind.startswith("std") else found
    return pa.array(found, mask=counts <= less)
