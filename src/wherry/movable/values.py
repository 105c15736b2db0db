"""Values that leave a frame: results, payloads of events, answers, as JSON of their declared type."""

from __future__ import annotations

from typing import Any

import msgspec

from wherry.base.errors import InputError
from wherry.flow.types import WireType, type_name
from wherry.flow.wire import check_value, decoded_type


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
