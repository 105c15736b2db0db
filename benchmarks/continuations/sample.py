"""Records as home writes them, with messages of the real layout."""

from __future__ import annotations

from hashlib import blake2b

from wherry.run.message import RUN, Message, freeze
from wherry.run.records import PARKED, PASSED, Held, Receipted, Record

_KEY = b"k" * 32
PROGRAM = b"program 16 bytes"
SETTING = b"setting 16 bytes"
_FRAME = bytes(range(40))
_RECEIPT = bytes(48)


def id_of(number: int) -> bytes:
    """Give ids that lie apart, as random ones do."""
    return blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def message(id_: bytes, hop: int) -> bytes:
    """Give a sealed message with a frame of 40 bytes."""
    return freeze(
        Message(
            id=id_,
            kind=RUN,
            epoch=1,
            hop=hop,
            program=PROGRAM,
            position=2,
            home="client",
            tenant="tenant",
            frame=_FRAME,
            trace=id_,
        ),
        _KEY,
    )


def step(id_: bytes, hop: int) -> list[Record]:
    """Give what a hop makes home write: the state that it came to, and what it used."""
    state = Held(
        id_, 1, hop, PASSED, PROGRAM, 2, message(id_, hop), "csd0", 0, "", "tenant", 1, b"", SETTING
    )
    return [state, Receipted(id_, 1, hop, "csd0", "tenant", _RECEIPT, 1, True)]


def dormant(number: int, wake_ns: int) -> Held:
    """Give one that sleeps until a time."""
    id_ = id_of(number)
    return Held(
        id_, 1, 3, PARKED, PROGRAM, 2, message(id_, 3), "", wake_ns, "", "tenant",
        1_700_000_000_000_000_000, b"", SETTING,
    )  # fmt: skip
