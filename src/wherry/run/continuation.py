"""The continuation: everything left to do, as a small sealed message.

Layout, little-endian:

    offset  size  field
    0       4     magic "WHRY"
    4       1     version, now 1
    5       1     reserved, 0
    6       2     hop: how many moves came before
    8       16    id of the query
    24      4     epoch: a resumed query counts up, and older messages are refused
    28      2     first segment to run here
    30      2     last segment to run here
    32      16    digest of the plan; its bytes are sent once to a device that lacks them
    48      4     length of the frame
    52      n     frame: msgpack [values, runs, sites]
    52+n    16    seal: keyed BLAKE2b of everything before it

The frame's `values` are the literals of the plan in order, `runs` the chunks as runs
[fragment, batch, offset, rows, count] of `count` batches in a row, `sites` where each segment of
the plan runs. A literal that is a build, the other side of a join, stands as [digest, rows, bytes,
bounds of its keys]: its rows are sent once to each device that lacks them. Nothing in a message can
name code; decoding builds numbers, text and nothing else.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.data.chunk import ChunkRef
from wherry.data.types import Plain
from wherry.ir.build import Image

MAGIC: Final = b"WHRY"
VERSION: Final = 1
MESSAGE_BYTES_MAX: Final = 1 << 20
"""A longer message is refused unread: no honest continuation comes near it."""
CHUNKS_MAX: Final = 1 << 20
"""More chunks than this in one message are refused before they are built."""

_HEADER: Final = struct.Struct("<4sBBH16sIHH16sI")


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    values: tuple[Plain | Image, ...]
    runs: tuple[tuple[int, int, int, int, int], ...]
    sites: tuple[str, ...]


# Made by one thread: see wherry.base.decoders.
_frames = msgspec.msgpack.Decoder(_Frame)


class Continuation(Struct, frozen=True):
    """What is left to do of a query, at one place of its plan.

    Attributes
    ----------
    query : bytes
        16 bytes that identify the query.
    epoch, hop : int
        How often it was resumed, and how many moves came before this one.
    plan : bytes
        Digest of the plan.
    first, last : int
        The segments to run where the message arrives.
    values : tuple
        Plain images of the plan's literals, in order (`wherry.data.types.to_plain`), and what is
        said of builds.
    chunks : tuple of ChunkRef
        What to read; empty where rows arrive by themselves. Where chunks are chosen, those that
        are done and not to be chosen again.
    sites : tuple of str
        The device (or "home") of each segment of the plan.
    """

    query: bytes
    epoch: int
    hop: int
    plan: bytes
    first: int
    last: int
    values: tuple[Plain | Image, ...]
    chunks: tuple[ChunkRef, ...]
    sites: tuple[str, ...]


def freeze(continuation: Continuation, key: bytes) -> bytes:
    """Give the message of a continuation, sealed with `key`.

    Raises
    ------
    InputError
        If it would be longer than `MESSAGE_BYTES_MAX`, which no receiver reads.
    """
    c = continuation
    frame = msgspec.msgpack.encode(_Frame(c.values, tuple(runs_of(c.chunks)), c.sites))
    header = _HEADER.pack(
        MAGIC, VERSION, 0, c.hop, c.query, c.epoch, c.first, c.last, c.plan, len(frame)
    )
    length = len(header) + len(frame) + DIGEST_BYTES
    if length > MESSAGE_BYTES_MAX:
        raise InputError(
            f"the query's {len(c.values)} constants and {len(c.chunks)} chunks need a message of "
            f"{length} bytes; possible: {MESSAGE_BYTES_MAX}"
        )
    return header + frame + seal(key, header + frame)


def thaw(message: bytes, key: bytes) -> Continuation:
    """Read a message that `freeze` wrote with the same key.

    Raises
    ------
    CorruptError
        If it is cut short, of another version, sealed with another key, or not well formed; the
        field and its offset are named.
    """
    body = _opened(message, key)
    magic, version, _, hop, query, epoch, first, last, plan, length = _HEADER.unpack_from(body)
    assert magic == MAGIC
    assert version == VERSION
    if length != len(body) - _HEADER.size:
        left = len(body) - _HEADER.size
        raise CorruptError(f"continuation: frame length at offset 48 is {length}; {left} follow")
    try:
        frame = _frames.decode(body[_HEADER.size :])
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise CorruptError(f"continuation: frame at offset {_HEADER.size}: {problem}") from None
    chunks = chunks_of(frame.runs)
    return Continuation(query, epoch, hop, plan, first, last, frame.values, chunks, frame.sites)


def query_in(message: bytes) -> bytes:
    """Give the id of the query that a message says it is of; its seal is not looked at."""
    return message[8:24]


def _opened(message: bytes, key: bytes) -> bytes:
    """Give the message without its seal, after checking size, magic, version and seal."""
    least = _HEADER.size + DIGEST_BYTES
    if not least <= len(message) <= MESSAGE_BYTES_MAX:
        raise CorruptError(
            f"continuation of {len(message)} bytes; possible: {least} to {MESSAGE_BYTES_MAX}"
        )
    if message[:4] != MAGIC:
        raise CorruptError(f"continuation: magic at offset 0 is {message[:4]!r}, not {MAGIC!r}")
    if message[4] != VERSION:
        raise CorruptError(f"continuation: version at offset 4 is {message[4]}, not {VERSION}")
    body, found = message[:-DIGEST_BYTES], message[-DIGEST_BYTES:]
    if not hmac.compare_digest(found, seal(key, body)):
        raise CorruptError(f"continuation: the seal at offset {len(body)} does not fit")
    return body


def runs_of(chunks: Sequence[ChunkRef]) -> list[tuple[int, int, int, int, int]]:
    """Give chunks as runs [fragment, batch, offset, rows, count] of `count` batches in a row."""
    runs: list[tuple[int, int, int, int, int]] = []
    for ref in chunks:
        if runs:
            fragment, batch, offset, rows, count = runs[-1]
            if (ref.fragment, ref.batch, ref.offset, ref.rows) == (
                fragment,
                batch + count,
                offset,
                rows,
            ):
                runs[-1] = (fragment, batch, offset, rows, count + 1)
                continue
        runs.append((ref.fragment, ref.batch, ref.offset, ref.rows, 1))
    return runs


def chunks_of(runs: Sequence[tuple[int, int, int, int, int]]) -> tuple[ChunkRef, ...]:
    """Give the chunks of runs: the inverse of `runs_of`.

    Raises
    ------
    CorruptError
        If a number is negative, or there are more than `CHUNKS_MAX`.
    """
    if any(min(run) < 0 for run in runs) or sum(run[4] for run in runs) > CHUNKS_MAX:
        raise CorruptError("continuation: runs hold negative numbers or too many chunks")
    return tuple(
        ChunkRef(fragment, batch + i, offset, rows)
        for fragment, batch, offset, rows, count in runs
        for i in range(count)
    )
