"""Where the buffers of many Arrow IPC messages lie, decoded together.

The messages of a file come of one schema and mostly of one writer, so their metadata are the same
bytes but for a few numbers. One message is walked as the flatbuffer it is; of all others that are
as long and the same beside those numbers, the numbers are taken as columns of a matrix of bytes.
(16 columns: 0.9 KB a message, of which 0.8 KB are such numbers.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.data import ipc_message as fields
from wherry.data.flatbuffer import number, scalar, slot, target, vector
from wherry.data.ipc_footer import Blocks, File
from wherry.data.ipc_nodes import Nodes

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]

RECORD_BATCH: Final = 3
DICTIONARY: Final = 2
"""Types of header of a Message."""

_CONTINUATION = b"\xff\xff\xff\xff"
"""What a message begins with; files from before 2019 lack it."""
_MOST_SHAPES = 16
"""Beyond so many, messages are walked one by one: comparing all with each would be quadratic."""
_WORD = 8
"""Bytes that buffers are aligned to; programs load no more at once."""


class Layout(Struct, frozen=True, eq=False):
    """Where the buffers of messages lie.

    Arrays of int64: m messages, n nodes, k buffers in all.

    Attributes
    ----------
    rows : [m]
    lengths, nulls : [m, n]
        Of each node.
    first : [m, n + 1]
        The buffers of node j of message i are `first[i, j]` to `first[i, j + 1]` (not included).
    offsets, sizes : [k]
        Bytes; offsets are from the file's beginning. A validity bitmap that is not needed, as
        nothing is null, has size 0 whatever was stored.
    """

    rows: _Ints
    lengths: _Ints
    nulls: _Ints
    first: _Ints
    offsets: _Ints
    sizes: _Ints


class Metadata(Struct, frozen=True, eq=False):
    """The metadata of messages, one behind the other in `data`; `starts` has one more than they."""

    data: _Bytes
    starts: _Ints

    def one(self, i: int) -> bytes:
        """Give the metadata of message `i`."""
        return self.data[self.starts[i] : self.starts[i + 1]].tobytes()


class _Shape(Struct, frozen=True):
    """Where numbers lie in a message's metadata, from its beginning; 0: absent, which means 0."""

    rows: int
    body: int
    id: int
    delta: bool
    nodes: tuple[int, int]
    buffers: tuple[int, int]
    variadic: tuple[int, int]

    def numbers(self) -> list[tuple[int, int]]:
        """Give what differs between messages of one shape: starts and sizes in bytes."""
        single = [(at, _WORD) for at in (self.rows, self.body, self.id) if at]
        pairs = [(at, 2 * _WORD * count) for at, count in (self.nodes, self.buffers)]
        return [*single, *pairs, (self.variadic[0], _WORD * self.variadic[1])]


def read_metadata(file: File, blocks: Blocks) -> Metadata:
    """Read the metadata of messages; one call to the system for each, no byte of a body."""
    starts = np.concatenate(([0], np.cumsum(blocks.metadata)))
    data = np.empty(int(starts[-1]), np.uint8)
    view, descriptor = data.data, file.descriptor
    ends = starts.tolist()
    offset = 0
    try:
        for i, offset in enumerate(blocks.offset.tolist()):
            piece = view[ends[i] : ends[i + 1]]
            if os.preadv(descriptor, (piece,), offset) != len(piece):
                raise CorruptError(f"{file.label} is truncated: message {i} at offset {offset}")
    except OSError as error:
        raise InputError(
            f"{file.label} cannot be read at offset {offset}: {error.strerror or error}"
        ) from error
    return Metadata(data, starts)


def dictionary_parts(metadata: Metadata, blocks: Blocks, label: str) -> dict[int, list[int]]:
    """Give for every dictionary the messages that hold its values, one behind the other.

    Raises
    ------
    InputError
        When one replaces what another says, which files do not do, or is compressed.
    CorruptError
        When one cannot be decoded.
    """
    found: dict[int, list[int]] = {}
    for i in range(len(blocks)):
        data, what = metadata.one(i), _name(label, blocks, i)
        shape = _walked(data, DICTIONARY, what)
        name = number(data, shape.id, "<q") if shape.id else 0
        if name in found and not shape.delta:
            raise InputError(f"{what} replaces dictionary {name}")
        found.setdefault(name, []).append(i)
    return found


def decode(
    metadata: Metadata,
    blocks: Blocks,
    nodes: Nodes,
    label: str,
    *,
    kind: int = RECORD_BATCH,
    only: Sequence[int] | None = None,
) -> Layout:
    """Decode messages of one schema.

    Parameters
    ----------
    label : str
        What errors call the file.
    kind : int
        `RECORD_BATCH` or `DICTIONARY`.
    only : sequence of int, optional
        The numbers of the messages that are decoded, in this order; else all.

    Raises
    ------
    InputError
        When one is compressed.
    CorruptError
        When one cannot be decoded, or says what cannot be, with its offset.
    """
    numbers = np.arange(len(blocks)) if only is None else np.array(only, np.int64)
    lengths = np.diff(metadata.starts)[numbers]
    left, parts, base = np.arange(len(numbers)), list[tuple[_Ints, Layout]](), 0

    def part(alike: _Ints) -> npt.NDArray[np.bool_]:
        """Decode those that have the shape of the first; say which they are."""
        nonlocal base
        i = numbers[alike[0]]
        shape = _walked(metadata.one(i), kind, _name(label, blocks, i))
        stack = _stacked(metadata, numbers[alike], int(lengths[alike[0]]))
        same = _same(stack, shape)
        alike = alike[same]
        made = _Part(label, blocks, numbers[alike], shape, stack if same.all() else stack[same])
        parts.append((alike, _decoded(made, nodes, base)))
        base += len(parts[-1][1].offsets)
        return same

    while len(left) and len(parts) < _MOST_SHAPES:
        alike = np.flatnonzero(lengths[left] == lengths[left[0]])
        done = alike[part(left[alike])]
        left = np.delete(left, done)
    for i in left:
        part(np.array([i]))
    return _joined(parts, len(numbers), len(nodes.types))


def _name(label: str, blocks: Blocks, i: int) -> str:
    return f"{label}: the message at offset {blocks.offset[i]}"


def _walked(data: bytes, kind: int, what: str) -> _Shape:
    """Walk one message as a flatbuffer."""
    try:
        base = 8 if data.startswith(_CONTINUATION) else 4
        message = data[base:]
        root = target(message, 0)
        seen = scalar(message, root, fields.HEADER_TYPE, "<B")
        if seen != kind:
            raise CorruptError(f"{what} has a header of type {seen}, not {kind}")
        header = target(message, slot(message, root, fields.HEADER))
        batch, name, delta = header, 0, 0
        if kind == DICTIONARY:
            delta = scalar(message, header, fields.DELTA, "<B")
            name = slot(message, header, fields.ID)
            batch = target(message, slot(message, header, fields.DATA))
        codec = fields.codec_of(message, batch)
        if codec:
            raise InputError(f"{what} is compressed ({codec}); scan the file instead")
        shape = _Shape(
            rows=_behind(base, slot(message, batch, fields.LENGTH)),
            body=_behind(base, slot(message, root, fields.BODY_LENGTH)),
            id=_behind(base, name),
            delta=bool(delta),
            nodes=_moved(base, vector(message, batch, fields.NODES, 2 * _WORD)),
            buffers=_moved(base, vector(message, batch, fields.BUFFERS, 2 * _WORD)),
            variadic=_moved(base, vector(message, batch, fields.VARIADIC, _WORD)),
        )
    except struct.error as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error
    if any(at + size > len(data) for at, size in shape.numbers()):
        raise CorruptError(f"{what} is cut short")
    return shape


def _behind(base: int, at: int) -> int:
    return base + at if at else 0


def _moved(base: int, elements: tuple[int, int]) -> tuple[int, int]:
    return base + elements[0], elements[1]


def _stacked(metadata: Metadata, numbers: _Ints, length: int) -> _Bytes:
    """Give the metadata of messages of one length as rows of a matrix."""
    starts = metadata.starts[numbers]
    if len(starts) == 1 or (np.diff(starts) == length).all():
        whole = metadata.data[starts[0] : starts[0] + length * len(starts)]
        return whole.reshape(len(starts), length)
    return metadata.data[starts[:, None] + np.arange(length)]


def _same(stack: _Bytes, shape: _Shape) -> npt.NDArray[np.bool_]:
    """Say which rows are as the first one, but for its numbers."""
    fixed = np.ones(stack.shape[1], np.bool_)
    for at, size in shape.numbers():
        fixed[at : at + size] = False
    where = np.flatnonzero(fixed)
    return (stack[:, where] == stack[0, where]).all(axis=1)


class _Part(Struct, frozen=True, eq=False):
    """Messages of one shape: their numbers, and their metadata as rows of a matrix."""

    label: str
    blocks: Blocks
    numbers: _Ints
    shape: _Shape
    stack: _Bytes

    def column(self, at: int) -> _Ints:
        """Give the number at `at` of each; 0 where it is absent."""
        return self.matrix(at, 1)[:, 0] if at else np.zeros(len(self.stack), np.int64)

    def matrix(self, at: int, count: int) -> _Ints:
        """Give `count` numbers from `at` of each."""
        piece = np.ascontiguousarray(self.stack[:, at : at + _WORD * count])
        return piece.view("<i8").astype(np.int64, copy=False).reshape(len(self.stack), count)

    def refuse(self, bad: npt.NDArray[np.bool_], why: str) -> None:
        """Refuse the first message that is `bad`, if one is; [m] or [m, anything]."""
        if bad.any():
            i, *where = (int(n) for n in np.argwhere(bad)[0])
            place = f" (number {where[0]})" if where else ""
            name = _name(self.label, self.blocks, int(self.numbers[i]))
            raise CorruptError(f"{name}: {why}{place}")


def _decoded(part: _Part, nodes: Nodes, base: int) -> Layout:
    shape, count = part.shape, part.shape.buffers[1]
    everything = np.ones(1, np.bool_)
    if shape.nodes[1] != len(nodes.types):
        part.refuse(everything, f"{shape.nodes[1]} nodes; its schema has {len(nodes.types)}")
    if shape.variadic[1] != len(nodes.views):
        part.refuse(
            everything, f"{shape.variadic[1]} counts of views; its schema has {len(nodes.views)}"
        )
    rows, body = part.column(shape.rows), part.blocks.body[part.numbers]
    part.refuse(part.column(shape.body) != body, "the footer says another length of its body")
    listed = part.matrix(shape.nodes[0], 2 * shape.nodes[1]).reshape(len(rows), -1, 2)
    lengths, nulls = listed[:, :, 0].copy(), listed[:, :, 1].copy()
    part.refuse((rows < 0) | (rows > _MOST_ROWS), "a number of rows that cannot be")
    part.refuse((lengths < 0) | (lengths > _MOST_ROWS), "a node of a length that cannot be")
    part.refuse((nulls < 0) | (nulls > lengths), "a node with more nulls than it has rows")
    starts = [start for start, _ in nodes.spans]
    part.refuse(lengths[:, starts] != rows[:, None], "a column has other rows than its batch")
    first = _first(part, nodes, count)
    ranges = part.matrix(shape.buffers[0], 2 * count).reshape(len(rows), count, 2)
    offsets, sizes = ranges[:, :, 0], ranges[:, :, 1].copy()
    outside = (offsets < 0) | (sizes < 0) | (sizes > body[:, None])
    outside |= offsets > body[:, None] - sizes
    part.refuse(outside & (sizes != 0), "a buffer does not lie in its body")
    begin = part.blocks.offset[part.numbers] + part.blocks.metadata[part.numbers]
    offsets = np.where(sizes > 0, offsets, 0) + begin[:, None]
    part.refuse((offsets % _WORD != 0) & (sizes > 0), f"a buffer is not aligned to {_WORD} bytes")
    flat = sizes.reshape(-1)
    within = first + np.arange(len(rows))[:, None] * count
    needed = lengths + np.where(lengths > 0, nodes.more, 0)
    validity = flat[within[:, :-1]]
    part.refuse((nulls > 0) & (lengths > 8 * validity), "a validity bitmap is too short")
    part.refuse(needed > _room(nodes, flat, within), "a buffer is too short for its rows")
    flat[within[:, :-1][nulls == 0]] = 0
    return Layout(rows, lengths, nulls, within + base, offsets.reshape(-1), flat)


_MOST_ROWS = 1 << 48
"""So that no product with the bits of a row overflows; no file is as long."""


def _first(part: _Part, nodes: Nodes, count: int) -> _Ints:
    """Give where the buffers of each node begin among those of its message; [m, n + 1]."""
    counts = np.tile(nodes.buffers, (len(part.stack), 1))
    if len(nodes.views):
        variadic = part.matrix(part.shape.variadic[0], len(nodes.views))
        part.refuse((variadic < 0) | (variadic > count), "a count of views that cannot be")
        counts[:, nodes.views] += variadic
    ends = np.cumsum(counts, axis=1)
    total = ends[:, -1] if len(nodes.types) else np.zeros(len(part.stack), np.int64)
    part.refuse(total != count, f"it has {count} buffers, and its nodes another number")
    return np.concatenate((np.zeros((len(ends), 1), np.int64), ends), axis=1)


def _room(nodes: Nodes, sizes: _Ints, first: _Ints) -> _Ints:
    """Give how many elements there is room for in the second buffer of each node; [m, n]."""
    second = np.minimum(first[:, :-1] + 1, len(sizes) - 1)  # a struct has none, and 0 bits
    room = 8 * sizes[second] // np.maximum(nodes.bits, 1)
    return np.where(nodes.bits > 0, room, _MOST_ROWS + 1)


def _joined(parts: list[tuple[_Ints, Layout]], count: int, nodes: int) -> Layout:
    """Give the messages of all parts in the order of their numbers."""
    if len(parts) == 1:
        return parts[0][1]
    rows = np.zeros(count, np.int64)
    lengths, nulls = np.zeros((count, nodes), np.int64), np.zeros((count, nodes), np.int64)
    first = np.zeros((count, nodes + 1), np.int64)
    for numbers, part in parts:
        rows[numbers] = part.rows
        lengths[numbers], nulls[numbers], first[numbers] = part.lengths, part.nulls, part.first
    none = np.zeros(0, np.int64)
    offsets = np.concatenate([none, *(part.offsets for _, part in parts)])
    sizes = np.concatenate([none, *(part.sizes for _, part in parts)])
    return Layout(rows, lengths, nulls, first, offsets, sizes)
