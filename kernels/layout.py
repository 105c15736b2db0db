"""What skeletons and those who call them agree on; plain numbers, so that nobody imports numba."""

from typing import Final

BLOCK: Final = 64
"""Rows of a block; bit i of its mask is row i."""
SLACK: Final = 64
"""Bytes behind a destination that a compress-store may overwrite."""
INLINE: Final = 12
"""Bytes of a text that a view holds itself."""
EQUAL, UNEQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, PARTS = range(7)
"""Tests of text in `numba/strings.py`."""
