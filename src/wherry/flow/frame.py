"""Frames as bytes: the live slots of a position, typed; and back.

A frame is a msgpack array of the slots' values in order. While a called movable waits, one more
item follows: `[position, frame]` of the callee. Decoding builds declared types and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec

from wherry.base.errors import CorruptError, InputError
from wherry.flow.nodes import CallMovable, Position, Program
from wherry.flow.types import is_wire, most_bytes
from wherry.flow.wire import check_value, decoded_type, smallest_bound

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_REFUSED: Final = (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError)


Freezer = Callable[[tuple[Any, ...]], bytes]
Thawer = Callable[[bytes], tuple[Any, ...]]


class Frames:
    """What writes and reads the frames of one program.

    Attributes
    ----------
    freezers : list
        By position: values to bytes. Who freezes often calls these.
    thawers : list
        By position: bytes to values.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.callees = tuple(map(frames_of, program.callees))
        numbers = range(len(program.positions))
        self.freezers: list[Freezer] = [self._freezer(n) for n in numbers]
        self.thawers: list[Thawer] = [self._thawer(n) for n in numbers]

    def _freezer(self, number: int) -> Freezer:
        position = self.program.positions[number]
        if not all(is_wire(slot.type) for slot in position.slots):
            return self._stays
        # A frame of at most so many bytes exceeds no bound of a text or tuple.
        quick = min((smallest_bound(slot.type) for slot in position.slots), default=1 << 30)

        encode = _ENCODE  # a name of its own is found faster than one of the module

        def freeze(values: tuple[Any, ...]) -> bytes:
            try:
                data = encode(values)
            except (OverflowError, UnicodeEncodeError, TypeError) as problem:
                self._check(number, values)
                raise InputError(f"{self.program.name}: {problem}") from None
            if len(data) > quick:
                self._check(number, values)
            return data

        if not isinstance(position.awaits, CallMovable):
            return freeze
        callee = self.callees[position.awaits.callee]

        def freeze_nested(values: tuple[Any, ...]) -> bytes:
            inner, inside = values[-1]
            slots = values[:-1]
            self._check(number, slots)
            return _ENCODE((*slots, (inner, msgspec.Raw(callee.freezers[inner](inside)))))

        return freeze_nested

    def _thawer(self, number: int) -> Thawer:
        position = self.program.positions[number]
        if not all(is_wire(slot.type) for slot in position.slots):
            return self._stays
        types = [decoded_type(slot.type) for slot in position.slots]
        nested = isinstance(position.awaits, CallMovable)
        if nested:
            types.append(tuple[int, msgspec.Raw])
        wanted: Any = tuple.__class_getitem__(tuple(types))
        decode = msgspec.msgpack.Decoder(wanted).decode
        most = frame_most(self.program, position)
        quick = min((smallest_bound(slot.type) for slot in position.slots), default=1 << 30)

        def thaw(data: bytes) -> tuple[Any, ...]:
            if len(data) > most:
                raise CorruptError(f"{self._at(number)}: {len(data)} bytes; at most {most}")
            try:
                values: tuple[Any, ...] = decode(data)
            except _REFUSED as problem:
                raise CorruptError(f"{self._at(number)}: {problem}") from None
            if len(data) > quick:
                self._thawed_check(number, values)
            return values

        if not isinstance(position.awaits, CallMovable):
            return thaw
        callee = self.callees[position.awaits.callee]

        def thaw_nested(data: bytes) -> tuple[Any, ...]:
            *slots, (inner, raw) = thaw(data)
            return (*slots, (inner, callee.thaw(inner, bytes(raw))))

        return thaw_nested

    def _stays(self, _: object) -> NoReturn:
        raise InputError(f"{self.program.name} takes a Home value: it starts where it is called")

    def thaw(self, position: int, data: bytes) -> tuple[Any, ...]:
        """Give the values of a frame, of a position that may not exist."""
        last = len(self.thawers) - 1
        if not 0 <= position <= last:
            raise CorruptError(f"{self.program.name} has no position {position}; 0 to {last}")
        return self.thawers[position](data)

    def _at(self, number: int) -> str:
        return f"{self.program.name}: the frame of position {number}"

    def _check(self, position: int, values: tuple[Any, ...]) -> None:
        slots = self.program.positions[position].slots
        for slot, value in zip(slots, values, strict=True):
            check_value(slot.type, value, f"{self.program.name}: {slot.name}")

    def _thawed_check(self, position: int, values: tuple[Any, ...]) -> None:
        slots = self.program.positions[position].slots
        try:
            self._check(position, values[: len(slots)])
        except InputError as problem:
            raise CorruptError(str(problem)) from None


def frame_most(program: Program, position: Position) -> int:
    """Give the bytes of a position's frame at most, frames of called movables included."""
    own = 3 + sum(most_bytes(slot.type) for slot in position.slots if is_wire(slot.type))
    if isinstance(position.awaits, CallMovable):
        callee = program.callees[position.awaits.callee]
        own += 6 + max((frame_most(callee, p) for p in callee.positions[1:]), default=0)
    return own


_FRAMES: dict[int, Frames] = {}


def frames_of(program: Program) -> Frames:
    """Give what writes and reads the frames of a program; kept as long as it is used."""
    found = _FRAMES.get(id(program))
    if found is None or found.program is not program:
        found = Frames(program)
        if len(_FRAMES) >= _MOST_KEPT:
            _FRAMES.clear()
        _FRAMES[id(program)] = found
    return found


_MOST_KEPT: Final = 4096


def freeze_frame(program: Program, position: int, values: tuple[Any, ...]) -> bytes:
    """Give the bytes of a frame: the values of a position's slots, in order.

    Raises
    ------
    InputError
        If a value exceeds the bound of its slot.
    """
    return frames_of(program).freezers[position](values)


def thaw_frame(program: Program, position: int, data: bytes) -> tuple[Any, ...]:
    """Give the values that `freeze_frame` wrote.

    Raises
    ------
    CorruptError
        If the bytes are no frame of that position.
    """
    return frames_of(program).thaw(position, data)
