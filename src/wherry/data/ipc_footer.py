"""The footer of an Arrow IPC file: its schema, and where its messages lie.

pyarrow decodes the schema, and looks at the whole footer while it does; where messages lie and
which dictionary a field has it does not say, so that is read here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.base.errors import CorruptError, InputError
from wherry.data.flatbuffer import number, scalar, slot, target, vector
from wherry.data.mapping import decoded, reading
from wherry.data.types import check_schema

_MAGIC = b"ARROW1"
_START = 8
"""Bytes before the first message: the magic, padded."""
_END = 10
"""Bytes behind the footer: its length and the magic."""
_TAIL = 1 << 16
_SCHEMA, _DICTIONARIES, _BATCHES = 1, 2, 3
"""Fields of a Footer."""
_ENDIANNESS, _FIELDS = 0, 1
"""Fields of a Schema."""
_DICTIONARY, _CHILDREN = 4, 5
"""Fields of a Field."""
_ID = 0
"""Field of a DictionaryEncoding."""
_BLOCK = np.dtype(
    {
        "names": ["offset", "metadata", "body"],
        "formats": ["<i8", "<i4", "<i8"],
        "offsets": [0, 8, 16],
        "itemsize": 24,
    }
)


class File(Struct, frozen=True):
    """An open file: its descriptor, and its size and time when it was opened."""

    path: Path
    descriptor: int
    size: int
    modified_ns: int

    @property
    def label(self) -> str:
        """What errors call the file."""
        return str(self.path)


class Blocks(Struct, frozen=True, eq=False):
    """Where messages lie in a file, in bytes from its beginning; int64 arrays, one element each.

    `offset` is where a message's metadata begin, `metadata` their length and `body` that of the
    buffers right behind them. All of it has proved to lie in the file.
    """

    offset: npt.NDArray[np.int64]
    metadata: npt.NDArray[np.int64]
    body: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset)


class Footer(Struct, frozen=True, eq=False):
    """What the end of a file says.

    Attributes
    ----------
    schema : pyarrow.Schema
    ids : tuple of int
        For every node of the schema, depth first, the id of its dictionary; -1: it has none.
    dictionaries, batches : Blocks
        In the file's order.
    """

    schema: pa.Schema
    ids: tuple[int, ...]
    dictionaries: Blocks
    batches: Blocks


def open_descriptor(path: Path) -> File:
    """Open a file to read from; the caller closes its descriptor.

    Raises
    ------
    InputError
        When it is missing or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    stat = os.fstat(descriptor)
    return File(path, descriptor, stat.st_size, stat.st_mtime_ns)


def read_footer(file: File) -> Footer:
    """Read the footer of an Arrow IPC file.

    Raises
    ------
    InputError
        When the file is none, is big-endian, or has a type that Wherry does not read.
    CorruptError
        When it is truncated, or says what cannot be; with the offset of what does.
    """
    content = _content(file)
    at = file.size - _END - len(content)
    what = f"{file.label} ({file.size} bytes): the footer of {len(content)} bytes at offset {at}"
    alone = pa.py_buffer(_MAGIC + b"\0\0" + content + struct.pack("<i", len(content)) + _MAGIC)
    with reading(what):
        reader = ipc.open_file(alone)
        schema = decoded(reader.schema)
    check_schema(schema, file.label)
    try:
        root = target(content, 0)
        stored = target(content, slot(content, root, _SCHEMA))
        if scalar(content, stored, _ENDIANNESS, "<h"):
            raise InputError(f"{file.label} is big-endian; only little-endian files are read")
        found = Footer(
            schema=schema,
            ids=tuple(_ids(content, stored, _FIELDS)),
            dictionaries=_blocks(content, root, _DICTIONARIES),
            batches=_blocks(content, root, _BATCHES),
        )
    except struct.error as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error
    for blocks in (found.dictionaries, found.batches):
        _check(blocks, at, what)
    return found


def _content(file: File) -> bytes:
    """Give the bytes of the footer."""
    if pread(file, min(file.size, len(_MAGIC)), 0) != _MAGIC:
        raise InputError(f"{file.label} is no Arrow IPC file: it does not begin with {_MAGIC!r}")
    tail = pread(file, min(file.size, _TAIL), max(0, file.size - _TAIL))
    if len(tail) < _START + _END or not tail.endswith(_MAGIC):
        raise CorruptError(
            f"{file.label} ({file.size} bytes) is truncated: it ends with {tail[-6:]!r} "
            f"at offset {max(0, file.size - 6)}, not with {_MAGIC!r}"
        )
    length = number(tail, len(tail) - _END, "<i")
    if not 0 < length <= file.size - _START - _END:
        raise CorruptError(
            f"{file.label} ({file.size} bytes): a footer of {length} bytes, as offset "
            f"{file.size - _END} says, does not fit in it"
        )
    if length + _END <= len(tail):
        return tail[-_END - length : -_END]
    return pread(file, length, file.size - _END - length)


def pread(file: File, size: int, offset: int) -> bytes:
    """Give bytes of a file.

    Raises
    ------
    InputError
        When they cannot be read.
    CorruptError
        When the file ends before them.
    """
    try:
        content = os.pread(file.descriptor, size, offset)
    except OSError as error:
        raise InputError(
            f"{file.label} cannot be read at offset {offset}: {error.strerror or error}"
        ) from error
    if len(content) < size:
        raise CorruptError(f"{file.label} is truncated: it ends at offset {offset + len(content)}")
    return content


def _ids(data: bytes, table: int, which: int) -> Iterator[int]:
    """Give the ids of the nodes of a Schema's fields, or a Field's children.

    They nest no deeper than `MOST_LEVELS`: the schema was checked before.
    """
    start, count = vector(data, table, which, 4)
    for i in range(count):
        field = target(data, start + 4 * i)
        encoding = slot(data, field, _DICTIONARY)
        if encoding:
            yield scalar(data, target(data, encoding), _ID, "<q")
        else:
            yield -1
            yield from _ids(data, field, _CHILDREN)


def _blocks(data: bytes, root: int, which: int) -> Blocks:
    start, count = vector(data, root, which, _BLOCK.itemsize)
    found = np.frombuffer(data, _BLOCK, count, start)
    return Blocks(*(found[name].astype(np.int64) for name in ("offset", "metadata", "body")))


def _check(blocks: Blocks, end: int, what: str) -> None:
    """Refuse messages that do not lie before `end`, or that have more metadata than fit there."""
    offset, metadata, body = blocks.offset, blocks.metadata, blocks.body
    bad = (offset < _START) | (metadata <= 0) | (body < 0)
    bad |= (offset > end) | (body > end) | (offset + metadata > end - body)
    if bad.any():
        i = int(bad.argmax())
        raise CorruptError(
            f"{what}: message {i} of {metadata[i]} and {body[i]} bytes at offset {offset[i]} "
            "does not lie before it"
        )
    if int(metadata.sum()) > end:
        raise CorruptError(
            f"{what}: its {len(blocks)} messages have more bytes of metadata than the file"
        )
