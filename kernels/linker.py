"""Objects become code in this process, close to their constants.

Code reaches its constants by offsets of 32 bits, and so do the tables by which it is unwound. LLVM
takes memory for one section after the other, wherever the kernel has some, and ends the process if
an offset does not fit: once gigabytes are mapped between two free places, it may not. So a linker
takes all its memory at once. Its first object has next to nothing in it, but says that its sections
begin at multiples of `ROOM_BYTES`; what LLVM takes for them is that much longer than they are, and
sections of later objects are put there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import llvmlite.binding as llvm

ROOM_BYTES: Final = 8 << 20
"""For code, for constants and for variables, of each linker: 2,000 objects of a page each. Pages
that nothing was put into take no memory."""
_LINKING_BYTES: Final = 32 << 20
"""What linking takes besides, generously."""
_FAR_BYTES: Final = 1 << 30
_TRIES: Final = 8
_PAGE: Final = mmap.PAGESIZE

# ELF of 64 bits, little-endian: its header, the headers of sections, and symbols.
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_PROGRAM, _SYMBOLS, _STRINGS = 1, 2, 3
_WRITABLE, _LOADED, _CODE = 1, 2, 4
_GLOBAL: Final = 1 << 4
_WORD: Final = 8
_PLACES: Final = {"code": _LOADED | _CODE, "constant": _LOADED, "variable": _LOADED | _WRITABLE}
"""Symbols of the first object, each in a section of its own, and what is done with that."""


class Linker:
    """Memory for objects, and what was put there; it stays as long as the linker does.

    Parameters
    ----------
    machine : callable
        Gives a target machine of llvmlite: LLVM keeps the one that it is given.
    code : bytes
        The first object that it is for; it is not put there yet.

    Raises
    ------
    MemoryError
        If there is no memory.
    """

    def __init__(self, machine: Callable[[], Any], code: bytes) -> None:
        room = ROOM_BYTES
        while room < _needed(len(code)):
            room *= 2
        check_room(6 * room)
        first = _spread(code, room)
        tried = []
        for _ in range(_TRIES):
            # One that is stretched over a large mapping is kept until there is one that is not: the
            # kernel gives the same places again otherwise.
            self._linker = llvm.create_mcjit_compiler(
                llvm.parse_assembly(""), machine(), use_lmm=False
            )
            tried.append(self._linker)
            self._objects: list[Any] = []
            self._add(first)
            places = [self._address(name) for name in _PLACES]
            if max(places) - min(places) < _FAR_BYTES:
                break
        else:
            raise MemoryError(f"no {3 * room >> 20} MiB of addresses together for machine code")
        self._left = room - _PAGE

    def fits(self, nbytes: int) -> bool:
        """Tell whether there is room for an object of so many bytes."""
        return _needed(nbytes) <= self._left

    def addresses(self, code: bytes, symbols: Sequence[str]) -> list[int]:
        """Put an object into memory, for which there is room; give where its functions lie."""
        check_room(4 * len(code))
        self._left -= _needed(len(code))
        self._add(code)
        return [self._address(name) for name in symbols]

    def _add(self, code: bytes) -> None:
        reference = llvm.ObjectFileRef.from_data(code)
        self._linker.add_object_file(reference)
        self._linker.finalize_object()
        self._objects.append((reference, code))

    def _address(self, name: str) -> int:
        return int(self._linker.get_function_address(name))


def check_room(nbytes: int) -> None:
    """Refuse to go on without memory for what is made: LLVM would end the process.

    Raises
    ------
    MemoryError
        If there is none now.
    """
    try:
        mmap.mmap(-1, _LINKING_BYTES + nbytes).close()
    except OSError:
        raise MemoryError("no memory for machine code") from None


def _needed(nbytes: int) -> int:
    """Give what an object takes of each room at most: rights are given by the page."""
    return (nbytes // _PAGE + 2) * _PAGE


def _spread(like: bytes, alignment: int) -> bytes:
    """Give an object for the processor of another, its sections at multiples of `alignment`.

    LLVM would take 2 ms to make one (measured), half of what a process takes to load its programs.
    """
    names = b"\0".join((b"", *(name.encode() for name in _PLACES), b""))
    symbols = [bytes(_SYMBOL.size)]
    symbols += [
        _SYMBOL.pack(names.index(name.encode()), _GLOBAL, 0, section, 0, _WORD)
        for section, name in enumerate(_PLACES, 1)
    ]
    content = b"".join((bytes(_WORD), *symbols, names))
    at = _HEADER.size
    sections = [bytes(_SECTION.size)]
    sections += [
        _SECTION.pack(0, _PROGRAM, flags, 0, at, _WORD, 0, 0, alignment, 0)
        for flags in _PLACES.values()
    ]
    strings = len(sections) + 1
    table = len(symbols) * _SYMBOL.size
    sections += [
        _SECTION.pack(0, _SYMBOLS, 0, 0, at + _WORD, table, strings, 1, 8, _SYMBOL.size),
        _SECTION.pack(0, _STRINGS, 0, 0, at + _WORD + table, len(names), 0, 0, 1, 0),
    ]
    found = list(_HEADER.unpack_from(like))
    found[6] = _HEADER.size + len(content)  # where sections are told
    found[12], found[13] = len(sections), strings
    return b"".join((_HEADER.pack(*found), content, *sections))
