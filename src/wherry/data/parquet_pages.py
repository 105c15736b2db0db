"""The pages of a column chunk, where they lie, checked before anything of them is decoded."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wherry.base.errors import CorruptError
from wherry.data.mapping import reading
from wherry.data.parquet_columns import ParquetBytes
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import CODEC, ENCODING, FAULT, KIND, MEANING, PAGE
from wherry.kernels.skeletons import skeletons

_pages = skeletons("parquet.pages")
_chunk = skeletons("parquet.chunk")

Table = npt.NDArray[np.int64]
MOST_ROWS = 1 << 26
"""Of a row group; above it pyarrow decodes. Lying row counts then cost no more than a few GiB of
address space before they are found out."""
_FEW_PAGES = 256
_SMALLEST_PAGE = 8
_CODES = (ENCODING.DICTIONARY, ENCODING.PLAIN_DICTIONARY)


@dataclass(frozen=True, slots=True)
class Pages:
    """A column chunk's pages.

    Attributes
    ----------
    name : str
        What errors call the chunk.
    start : int
        Address of the file's first byte, so that faults can be given as offsets.
    rows : int
        Of the row group.
    codec : str
        As Parquet calls it.
    table : ndarray of int64
        A row per page, index pages left out; columns are `kernels.parquet_layout.PAGE`.
    owners : tuple
        What has to live as long as the addresses are used.
    """

    name: str
    start: int
    rows: int
    codec: str
    table: Table
    owners: tuple[Any, ...]

    @property
    def dictionary(self) -> Table | None:
        """The dictionary's page, if there is one."""
        first = self.table[:1]
        return first[0] if len(first) and first[0, PAGE.KIND] == KIND.DICTIONARY else None

    @property
    def data(self) -> Table:
        """The data pages."""
        return self.table[self.table[:, PAGE.KIND] != KIND.DICTIONARY]

    @property
    def plain(self) -> Table:
        """The data pages whose values are not indices of the dictionary."""
        return self.data[~np.isin(self.data[:, PAGE.ENCODING], _CODES)]

    def fault(self, code: int, address: int) -> CorruptError:
        """Give the error for a skeleton's fault at an address."""
        what = MEANING.get(code, f"fault {code}")
        return CorruptError(f"{self.name}, page at offset {address - self.start}: {what}")


class Scratch(threading.local):
    """Memory of a thread that is used again by every job: named, aligned, only ever growing."""

    _KEPT = 32 << 20

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}

    def room(self, name: str, nbytes: int) -> npt.NDArray[np.uint8]:
        """Give at least `nbytes` bytes and `SLACK` behind them, at a multiple of 64."""
        found = self._kept.get(name)
        if found is not None and found.nbytes >= nbytes + SLACK:
            return found
        size = nbytes + SLACK
        if size <= self._KEPT:
            size = max(4096, 1 << (size - 1).bit_length())
        whole = np.empty(size + 64, np.uint8)
        start = -whole.ctypes.data % 64
        found = whole[start : start + size]
        if size <= self._KEPT:
            self._kept[name] = found
        return found


scratch = Scratch()


def read_pages(file: ParquetBytes, row_group: int, column: int) -> Pages:
    """Read the headers of the pages of field `column`, which has one column chunk.

    Raises
    ------
    CorruptError
        When the chunk does not lie in the file, or its pages are not what they say.
    """
    name = file.name(row_group, column)
    chunk = file.chunks(row_group, column)[0]
    rows = file.metadata.row_group(row_group).num_rows
    assert file.buffer is not None
    begin, size = chunk.data_page_offset, chunk.total_compressed_size
    if 0 < (chunk.dictionary_page_offset or 0) < begin:
        begin = chunk.dictionary_page_offset
    if not 4 <= begin <= begin + size <= file.buffer.size or not 0 <= rows <= MOST_ROWS:
        raise CorruptError(
            f"{name}: its footer places {size} bytes at offset {begin} for {rows} rows, "
            f"in a file of {file.buffer.size} bytes"
        )
    start, owners = file.buffer.address, (file.buffer,)
    if begin + size + SLACK > file.buffer.size:
        # Whole words are read behind the last page: give them room, at the end of tiny files.
        copy = np.zeros(size + SLACK, np.uint8)
        copy[:size] = np.frombuffer(file.buffer, np.uint8, size, begin)
        start, owners = copy.ctypes.data - begin, (copy,)
    pages = Pages(name, start, rows, chunk.compression, np.empty((0, PAGE.COUNT), np.int64), owners)
    return _filled(pages, start + begin, size)


def _filled(pages: Pages, begin: int, size: int) -> Pages:
    snappy = pages.codec == "SNAPPY"
    room, most = _FEW_PAGES, size // _SMALLEST_PAGE + 1
    while True:
        table = np.empty((room, PAGE.COUNT), np.int64)
        fault_at = np.zeros(1, np.int64)
        count = _pages.read_pages(
            begin, begin + size, pages.rows, snappy, table.ctypes.data, room, fault_at.ctypes.data
        )
        if count != FAULT.TOO_MANY_PAGES or room >= most:
            break
        room = min(room * 8, most)
    if count < 0:
        raise pages.fault(count, int(fault_at[0]))
    found = Pages(pages.name, pages.start, pages.rows, pages.codec, table[:count], pages.owners)
    _check(found)
    return found


def _check(pages: Pages) -> None:
    """Refuse pages whose sizes or checksums are wrong."""
    table = pages.table
    packed = (table[:, PAGE.PACKED] == 1) & (pages.codec != "UNCOMPRESSED")
    wrong = ~packed & (table[:, PAGE.SIZE] != table[:, PAGE.STORED])
    if wrong.any():
        raise pages.fault(FAULT.PAGE_SIZE, int(table[wrong][0, PAGE.HEADER]))
    if (table[:, PAGE.CHECKSUM] >= 0).any():
        for page in table[table[:, PAGE.CHECKSUM] >= 0]:
            body = pa.foreign_buffer(int(page[PAGE.START]), int(page[PAGE.STORED]), pages.owners)
            if zlib.crc32(body) != page[PAGE.CHECKSUM]:
                raise pages.fault(FAULT.CHECKSUM, int(page[PAGE.HEADER]))


def ready(pages: Pages, kept: int) -> tuple[Pages, int]:
    """Decompress what the skeletons cannot, and give the codec of what is left for them.

    Parameters
    ----------
    kept : int
        Address of the bits of the wanted rows; 0: all are. Pages without one stay as they are.
    """
    if pages.codec == "SNAPPY":
        return pages, CODEC.SNAPPY
    if pages.codec == "UNCOMPRESSED":
        return pages, CODEC.NONE
    table = pages.table.copy()
    chosen = list(_wanted(table, kept))
    total = sum(int(page[PAGE.SIZE]) + SLACK for page in chosen)
    room = scratch.room("decompressed", total)
    codec, at = pa.Codec(pages.codec.lower()), 0
    for page in chosen:
        at = _decompressed(pages, page, codec, room, at)
    return (
        Pages(pages.name, pages.start, pages.rows, pages.codec, table, (*pages.owners, room)),
        CODEC.NONE,
    )


def _wanted(table: Table, kept: int) -> Iterator[Table]:
    row = 0
    for page in table:
        rows = int(page[PAGE.VALUES])
        data = page[PAGE.KIND] != KIND.DICTIONARY
        needed = not (data and kept) or _chunk.wanted(kept, row, rows)
        row += rows if data else 0
        if page[PAGE.PACKED] == 1 and needed:
            yield page


def _decompressed(
    pages: Pages, page: Table, codec: pa.Codec, room: npt.NDArray[np.uint8], at: int
) -> int:
    """Put a page's body into `room` at `at`, and give where it ends there, slack included."""
    start, stored, size = (int(page[i]) for i in (PAGE.START, PAGE.STORED, PAGE.SIZE))
    levels = 0
    if page[PAGE.KIND] == KIND.DATA_2:
        levels = int(page[PAGE.LEVELS] + page[PAGE.REPEATS])
    body = np.frombuffer(pa.foreign_buffer(start, stored, pages.owners), np.uint8)
    room[at : at + levels] = body[:levels]
    if size > levels:
        with reading(f"{pages.name}, page at offset {page[PAGE.HEADER] - pages.start}"):
            values = codec.decompress(pa.py_buffer(body[levels:]), size - levels)
        room[at + levels : at + size] = np.frombuffer(values, np.uint8)
    page[PAGE.START], page[PAGE.STORED] = room.ctypes.data + at, size
    return at + size + SLACK
