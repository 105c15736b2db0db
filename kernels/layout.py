"""What skeletons and those who call them agree on; plain numbers, so that nobody imports numba."""

from typing import Final

BLOCK: Final = 64
"""Rows of a block; bit i of its mask is row i."""
SLACK: Final = 64
"""Bytes behind a destination that a compress-store may overwrite."""
LANES: Final = 16
"""Rows that the loop of a block function works on at once."""
SHARE_ROW: Final = 48
"""Bytes of a chunk in the table of a share (`numba/share.py`)."""
FEW_HEAD: Final = 64
"""Bytes in front of the groups of a chunk (`numba/few.py`)."""
INLINE: Final = 12
"""Bytes of a text that a view holds itself."""
EQUAL, UNEQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, PARTS = range(7)
"""Tests of text in `numba/strings.py`."""
PAGE: Final = 256
"""Records of a page of `numba/deal.py`."""
STAGE: Final = 16
"""Records of a partition kept in the first-level cache before they are written past it."""
PIECE_WORDS: Final = 9
"""int64 that tell `radix.fold_partition` and `slots.fold_slots` where a chunk's records are."""
DEALT: Final = 16
"""Rows of a bucket that `numba/buckets.py` writes at a time; it stages twice as many."""
RUN_ROOM: Final = BLOCK * 8 + 2 * BLOCK
"""Bytes for a word of the keys of a block: the key before them, and what a vector overwrites."""
LOW, RANGE, BITS, SHIFT, SLOTS, MASK, KEYS, WORDS, RANKS, FIRSTS = range(10)
"""Places in the description of a join's table (`numba/join.py`), each an int64."""
WORD_KINDS: Final = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float32", "float64", "decimal128"),
)
"""How `numba/top_k.py` numbers what it orders by."""
STAGE_BYTES: Final = 8192
"""Of `numba/compact.py`: room for FLUSH bytes, a block of the widest values, and SLACK."""
COLUMN_WORDS: Final = 6
"""int64 of `numba/compact.py` for a column, at the beginning of a thread's own area."""
INDEX_BYTES: Final = 4096
"""Of `numba/compact.py`: room for the row numbers of sparse blocks."""
SHARE_WORDS: Final = 5
"""int64 that `numba/keep.py` is told of a chunk: blocks, rest, places of words and room, rows."""
FOUND_WORDS: Final = 3
"""int64 that `numba/keep.py` tells of a chunk: rows that passed, whether fetched, the first row."""
COUNT, WIDTHS = 5, 6
"""Places in the shape of columns (`numba/keep.py`): how many are 16, 8, 4, 2 and 1 bytes wide, how
many in all, and how wide each is, the widest first."""
FEW_ROWS: Final = 512
"""Rows of a chunk that `numba/keep.py` fetches before it asks whether they are few."""
MATH: Final = frozenset(
    {
        *("sqrt", "exp", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin"),
        *("acos", "atan", "atan2", "sinh", "cosh", "tanh", "floor", "ceil", "fabs", "hypot"),
        *("pow", "copysign", "isnan", "isinf", "isfinite", "pi", "e", "tau", "inf", "nan"),
    }
)
"""What of Python's `math` users' functions can call or name."""
