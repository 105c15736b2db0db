"""What happens to a file: bits flip, numbers lie, pieces are lost, doubled or strange."""

from __future__ import annotations

import random
from collections.abc import Callable

_LIES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62)
_ENDS = 2000
"""Where formats keep what they say of themselves: so many bytes from either end."""


def corrupted(sound: bytes, draw: random.Random) -> bytes:
    """Give `sound` after one to four corruptions."""
    content = bytearray(sound)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if content:
            draw.choice(_KINDS)(content, draw)
    return bytes(content)


def _place(content: bytearray, draw: random.Random) -> int:
    near = min(_ENDS, len(content))
    anywhere = draw.randrange(len(content))
    return draw.choice((anywhere, draw.randrange(near), len(content) - 1 - draw.randrange(near)))


def _flip(content: bytearray, draw: random.Random) -> None:
    content[_place(content, draw)] ^= 1 << draw.randrange(8)


def _byte(content: bytearray, draw: random.Random) -> None:
    content[_place(content, draw)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _lie(content: bytearray, draw: random.Random) -> None:
    """Overwrite a number of 2, 4 or 8 bytes: a length, an offset, a count."""
    width = draw.choice((2, 4, 8))
    at = _place(content, draw) // width * width
    value = draw.choice((*_LIES, len(content), draw.getrandbits(8 * width)))
    content[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def _cut(content: bytearray, draw: random.Random) -> None:
    del content[_place(content, draw) :]


def _lose(content: bytearray, draw: random.Random) -> None:
    at = _place(content, draw)
    del content[at : at + draw.choice((1, 4, 8, 64, 512))]


def _double(content: bytearray, draw: random.Random) -> None:
    at, size = _place(content, draw), draw.choice((1, 8, 64, 512))
    content[at:at] = content[at : at + size]


def _move(content: bytearray, draw: random.Random) -> None:
    size = draw.choice((4, 8, 64))
    source, target = _place(content, draw), _place(content, draw)
    piece = content[source : source + size]
    content[target : target + len(piece)] = piece


def _append(content: bytearray, draw: random.Random) -> None:
    content += draw.randbytes(draw.choice((1, 8, 100)))


_KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _byte, _byte, _lie, _lie, _lie, _cut, _lose, _double, _move, _append,
)  # fmt: skip
