"""The pages of a column chunk, where they lie, checked before anything of them is decoded."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import CorruptError
from wherry.data.mapping import reading
from wherry.data.parquet_columns import ParquetBytes
from wherry.data.scratch import Scratch
from wherry.kernels.layout import SLACK
from wherry.kernels.parquet_layout import CODEC, FAULT, KIND, MEANING, PAGE, PAGES
from wherry.kernels.skeletons import skeletons

_pages = skeletons("parquet.pages")
_chunk = skeletons("parquet.chunk")
_scratch = Scratch()

MOST_ROWS = 1 << 26
"""Of a row group; above it pyarrow decodes. Lying row counts then cost no more than a few GiB of
address space before they are found out."""
_FEW_PAGES = 128
_SMALLEST_PAGE = 8
_CODECS = {"UNCOMPRESSED": CODEC.NONE, "SNAPPY": CODEC.SNAPPY}


class Pages(Struct, frozen=True):
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
    count : int
        How many pages there are, index pages left out.
    table : array of int64
        `kernels.parquet_layout.PAGE` of each.
    known : array of int64
        `kernels.parquet_layout.PAGES`.
    owners : tuple
        What has to live as long as the addresses are used.
    """

    name: str
    start: int
    rows: int
    codec: str
    count: int
    table: array[int]
    known: array[int]
    owners: tuple[Any, ...]

    @property
    def codes_only(self) -> bool:
        """Whether every value is an index of the chunk's dictionary."""
        return bool(self.known[PAGES.HAS_TABLE]) and not self.known[PAGES.PLAIN]

    @property
    def entries(self) -> int:
        """How many values the chunk's dictionary has."""
        return self.known[PAGES.ENTRIES]

    @property
    def skeleton_codec(self) -> int:
        """The codec as skeletons number it."""
        return _CODECS.get(self.codec, CODEC.OTHER)

    def as_array(self) -> npt.NDArray[np.int64]:
        """Give the table by page and entry, not copied."""
        whole = np.frombuffer(self.table, np.int64)
        return whole[: self.count * PAGE.COUNT].reshape(-1, PAGE.COUNT)

    def fault(self, code: int, address: int) -> CorruptError:
        """Give the error for a skeleton's fault at an address."""
        what = MEANING.get(code, f"fault {code}")
        return CorruptError(f"{self.name}, page at offset {address - self.start}: {what}")


def read_pages(file: ParquetBytes, row_group: int, column: int) -> Pages:
    """Read the headers of the pages of field `column`, which has one column chunk.

    Raises
    ------
    CorruptError
        When the chunk does not lie in the file, or its pages are not what they say.
    """
    name = file.name(row_group, column)
    chunk, rows = file.chunks(row_group, column)[0], file.footer.rows[row_group]
    assert file.buffer is not None
    begin, size = chunk.data_page_offset, chunk.total_compressed_size
    if 0 < (chunk.dictionary_page_offset or 0) < begin:
        begin = chunk.dictionary_page_offset or 0
    if not 0 <= begin <= begin + size <= file.buffer.size:
        raise CorruptError(
            f"{name}: its footer places {size} bytes at offset {begin} of a file of "
            f"{file.buffer.size} bytes"
        )
    start, owner = file.buffer.address, file.buffer
    if begin + size + SLACK > file.buffer.size:
        # Whole words are read behind the last page: give them room, at the end of tiny files.
        owner = pa.py_buffer(file.buffer[begin : begin + size].to_pybytes() + bytes(SLACK))
        start = owner.address - begin
    pages = Pages(name, start, rows, chunk.compression, 0, array("q"), array("q"), (owner,))
    return _filled(pages, start + begin, size)


def _filled(pages: Pages, begin: int, size: int) -> Pages:
    room, most = _FEW_PAGES, size // _SMALLEST_PAGE + 1
    while True:
        table, known = array("q", bytes(8 * PAGE.COUNT * room)), array("q", bytes(8 * PAGES.COUNT))
        count = _pages.read_pages(
            begin,
            begin + size,
            pages.rows,
            pages.skeleton_codec,
            table.buffer_info()[0],
            room,
            known.buffer_info()[0],
        )
        if count != FAULT.TOO_MANY_PAGES or room >= most:
            break
        room = min(room * 8, most)
    if count < 0:
        raise pages.fault(count, known[PAGES.FAULT_AT])
    found = replace(pages, count=count, table=table, known=known)
    if known[PAGES.CHECKED]:
        _check_sums(found)
    return found


def _check_sums(pages: Pages) -> None:
    for page in pages.as_array():
        body = pa.foreign_buffer(int(page[PAGE.START]), int(page[PAGE.STORED]), pages.owners)
        if page[PAGE.CHECKSUM] >= 0 and zlib.crc32(body) != page[PAGE.CHECKSUM]:
            raise pages.fault(FAULT.CHECKSUM, int(page[PAGE.HEADER]))


def dictionary_page(pages: Pages) -> Pages:
    """Give a dictionary's page as a chunk of its own: it is laid out like one of plain values."""
    page = pages.table[: PAGE.COUNT]
    page[PAGE.KIND], page[PAGE.ENCODING] = KIND.DATA, 0
    known = array("q", bytes(8 * PAGES.COUNT))
    known[PAGES.MOST_VALUES] = page[PAGE.VALUES]
    known[PAGES.MOST_SIZE] = known[PAGES.PLAIN_SIZE] = page[PAGE.SIZE]
    known[PAGES.PLAIN] = 1
    return replace(pages, rows=page[PAGE.VALUES], count=1, table=page, known=known)


def code_pages(pages: Pages) -> Pages:
    """Give the pages behind the dictionary's."""
    return replace(pages, count=pages.count - 1, table=pages.table[PAGE.COUNT :])


def decompressed(pages: Pages, kept: int) -> Pages:
    """Decompress what skeletons cannot; pages of which no row is wanted stay as they are.

    Parameters
    ----------
    kept : int
        Address of the bits of the wanted rows; 0: all are.
    """
    table = pages.as_array().copy()
    chosen = list(_wanted(table, kept))
    total = sum(int(page[PAGE.SIZE]) + SLACK for page in chosen)
    room, address = _scratch.room("pages", total)
    codec, at = pa.Codec(pages.codec.lower()), 0
    for page in chosen:
        size = int(page[PAGE.SIZE])
        _decompress(pages, page, codec, room[at : at + size])
        page[PAGE.START], page[PAGE.STORED] = address + at, size
        at += size + SLACK
    return replace(
        pages, codec="UNCOMPRESSED", table=array("q", table.tobytes()), owners=(*pages.owners, room)
    )


def _wanted(table: npt.NDArray[np.int64], kept: int) -> Iterator[npt.NDArray[np.int64]]:
    row = 0
    for page in table:
        rows, data = int(page[PAGE.VALUES]), page[PAGE.KIND] != KIND.DICTIONARY
        if page[PAGE.PACKED] == 1 and not (data and kept and not _chunk.wanted(kept, row, rows)):
            yield page
        row += rows if data else 0


def _decompress(
    pages: Pages, page: npt.NDArray[np.int64], codec: pa.Codec, room: npt.NDArray[np.uint8]
) -> None:
    """Put a page's body into `room`; the levels of version 2 are not compressed."""
    levels = 0
    if page[PAGE.KIND] == KIND.DATA_2:
        levels = int(page[PAGE.LEVELS] + page[PAGE.REPEATS])
    body = pa.foreign_buffer(int(page[PAGE.START]), int(page[PAGE.STORED]), pages.owners)
    room[:levels] = np.frombuffer(body, np.uint8, levels)
    if len(room) > levels:
        with reading(f"{pages.name}, page at offset {page[PAGE.HEADER] - pages.start}"):
            values = codec.decompress(body[levels:], len(room) - levels)
        room[levels:] = np.frombuffer(values, np.uint8)
