"""What nodes say to each other about continuations, beside the messages that carry them.

    offset  size  field
    0       4     magic "WHRC"
    4       1     version, now 1
    5       1     key id
    6       n     MessagePack array: a number for the kind, then its fields in order
    6+n     16    seal: keyed BLAKE2b-128 of everything before it

The reader builds the structs of `Control` and nothing else, and every length has a bound.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from wherry.base.errors import CorruptError
from wherry.base.ids import DIGEST_BYTES
from wherry.run.message import (
    COUNT_MAX,
    MESSAGE_BYTES_MAX,
    NAME_BYTES_MAX,
    VERSION,
    WAIT_NS_MAX,
    opened,
    sealed,
)

MAGIC: Final = b"WHRC"
CONTROL_BYTES_MAX: Final = MESSAGE_BYTES_MAX + (1 << 13)
"""A longer one is refused unread; what it carries may be as long as a message."""
RECEIPT_BYTES_MAX: Final = 1 << 12

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, lt=COUNT_MAX)]
Wide = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Wait = Annotated[int, Meta(ge=0, le=WAIT_NS_MAX)]
Name = Annotated[str, Meta(max_length=NAME_BYTES_MAX)]
Receipt = Annotated[bytes, Meta(max_length=RECEIPT_BYTES_MAX)]
Bytes = Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]


class Taken(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """The message of this epoch and hop is on record at the node that says so."""

    id: Id
    epoch: Count
    hop: Count


class Passed(Struct, frozen=True, array_like=True, gc=False, tag=2):
    """To home: this hop was carried out here and came to `message`, which is on its way to `where`.

    `message` is empty if it is no longer known. `leased` says that the sender keeps something for
    the continuation; `run` tells apart hops that were carried out twice.
    """

    id: Id
    epoch: Count
    hop: Count
    run: Wide
    where: Name
    tenant: Name
    receipt: Receipt
    message: Bytes
    leased: bool


class Noted(Struct, frozen=True, array_like=True, gc=False, tag=3):
    """From home: what `Passed` said of this epoch and hop is on record."""

    id: Id
    epoch: Count
    hop: Count
    run: Wide


class Alive(Struct, frozen=True, array_like=True, gc=False, tag=4):
    """To home: the step of this hop is still running here."""

    id: Id
    epoch: Count
    hop: Count


class Fenced(Struct, frozen=True, array_like=True, gc=False, tag=5):
    """A message was refused because its epoch is older than `epoch`."""

    id: Id
    epoch: Count


class Need(Struct, frozen=True, array_like=True, gc=False, tag=6):
    """To home: the program of this digest is not here."""

    digest: Id


class Ship(Struct, frozen=True, array_like=True, gc=False, tag=7):
    """From home: the bytes of a program."""

    digest: Id
    body: Bytes


class Renew(Struct, frozen=True, array_like=True, gc=False, tag=8):
    """From home: keep what you keep for this continuation for so long from now."""

    id: Id
    keep_ns: Wait


class Forget(Struct, frozen=True, array_like=True, gc=False, tag=9):
    """From home: this continuation has ended; nothing need be kept for it."""

    id: Id


class Forgotten(Struct, frozen=True, array_like=True, gc=False, tag=10):
    """To home: nothing is kept for this continuation here."""

    id: Id


Control = Taken | Passed | Noted | Alive | Fenced | Need | Ship | Renew | Forget | Forgotten

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Control).decode
_LEAST: Final = 6 + 2 + DIGEST_BYTES


def freeze(control: Control, key: bytes, key_id: int = 0) -> bytes:
    """Give the bytes of a control message, sealed with `key`."""
    body = b"WHRC%c%c%b" % (VERSION, key_id, _encode(control))
    return body + sealed(body, key)


def thaw(data: bytes, key: bytes) -> Control:
    """Read a control message that `freeze` wrote with the same key.

    Raises
    ------
    CorruptError
        If it is cut short, of another version, sealed with another key, or not well formed.
    """
    body = opened(data, key, MAGIC, _LEAST, CONTROL_BYTES_MAX)
    try:
        return _decode(memoryview(body)[6:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise CorruptError(f"control message at offset 6: {problem}") from None
