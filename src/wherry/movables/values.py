"""Values that leave a frame, as JSON of their type: results, payloads of events, answers."""

from __future__ import annotations

from typing import Any

import msgspec

from wherry.base.errors import CorruptError, InputError
from wherry.flow.types import WireType, is_wire, type_name
from wherry.flow.wire import check_value, decoded_type
from wherry.ir.codec import decode, encode


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """An answer that can be read without its program, which may be gone.

    Attributes
    ----------
    name : str
        Of the movable.
    type : bytes
        Of the value, as `wherry.ir.codec` encodes it.
    value : bytes
        As JSON.
    """

    name: str
    type: bytes
    value: bytes


_answers = msgspec.msgpack.Decoder(Answer)  # see wherry.base.decoders


def answer_bytes(name: str, t: WireType, value: object) -> bytes:
    """Give the bytes of an answer.

    Raises
    ------
    InputError
        If the value is not of the type.
    """
    body = to_json(t, value, f"{name}: the result")
    return msgspec.msgpack.encode(Answer(name, encode(t), body))


def answer_of(data: bytes) -> tuple[str, Any]:
    """Give the name of the movable and the value of an answer.

    Raises
    ------
    CorruptError
        If the bytes are no answer.
    """
    try:
        found = _answers.decode(data)
    except msgspec.DecodeError as problem:
        raise CorruptError(f"{len(data)} bytes are no answer: {problem}") from None
    t = decode(found.type)
    if not isinstance(t, WireType) or not is_wire(t):
        raise CorruptError(f"an answer of {found.name} has type {t!r}, which no frame can hold")
    return found.name, from_json(t, found.value, f"{found.name}: the result")


def to_json(t: WireType, value: object, what: str) -> bytes:
    """Give a value as JSON, checked against its type.

    Raises
    ------
    InputError
        If it is of another type, or longer than its bound; `what` says whose it is.
    """
    return msgspec.json.encode(check_value(t, value, what))


def from_json(t: WireType, data: bytes, what: str) -> Any:
    """Read a value of a type from JSON; nothing but that type can be built.

    Raises
    ------
    InputError
        If the bytes are no JSON, or hold another type.
    """
    if not data:
        data = b"null"
    try:
        value = msgspec.json.decode(data, type=decoded_type(t))
    except msgspec.DecodeError as problem:
        raise InputError(f"{what} should be {type_name(t)} as JSON: {problem}") from None
    return check_value(t, value, what)
