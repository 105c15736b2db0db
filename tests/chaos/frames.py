"""What a caller's process and the run say to each other: msgpack behind its length."""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec
from msgspec import Struct


class Ask(Struct, frozen=True, tag=True):
    """Ask a query; `hold_ms` after its answer came, look at its rows again."""

    id: int
    query: str
    dataset: str
    near: bool
    hold_ms: int = 0


class Ready(Struct, frozen=True, tag=True):
    """The caller's process is there."""


class Begun(Struct, frozen=True, tag=True):
    """The query begins now."""

    id: int


class Answered(Struct, frozen=True, tag=True):
    """The answer as an Arrow IPC stream.

    Attributes
    ----------
    devices : tuple of str
        Which made it.
    changed : bool
        Whether its rows became others while it was held.
    """

    id: int
    seconds: float
    stream: bytes
    devices: tuple[str, ...]
    changed: bool


class Failed(Struct, frozen=True, tag=True):
    """The error: its class, whether that is one of Wherry's, and its text."""

    id: int
    seconds: float
    kind: str
    known: bool
    text: str


Said = Ready | Begun | Answered | Failed
_SIZE = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()
_said = msgspec.msgpack.Decoder(Said)
_asked = msgspec.msgpack.Decoder(Ask)


def framed(said: Said | Ask) -> bytes:
    """Give what is said as bytes."""
    body = _encoder.encode(said)
    return _SIZE.pack(len(body)) + body


def asked(stream: BinaryIO) -> Ask | None:
    """Wait for the next question; None: there will be none."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    return _asked.decode(stream.read(_SIZE.unpack(head)[0]))


class Hearing:
    """Puts together what a caller says from bytes as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def heard(self, more: bytes) -> list[Said]:
        """Take more bytes; give what is complete."""
        self._bytes += more
        found = []
        while len(self._bytes) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                break
            found.append(_said.decode(bytes(self._bytes[_SIZE.size : end])))
            del self._bytes[:end]
        return found
