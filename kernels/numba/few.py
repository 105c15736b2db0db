"""Aggregation by key as long as the groups are few: a mask a group, and whole vectors of sums.

Every block's keys are compared with those of the groups known so far; each group then adds its
rows, by mask, to vectors of its own. What is no longer few is left to `kernels.numba.group_by`,
which goes on where this stopped: the groups, their states and the block are handed over.
"""

from numba import njit

from wherry.kernels.layout import BLOCK, FEW_HEAD, SHARE_ROW
from wherry.kernels.numba.compiled import kernel
from wherry.kernels.numba.group_by import begin
from wherry.kernels.numba.vector import (
    call_fold,
    call_images,
    call_learn,
    call_mask,
    call_match,
    call_spread,
    call_values,
    load_i64,
    lowest,
    popcount,
    store_64,
    take_next,
)


@kernel(7)
def few_each(task, share, chunks, counter, most, lanes, scratch):
    """Group each chunk of a share (see `share`) as far as its groups are few.

    Parameters
    ----------
    task : int
        int64: the block functions mask, images, match, learn, spread and fold; how many groups are
        few; the words of a key; the bytes of a state; where the bytes lie that a state begins as,
        then its lanes; the bytes of lanes; blocks after which lanes are folded into states, so that
        none of them overflows; where in a target first rows lie, and where states.
    share : int
        A target gets FEW_HEAD bytes: the next block, the groups, and the rows passed so far; then
        the key of each group, the number of its first row, and its state.
    lanes, scratch : int
        Of the thread: room for the vectors of all groups; for a mask each, then for the images of a
        block.
    """
    done = 0
    while done < most:
        chunk = take_next(counter)
        if chunk >= chunks:
            break
        at = share + chunk * SHARE_ROW
        context, blocks, tail = load_i64(at), load_i64(at + 8), load_i64(at + 16)
        rows, target = load_i64(at + 24), load_i64(at + 32)
        store_64(at + 40, _few(task, context, blocks, tail, rows, target, lanes, scratch))
        done += 1
    return done


@njit
def _few(task, context, blocks, tail, tail_rows, target, lanes, scratch):
    """Group rows until a block would bring too many groups, or a key that has no image."""
    mask, images, match = load_i64(task), load_i64(task + 8), load_i64(task + 16)
    learn, spread, fold = load_i64(task + 24), load_i64(task + 32), load_i64(task + 40)
    most, words, stride = load_i64(task + 48), load_i64(task + 56), load_i64(task + 64)
    initial, lane_stride, period = load_i64(task + 72), load_i64(task + 80), load_i64(task + 88)
    seen = target + FEW_HEAD
    rows, states = target + load_i64(task + 96), target + load_i64(task + 104)
    masks, pictures = scratch, scratch + most * 8
    block = groups = selected = since = 0
    count = blocks + (1 if tail_rows > 0 else 0)
    while block < count:
        at, row = (context, block * BLOCK) if block < blocks else (tail, 0)
        word = -1 if block < blocks else (1 << tail_rows) - 1
        if mask != 0:
            word &= call_mask(mask, at, row)
        if word == 0:
            block += 1
            continue
        fitting = call_images(images, at, row, word, pictures)
        if word & ~fitting != 0:
            break
        before = groups
        rest = call_match(match, pictures, word, seen, groups, masks)
        while rest != 0 and groups < most:
            lane = lowest(rest)
            call_learn(learn, pictures, lane, seen + groups * words * 8)
            store_64(rows + groups * 8, block * BLOCK + lane)
            begin(states, stride, groups, initial)
            begin(lanes, lane_stride, groups, initial + stride)
            groups += 1
            rest = call_match(match, pictures, word, seen, groups, masks)
        if rest != 0:
            groups = before
            break
        selected += popcount(word)
        call_spread(spread, at, row, word, masks, groups, lanes)
        block += 1
        since += 1
        if since == period:
            call_fold(fold, lanes, groups, states)
            since = 0
    call_fold(fold, lanes, groups, states)
    store_64(target, block)
    store_64(target + 8, groups)
    store_64(target + 16, selected)
    return selected


@kernel(9)
def keys_of_rows(keys, context, blocks, tail, words, rows, groups, scratch, seen):
    """Write the key words of some rows to `seen`; `scratch` has room for a block of each word.

    `rows` holds the numbers of the rows.
    """
    for group in range(groups):
        row = load_i64(rows + group * 8)
        block, lane = row // BLOCK, row % BLOCK
        at, first = (context, block * BLOCK) if block < blocks else (tail, 0)
        call_values(keys, at, first, scratch)
        for w in range(words):
            word = load_i64(scratch + w * (BLOCK * 8) + lane * 8)
            store_64(seen + (group * words + w) * 8, word)
    return groups
