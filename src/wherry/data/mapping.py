"""A file mapped into memory, and what tells whether it is still the file that was opened.

A file must not be truncated or rewritten in place while it is open: like every memory mapping, this
one would show the change (replace the file by a rename instead).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import digest
from wherry.data.types import MOST_LEVELS, value_type


class MappedFile(Struct, frozen=True):
    """A file's bytes, and its size and time when they were mapped."""

    path: Path
    stat: os.stat_result
    buffer: pa.Buffer

    @property
    def label(self) -> str:
        """What errors call the file."""
        return str(self.path)

    @property
    def identity(self) -> bytes:
        """Digest of name, size and modification time."""
        return digest(self.path.name.encode(), repr(_version(self.stat)).encode())

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was mapped; one renamed over it is no matter.

        Raises
        ------
        InputError
            When the path still leads to the mapped file, and its size or time is another.
        """
        try:
            now = self.path.stat()
        except OSError:
            return  # Removed or out of reach: the mapping holds what was there.
        if os.path.samestat(now, self.stat) and _version(now) != _version(self.stat):
            raise InputError(
                f"{self.path} was changed in place after it was opened; scan it again "
                "(a file that is replaced by a rename stays readable)"
            )


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def map_file(path: Path) -> MappedFile:
    """Map a file.

    Raises
    ------
    InputError
        When the file is missing, unreadable or empty.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_size == 0:
                raise InputError(f"{path} is empty: neither Arrow IPC nor Parquet")
            mapped = mmap.mmap(file.fileno(), stat.st_size, prot=mmap.PROT_READ)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    with suppress(OSError):  # Advice: faults then fill the page cache with large folios.
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return MappedFile(path, stat, pa.py_buffer(mapped))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say of whatever pyarrow finds wrong meanwhile that `what` cannot be read.

    Raises
    ------
    CorruptError
        In the place of pyarrow's errors, those of names that are not UTF-8 among them.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise CorruptError(f"{what} cannot be read: {error}") from error


def decoded(schema: pa.Schema) -> pa.Schema:
    """Give `schema` once its names and time zones have proved to be UTF-8."""
    _look_at(schema, MOST_LEVELS)
    return schema


def _look_at(fields: Iterable[pa.Field], levels: int) -> None:
    for field in fields:
        t = value_type(field.type)
        _ = field.name, getattr(t, "tz", None)  # pyarrow decodes them when asked.
        if levels and pa.types.is_struct(t):
            _look_at(t, levels - 1)
