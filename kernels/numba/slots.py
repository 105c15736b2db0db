"""Aggregation by keys of a known domain: a key is the number of its state, and nothing is searched.

One bit a slot tells whether it was met, and slots are noted in the order in which they first are.
A domain whose states fit the second-level cache is addressed by the rows where they lie; of a
larger one each partition of slots is (`kernels.numba.deal`), whose records come one page after
another.
"""

from numba import njit

from wherry.kernels.layout import BLOCK, PAGE, PIECE_WORDS
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.radix import copy_field, prefetch
from wherry.kernels.numba.vector import (
    call_accumulate,
    call_learn,
    call_scatter,
    call_values,
    load_i32,
    load_i64,
    lowest,
    shift_right,
    store_32,
    store_64,
)


@njit(inline="always")
def _is_new(met, slot):
    """Note that a slot was met; give 1 if it was not before."""
    at = met + (slot >> 6) * 8
    word = load_i64(at)
    bit = 1 << (slot & 63)
    store_64(at, word | bit)
    return shift_right(word, slot & 63) & 1 ^ 1


@kernel(4)
def begin(states, stride, slots, initial):
    """Write the states of all slots before any row."""
    for offset in range(0, stride, 8):
        word = load_i64(initial + offset)
        for slot in range(slots):
            store_64(states + slot * stride + offset, word)
    return slots


@kernel(13)
def address(
    keys,
    scatter,
    context,
    blocks,
    tail,
    tail_rows,
    chosen,
    slots,
    met,
    order,
    groups,
    states,
    ids,
):
    """Add the chosen rows of a chunk to the states of their slots.

    Parameters
    ----------
    keys, scatter : int
        Addresses of `keys(context, row, target)`: the slots of 64 rows, and of `scatter(context,
        row, mask, ids, states)`.
    chosen : int
        Words of bits, one a block, of the rows that count; 0 for all.
    slots : int
        How many there are.
    met, order, groups : int
        A bit a slot; int32 slots in order of first appearance; how many there are so far.
    ids : int
        Room for a block of int64.

    Returns
    -------
    int
        The groups so far; -1 if a row's slot is none.
    """
    for block in range(blocks + (1 if tail_rows > 0 else 0)):
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if chosen != 0:
            word = load_i64(chosen + block * 8)
        if word == 0:
            continue
        call_values(keys, at, row, ids)
        if word == -1:
            outside = 0
            for lane in range(BLOCK):
                slot = load_i64(ids + lane * 8)
                outside |= slot | (slots - 1 - slot)
            if outside < 0:
                return -1
            known = 1
            for lane in range(BLOCK):
                slot = load_i64(ids + lane * 8)
                known &= shift_right(load_i64(met + (slot >> 6) * 8), slot & 63)
            if known == 0:
                for lane in range(BLOCK):
                    slot = load_i64(ids + lane * 8)
                    store_32(order + groups * 4, slot)
                    groups += _is_new(met, slot)
        else:
            rest = word
            while rest != 0:
                slot = load_i64(ids + lowest(rest) * 8)
                if slot < 0 or slot >= slots:
                    return -1
                store_32(order + groups * 4, slot)
                groups += _is_new(met, slot)
                rest &= rest - 1
        call_scatter(scatter, at, row, word, ids, states)
    return groups


@kernel(4)
def join_orders(order, groups, met, target):
    """Write the slots of `order` that were not met; note them, and give how many they are."""
    found = 0
    for i in range(groups):
        slot = load_i32(order + i * 4)
        store_32(target + found * 4, slot)
        found += _is_new(met, slot)
    return found


@kernel(4)
def join_states(join, states, others, count):
    """Call `join(states, others, count)`: as many states into states."""
    call_learn(join, states, others, count)
    return count


@kernel(6)
def take_slots(order, count, source, step, width, target):
    """Write one field of the states of so many slots side by side.

    Parameters
    ----------
    order : int
        int32 slots.
    source, step : int
        Where the field of slot 0 lies, and the bytes to the next one's.
    width : int
        Bytes of the field: 1, 2, 4, 8 or a multiple of 8.
    """
    for i in range(count):
        copy_field(source + load_i32(order + i * 4) * step, width, target + i * width)
    return count


@njit(inline="always")
def _note(source, width, some, mask, low, met, order, firsts, base, groups, ids):
    """Give how many groups there are with those of `some` records, whose slots come to `ids`."""
    for i in range(some):
        head = load_i64(source + i * width)
        slot = head & mask
        store_64(ids + i * 8, slot)
        # Not a branch: nobody could foretell it.
        store_64(order + groups * 8, low + slot)
        store_64(firsts + groups * 8, base + shift_right(head, 32))
        groups += _is_new(met, slot)
    return groups


@kernel(13)
def fold_slots(
    part, pieces, count, mask, low, met, order, firsts, states, stride, target, ids, initial
):
    """Group the records of one partition of slots, piece after piece.

    Parameters
    ----------
    pieces, count : int
        As for `radix.fold_partition`; the first word of a record is as `deal.deal_slots` writes it.
    mask, low : int
        The bits of a slot that number it in the partition, and what the first one is called.
    met, order, firsts : int
        A bit a slot, zero; the int64 names of slots in order of first appearance, and their first
        rows, with room for one more.
    states, stride, target : int
        The states of all slots, begun; and where those of the groups come, in order.
    ids : int
        Room for a block of int64.
    initial : int
        A state before any row. All states are such again at the end.

    Returns
    -------
    int
        How many groups there are.
    """
    groups = 0
    for number in range(count):
        piece = pieces + number * (PIECE_WORDS * 8)
        pages, following = load_i64(piece), load_i64(piece + 16)
        total = load_i64(load_i64(piece + 32) + part * 8)
        width, fold, base = load_i64(piece + 40), load_i64(piece + 56), load_i64(piece + 64)
        page = load_i32(load_i64(piece + 24) + part * 4) if total > 0 else 0
        done = 0
        while done < total:
            inside = done & (PAGE - 1)
            some = min(BLOCK, total - done)
            source = pages + (page * PAGE + inside) * width
            # Pages are too short for the processor to see what comes next.
            ahead = source + BLOCK * width
            if inside + BLOCK == PAGE and done + BLOCK < total:
                page = load_i32(following + page * 4)
                ahead = pages + page * PAGE * width
            for line in range(0, BLOCK * width, 64):
                prefetch(ahead + line)
            if some == BLOCK:
                groups = _note(
                    source, width, BLOCK, mask, low, met, order, firsts, base, groups, ids
                )
            else:
                groups = _note(
                    source, width, some, mask, low, met, order, firsts, base, groups, ids
                )
            call_accumulate(fold, source, some, ids, states)
            done += some
    for i in range(groups):
        source = states + (load_i64(order + i * 8) - low) * stride
        for offset in range(0, stride, 8):
            store_64(target + i * stride + offset, load_i64(source + offset))
            store_64(source + offset, load_i64(initial + offset))
    return groups
