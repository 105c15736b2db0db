"""What an await is given, as bytes: typed by the program, so that decoding builds nothing else.

A continuation travels to the node that carries its await out, so the operands go with the frame:
a msgpack array of their values in order. Their types follow from those of the variables.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from wherry.base.errors import CorruptError, InputError
from wherry.flow.infer import infer
from wherry.flow.nodes import Await, Program
from wherry.flow.types import Fixed, WireType, is_wire, most_bytes, type_name
from wherry.flow.value_types import Values
from wherry.flow.wire import check_value, decoded_type

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_REFUSED: Final = (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError)


class Operands:
    """What writes and reads the operands of one program's awaits, by position."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.types = operand_types(program)
        self._decode = [_decoder(types) for types in self.types]
        self._most = [3 + sum(map(most_bytes, types)) for types in self.types]

    def freeze(self, position: int, operands: tuple[Any, ...]) -> bytes:
        """Give operands as bytes.

        Raises
        ------
        InputError
            If one is longer than its type allows.
        """
        try:
            data = _ENCODE(operands)
        except (OverflowError, UnicodeEncodeError, TypeError) as problem:
            raise InputError(f"{self._at(position)}: {problem}") from None
        if len(data) > self._most[position]:
            for t, value in zip(self.types[position], operands, strict=True):
                check_value(t, value, self._at(position))
        return data

    def thaw(self, position: int, data: bytes) -> tuple[Any, ...]:
        """Read what `freeze` wrote.

        Raises
        ------
        CorruptError
            If there is no such position, or the bytes hold other types.
        """
        if not 0 <= position < len(self._decode):
            last = len(self._decode) - 1
            raise CorruptError(f"{self.program.name} has no position {position}; 0 to {last}")
        if len(data) > self._most[position]:
            most = self._most[position]
            raise CorruptError(f"{self._at(position)}: {len(data)} bytes; at most {most}")
        try:
            found: tuple[Any, ...] = self._decode[position](data)
        except _REFUSED as problem:
            raise CorruptError(f"{self._at(position)}: {problem}") from None
        return found

    def _at(self, position: int) -> str:
        return f"{self.program.name}: the operands of position {position}"


@lru_cache(maxsize=256)
def operands_of(program: Program) -> Operands:
    """Give what writes and reads the operands of a program."""
    return Operands(program)


def operand_types(program: Program) -> tuple[tuple[WireType, ...], ...]:
    """Give the types of what each position's await is given; none at the entry."""
    values = Values(program, lambda *_: None)
    ends = infer(program, lambda *_: None).ends
    found: list[tuple[WireType, ...]] = [()] * len(program.positions)
    for number, block in enumerate(program.blocks):
        if isinstance(block.end, Await) and number in ends:
            position = block.end.position
            operands = program.positions[position].operands
            found[position] = tuple(values.of(operand, ends[number]) for operand in operands)
    return tuple(found)


def _decoder(types: tuple[WireType, ...]) -> Any:
    bound = [type_name(t) for t in types if not is_wire(t)]
    if bound:
        raise CorruptError(f"an await is given {bound[0]}, which is bound to its place")
    return msgspec.msgpack.Decoder(decoded_type(Fixed(types))).decode
