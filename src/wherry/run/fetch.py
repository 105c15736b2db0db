"""Bytes of a source on their way to a device: from its files where they lie there, else from here.

Most columns of an Arrow file are pieces of its mapping. Read by request instead of by touching
pages they come faster from the page cache, and can pass it by.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.base.memo import Memo
from wherry.data.assemble import Span
from wherry.data.extents import plan_extents
from wherry.data.ipc_footer import File, open_descriptor
from wherry.data.mapping import MappedFile
from wherry.data.source import Source
from wherry.devices.accelerator import Block
from wherry.devices.loading import DeviceReader, FileRanges, HostRanges, Loading

_mapped = Memo(1)


class Copy(Struct, frozen=True):
    """Bytes of the host, the address on a device where they go, and what keeps that."""

    span: Span
    target: int
    block: Block


def begin_copies(reader: DeviceReader, source: Source, copies: Sequence[Copy]) -> list[Loading]:
    """Begin to load; what lies in a file of the source is read from it."""
    mapped: _Mapped = _mapped.get(source, "files", lambda: _Mapped(source))
    by_file: dict[int, list[Copy]] = {}
    for copy in copies:
        by_file.setdefault(mapped.number(copy.span), []).append(copy)
    found = list[Loading]()
    try:
        for number, some in by_file.items():
            found.append(_begin(reader, mapped.files[number] if number >= 0 else None, some))
    except BaseException:
        for load in found:
            load.close()
        raise
    return found


def _begin(reader: DeviceReader, file: MappedFile | None, copies: Sequence[Copy]) -> Loading:
    addresses, sizes, targets = (
        np.array(each, np.uint64).view(np.int64)
        for each in zip(*((c.span.address, c.span.nbytes, c.target) for c in copies), strict=True)
    )
    keep = [(copy.span.owner, copy.block) for copy in copies]
    opened = None if file is None else _opened(file)
    if file is None or opened is None:
        return reader.begin(HostRanges(addresses, sizes, targets), keep)
    try:
        extents, places = plan_extents(addresses - file.buffer.address, sizes, reader.gap)
        return reader.begin(FileRanges(opened, extents, places, sizes, targets), keep)
    finally:
        os.close(opened.descriptor)


def _opened(mapping: MappedFile) -> File | None:
    """Open a mapped file once more; None: its path leads elsewhere by now."""
    try:
        found = open_descriptor(mapping.path)
    except InputError:
        return None
    if os.path.samestat(os.fstat(found.descriptor), mapping.stat):
        return found
    os.close(found.descriptor)
    return None


class _Mapped:
    """The mappings of a source's files, by address."""

    def __init__(self, source: Source) -> None:
        parts = getattr(source, "parts", ())
        found = [m for part in parts if (m := getattr(part, "mapping", None)) is not None]
        self.files = sorted(found, key=lambda mapping: mapping.buffer.address)
        self._begins = [mapping.buffer.address for mapping in self.files]

    def number(self, span: Span) -> int:
        """Give the file that bytes lie in; -1: none."""
        number = bisect_right(self._begins, span.address) - 1
        if number < 0:
            return -1
        buffer = self.files[number].buffer
        inside = span.address + span.nbytes <= buffer.address + buffer.size
        return number if inside else -1
