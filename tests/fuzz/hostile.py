"""What hostile callers send: sound requests with something wrong in them, at any depth.

Half of what is damaged is damaged as values and written again, so that it passes the decoder and
reaches what is behind it; continuations among it are sealed again with the right key.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from fuzz.corruptions import corrupted
from wherry.run.message import sealed

_POWERS = (1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, -(1 << 63))
NUMBERS = (0, 1, -1, 2, 255, *_POWERS)
_PATHS = ("../orders", "/etc/passwd", "orders/..")
TEXTS = ("", "orders", "lineitem", *_PATHS, "x" * 300, "\0", "\x1b[31m", "é\u202e", "home")
DEEP_MAX = 200
_KEEPING = 0.9
_SEAL, _HEADER = 16, 52


def hostile(sound: list[bytes], key: bytes, draw: random.Random) -> bytes:
    """Give a request that is wrong in some way, or only seldom right."""
    # The last one lets go of everything, and leaves little to damage.
    chosen = draw.choice(sound[:-1] if draw.random() < _KEEPING else sound)
    how = draw.randrange(12)
    if how == 0:
        return draw.randbytes(draw.choice((0, 1, 8, 100, 1000)))
    if how == 1:
        return msgspec.msgpack.encode(_nonsense(draw, 4))
    if how < 4:
        return corrupted(chosen, draw)
    value = msgspec.msgpack.decode(chosen)
    for _ in range(draw.choice((1, 1, 2, 5))):
        value = _changed(value, draw, key)
    return msgspec.msgpack.encode(value)


def _changed(value: Any, draw: random.Random, key: bytes) -> Any:
    """Give a value with one thing in it changed, at any depth."""
    if isinstance(value, dict) and value and draw.random() < 0.95:
        # A request of another name has other fields, and goes no further than the decoder.
        fields = [name for name in value if name != "t"] if draw.random() < _KEEPING else []
        name = draw.choice(fields or list(value))
        if draw.random() < 0.05:
            return {n: v for n, v in value.items() if n != name}
        return {**value, name: _changed(value[name], draw, key)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.randrange(len(value))
        if draw.random() < 0.1:
            return draw.choice((value[:at], value * 2, value[:at] + value[at + 1 :], value * 100))
        return [*value[:at], _changed(value[at], draw, key), *value[at + 1 :]]
    return _other(value, draw, key)


def _other(value: Any, draw: random.Random, key: bytes) -> Any:
    if draw.random() < 0.1:
        return _nonsense(draw, 3)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = (n for n in (value + 1, value - 1, -value) if -(1 << 63) <= n < 1 << 63)
        return draw.choice((*NUMBERS, *near))
    if isinstance(value, float):
        return draw.choice((0.0, -0.0, 1e308, float("inf"), float("nan")))
    if isinstance(value, str):
        return draw.choice(TEXTS)
    if isinstance(value, bytes):
        return _other_bytes(value, draw, key)
    return _nonsense(draw, 2)


def _other_bytes(value: bytes, draw: random.Random, key: bytes) -> bytes:
    if value[:4] == b"WHRY" and draw.random() < 0.9:
        return _resealed(value, draw, key)
    if draw.random() < 0.7:
        try:
            inner = msgspec.msgpack.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return corrupted(value, draw)
        return msgspec.msgpack.encode(_changed(inner, draw, key))
    return corrupted(value, draw)


def _resealed(message: bytes, draw: random.Random, key: bytes) -> bytes:
    """Give a continuation with another header or frame, and the seal that belongs to it."""
    header, frame = message[:_HEADER], message[_HEADER:-_SEAL]
    try:
        said = msgspec.msgpack.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    if said is not None and draw.random() < 0.7:
        frame = msgspec.msgpack.encode(_changed(said, draw, key))
        header = header[:48] + len(frame).to_bytes(4, "little")
    else:
        header = corrupted(header, draw)
    body = header + frame
    return body + sealed(body, key)


def _nonsense(draw: random.Random, depth: int) -> Any:
    """Give something that MessagePack can say."""
    kinds = [
        lambda: draw.choice((*NUMBERS, 1.5, None, True)),
        lambda: draw.randbytes(draw.randint(0, 40)),
        lambda: draw.choice(TEXTS),
    ]
    if depth:
        kinds.append(lambda: [_nonsense(draw, depth - 1) for _ in range(draw.randint(0, 6))])
        kinds.append(lambda: {draw.choice(TEXTS): _nonsense(draw, depth - 1) for _ in range(3)})
        kinds.append(lambda: _deep(draw.randint(1, DEEP_MAX)))
    return draw.choice(kinds)()


def _deep(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found
