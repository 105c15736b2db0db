"""A query that stopped after some of its chunks, as sealed bytes: a cursor and what came of them.

Layout, little-endian:

    offset  size  field
    0       4     magic "WHRS"
    4       1     version, now 1
    5       3     reserved, 0
    8       16    digest of the plan
    24      16    fingerprint of the dataset's stored rows
    40      4     length of the frame
    44      8     length of the rows
    52      n     frame: msgpack [dataset, values, runs, parts, builds]
    52+n    m     rows: an Arrow IPC stream, or nothing
                  builds: the rows of each join's other side, an Arrow IPC stream each
    end-16  16    seal: keyed BLAKE2b of everything before it

The frame's `values` are the literals of the plan in order, nil for a build; `runs` the chunks that
are done, as a message has them; `parts` the rows of each piece that the rows are cut into; `builds`
the lengths of the builds. Nothing in it can name code; decoding builds numbers, text and Arrow
arrays, each of which is looked at before anything trusts it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import pyarrow as pa
from pyarrow import ipc

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.data.encoded import trimmed
from wherry.data.ipc_plain import check_plain
from wherry.data.types import Plain, has_dictionary, type_class
from wherry.data.validate import check_batch
from wherry.ir.build import Build, received

MAGIC: Final = b"WHRS"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sB3s16s16sIQ")
_WHAT: Final = "suspended query"

Run = tuple[int, int, int, int, int]
"""Neighbouring chunks: fragment, batch, offset, rows, and how many batches in a row."""


class _Frame(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    dataset: str
    values: tuple[Plain, ...]
    runs: tuple[Run, ...]
    parts: tuple[int, ...]
    builds: tuple[int, ...]


# Made by one thread: see wherry.base.decoders.
_frames = msgspec.msgpack.Decoder(_Frame)


class State(msgspec.Struct, frozen=True, eq=False):
    """What is left of a query, and what was made of it so far.

    Attributes
    ----------
    plan : bytes
        Digest of the plan.
    dataset : str
        Its dataset's name.
    fingerprint : bytes
        Of the rows that the dataset had.
    values : tuple
        Plain images of the plan's literals, in order; None for a build.
    runs : tuple of (int, int, int, int, int)
        The chunks that are done: fragment, batch, offset, rows, and how many batches in a row.
    parts : tuple of pyarrow.RecordBatch
        What came of them and still has to meet the rest, in stored order.
    builds : tuple of Build
        The other sides of joins, in order.
    """

    plan: bytes
    dataset: str
    fingerprint: bytes
    values: tuple[Plain, ...]
    runs: tuple[Run, ...]
    parts: tuple[pa.RecordBatch, ...]
    builds: tuple[Build, ...]

    @property
    def chunks(self) -> int:
        """How many chunks are done."""
        return sum(run[4] for run in self.runs)

    @property
    def rows(self) -> int:
        """How many rows came of them and wait for the rest."""
        return sum(part.num_rows for part in self.parts)


def freeze(state: State, key: bytes) -> bytes:
    """Give the bytes of a state, sealed with `key`."""
    rows = _stream(state.parts)
    builds = [build.message.to_pybytes() for build in state.builds]
    frame = msgspec.msgpack.encode(
        _Frame(
            state.dataset,
            state.values,
            state.runs,
            tuple(part.num_rows for part in state.parts),
            tuple(map(len, builds)),
        )
    )
    header = _HEADER.pack(
        MAGIC, VERSION, bytes(3), state.plan, state.fingerprint, len(frame), len(rows)
    )
    body = b"".join((header, frame, rows, *builds))
    return body + seal(key, body)


def thaw(data: bytes, key: bytes) -> State:
    """Read what `freeze` wrote with the same key.

    Raises
    ------
    CorruptError
        If it is cut short, of another version, sealed with another key, or not well formed.
    """
    body = _opened(data, key)
    _, _, reserved, plan, fingerprint, frame_bytes, rows_bytes = _HEADER.unpack_from(body)
    if any(reserved):
        raise CorruptError(f"{_WHAT}: the reserved bytes at offset 5 are {reserved.hex()}, not 0")
    left = len(body) - _HEADER.size
    if frame_bytes + rows_bytes > left:
        raise CorruptError(
            f"{_WHAT}: lengths at offset 40 are {frame_bytes} and {rows_bytes}; {left} bytes follow"
        )
    begin = _HEADER.size + frame_bytes
    frame = _frame(body[_HEADER.size : begin])
    ends = [begin + rows_bytes]
    for length in frame.builds:
        ends.append(ends[-1] + length)
    if ends[-1] != len(body):
        raise CorruptError(f"{_WHAT}: its parts end at offset {ends[-1]}, not {len(body)}")
    buffer = pa.py_buffer(body)
    parts = _cut(_batches(buffer[begin : ends[0]]), frame.parts)
    builds = []
    for start, length in zip(ends, frame.builds, strict=False):
        builds.append(_build(buffer[start : start + length]))
    return State(
        plan, frame.dataset, fingerprint, frame.values, frame.runs, parts, tuple(builds)
    )  # fmt: skip


def _opened(data: bytes, key: bytes) -> bytes:
    """Give the bytes without their seal, after checking size, magic, version and seal."""
    least = _HEADER.size + DIGEST_BYTES
    if len(data) < least:
        raise CorruptError(f"{_WHAT} of {len(data)} bytes; possible: {least} or more")
    if data[:4] != MAGIC:
        raise CorruptError(f"{_WHAT}: magic at offset 0 is {data[:4]!r}, not {MAGIC!r}")
    if data[4] != VERSION:
        raise CorruptError(f"{_WHAT}: version at offset 4 is {data[4]}, not {VERSION}")
    body, found = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if not hmac.compare_digest(found, seal(key, body)):
        raise CorruptError(f"{_WHAT}: the seal at offset {len(body)} does not fit")
    return body


def _frame(data: bytes) -> _Frame:
    try:
        frame = _frames.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise CorruptError(f"{_WHAT}: frame at offset {_HEADER.size}: {problem}") from None
    numbers = (*frame.parts, *frame.builds, *(n for run in frame.runs for n in run))
    if any(number < 0 for number in numbers):
        raise CorruptError(f"{_WHAT}: a number in the frame is negative")
    return frame


def _stream(parts: Sequence[pa.RecordBatch]) -> bytes:
    """Give parts as a stream: as one batch, unless dictionaries differ from part to part."""
    if not parts:
        return b""
    schema = parts[0].schema.remove_metadata()
    batches = [trimmed(part) for part in parts]
    if not any(has_dictionary(t) for t in schema.types):
        # A batch is described in some hundred bytes, which is more than most partial rows have.
        batches = _together(batches)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _together(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    try:
        return [pa.concat_batches(batches)]
    except pa.ArrowInvalid:  # More text than the offsets of one column can tell.
        return batches


def _batches(stream: pa.Buffer) -> list[pa.RecordBatch]:
    """Give the batches of a stream, every column looked at."""
    if not stream.size:
        return []
    with _reading(stream, "rows"), ipc.open_stream(stream) as reader:
        for field in reader.schema:
            type_class(field.type)  # refuses a type that no column of Wherry has
        batches = list(reader)
        for batch in batches:
            check_batch(batch, _WHAT)
        return [_bare(batch) for batch in batches]


def _bare(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give a batch whose fields say no more than programs' do: a name and a type."""
    if not batch.num_columns:
        return batch  # It has a number of rows, which a batch made of no arrays would lack.
    bare = pa.schema([pa.field(field.name, field.type) for field in batch.schema])
    return pa.RecordBatch.from_arrays(batch.columns, schema=bare)


def _build(stream: pa.Buffer) -> Build:
    with _reading(stream, "rows of a join"):
        return received(stream)


@contextmanager
def _reading(stream: pa.Buffer, what: str) -> Iterator[None]:
    """Say of bytes that pyarrow cannot read, or only at the cost of memory, that they are none."""
    try:
        check_plain(stream, f"{_WHAT}: its {what}")
        yield
    except CorruptError:
        raise
    except (pa.ArrowException, InputError, ValueError, OSError, MemoryError) as problem:
        raise CorruptError(f"{_WHAT}: {stream.size} bytes are no {what}: {problem}") from None


def _cut(batches: Sequence[pa.RecordBatch], parts: Sequence[int]) -> tuple[pa.RecordBatch, ...]:
    """Give the rows of batches as parts of so many rows; no part lies in two batches."""
    found: list[pa.RecordBatch] = []
    waiting, start = list(reversed(batches)), 0
    for rows in parts:
        while waiting and start == waiting[-1].num_rows:
            waiting.pop()
            start = 0
        if not waiting or start + rows > waiting[-1].num_rows:
            raise CorruptError(f"{_WHAT}: parts of {list(parts)[:9]} rows do not fit its batches")
        found.append(waiting[-1].slice(start, rows))
        start += rows
    if sum(parts) != sum(batch.num_rows for batch in batches):
        raise CorruptError(f"{_WHAT}: {sum(parts)} rows in parts of {len(batches)} batches")
    return tuple(found)
