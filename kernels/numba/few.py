"""Aggregation by key as long as the groups are few: a mask a group, and whole vectors of sums.

Every block's keys are compared with those of the groups known so far; each group then adds its
rows, by mask, to vectors of its own. What is no longer few is left to `kernels.numba.group_by`,
which goes on where this stopped: the groups, their states and the block are handed over.
"""

from wherry.kernels.layout import BLOCK
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
)


@kernel(22)
def few(
    mask,
    images,
    match,
    learn,
    spread,
    fold,
    context,
    blocks,
    tail,
    tail_rows,
    most,
    words,
    seen,
    rows,
    states,
    stride,
    initial,
    lanes,
    lane_stride,
    scratch,
    period,
    progress,
):
    """Group rows until a block would bring more than `most` groups, or a key that has no image.

    Parameters
    ----------
    seen, rows : int
        Get the key of each group, `words` words, and the number of its first row.
    states, stride, initial : int
        A state of `stride` bytes a group; what a state begins as, then what its lanes begin as.
    lanes, lane_stride : int
        Room for the vectors of `most` groups.
    scratch : int
        Room for `most` masks, then for the images of a block.
    period : int
        Blocks after which lanes are folded into states, so that none of them overflows.
    progress : int
        Gets the next block, the groups, and the rows passed so far.

    Returns
    -------
    int
        1 when every row is done.
    """
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
    store_64(progress, block)
    store_64(progress + 8, groups)
    store_64(progress + 16, selected)
    return 1 if block == count else 0


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
