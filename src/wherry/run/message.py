"""The sealed message of a movable: what moves from node to node.

Layout, little-endian; docs/reference/messages.md says what each field is for:

    offset  size  field
    0       4     magic "WHRM"
    4       1     version, now 1
    5       1     kind: what is to be done where it arrives (`KINDS`)
    6       1     flags: bits of `FLAGS`
    7       1     key id: which key sealed it
    8       4     hop: how many moves came before
    12      16    id of the continuation
    28      4     epoch: how often home drove it anew; older ones are refused
    32      16    digest of the program; its bytes are sent once to a node that lacks them
    48      2     position in the program
    50      1     given: what the operand of a `RUN` is (`GIVEN`)
    51      1     flags of the trace
    52      8     deadline, Unix nanoseconds of home's clock; 0: none
    60      4     lease, milliseconds: home waits so long for a sign of life
    64      16    trace id
    80      8     span id of the hop before
    88      1     budget mask: bit n says that the n-th of `BUDGETS` follows
    89      1     length of home's name
    90      1     length of the tenant's name
    91      1     reserved, 0
    92      4     length of the operand
    96      4     length of the frame
    100     8k    the k budgets that are present, signed
    +       h     name of home, UTF-8
    +       t     name of the tenant, UTF-8
    +       o     operand: the result that a `RUN` goes on with, or what the kind needs
    +       f     frame: the live values
    +       16    seal: keyed BLAKE2b-128 of everything before it

Nothing in a message can name code. The seal is checked before a length is believed, and frame and
operand stay bytes here: `wherry.flow` reads them by the types of the program they belong to.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import blake2b
from typing import Final

import msgspec

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import DIGEST_BYTES

MAGIC: Final = b"WHRM"
VERSION: Final = 1
HEADER_BYTES: Final = 100
MESSAGE_BYTES_MAX: Final = 1 << 20
"""A longer message is refused unread."""
NAME_BYTES_MAX: Final = 64
"""Longest name of a node or a tenant."""

COUNT_MAX: Final = 1 << 31
"""Epochs and hops are less."""
LEASE_MS_MIN: Final = 10
"""A lease is no shorter: signs of life come three times a lease."""
WAIT_NS_MAX: Final = 1 << 61
"""Nobody waits longer: 73 years."""

RUN: Final = 1
"""Go on with the step: put the operand in and run to the next await."""
PARK: Final = 2
"""Home is to keep it until a time or an event; the operand says which (`parking`)."""
PERFORM: Final = 3
"""Home is to perform an effect; the operand says which (`effect`)."""
ANSWER: Final = 4
"""The operand is the answer."""
FAILED: Final = 5
"""The operand is the error it ended with."""
LOST: Final = 6
"""Rows that the state refers to are gone; the operand is the error that says so."""
KINDS: Final = ("", "run", "park", "perform", "answer", "failed", "lost")

REFERS: Final = 1
"""The frame refers to rows that some node keeps under a lease."""
ONCE: Final = 2
"""The effect may not be performed twice."""
FRESH: Final = 4
"""Home drove it anew because rows were lost: recorded outcomes of the same hop are not reused."""
FLAGS: Final = REFERS | ONCE | FRESH

NOTHING: Final = 0
VALUE: Final = 1
ERROR: Final = 2
UNKNOWN: Final = 3
TIMED_OUT: Final = 4
GIVEN: Final = ("nothing", "value", "error", "unknown", "timed out")
"""What a `RUN` goes on with. Unknown: nobody can say whether a `once` effect took place."""

BUDGETS: Final = (
    "time_ns",
    "bytes",
    "rows",
    "iops",
    "ram_byte_ns",
    "nic_buffer_byte_ns",
    "hops",
    "money_micro",
)

_HEADER: Final = struct.Struct("<4sBBBBI16sI16sHBBQI16s8sBBBBII")
_BUDGET: Final = tuple(struct.Struct(f"<{n}q") for n in range(len(BUDGETS) + 1))
_BITS: Final = tuple(mask.bit_count() for mask in range(256))
_LEAST: Final = HEADER_BYTES + DIGEST_BYTES
assert _HEADER.size == HEADER_BYTES


class Budget(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What may still be used: `values` of the `BUDGETS` whose bit is in `mask`, in that order."""

    mask: int = 0
    values: tuple[int, ...] = ()

    def get(self, name: str) -> int | None:
        """Give what is left of one budget; None: it has no bound."""
        bit = BUDGETS.index(name)
        if not self.mask >> bit & 1:
            return None
        return self.values[_BITS[self.mask & ((1 << bit) - 1)]]

    def items(self) -> dict[str, int]:
        """Give every bounded budget by name."""
        present = (name for bit, name in enumerate(BUDGETS) if self.mask >> bit & 1)
        return dict(zip(present, self.values, strict=True))


UNBOUNDED: Final = Budget()


def budget(**left: int) -> Budget:
    """Give a budget by name.

    >>> budget(rows=5, hops=9)
    Budget(mask=68, values=(5, 9))

    Raises
    ------
    InputError
        If a name is none of `BUDGETS`.
    """
    unknown = sorted(set(left) - set(BUDGETS))
    if unknown:
        raise InputError(f"no budget {unknown[0]!r}; budgets: {', '.join(BUDGETS)}")
    mask = sum(1 << bit for bit, name in enumerate(BUDGETS) if name in left)
    return Budget(mask, tuple(left[name] for name in BUDGETS if name in left))


class Message(msgspec.Struct, frozen=True, gc=False):
    """A continuation on its way.

    Attributes
    ----------
    id : bytes
        16 bytes.
    kind : int
        One of `KINDS`.
    epoch, hop, position : int
        How often it was driven anew, how many moves came before, where in the program it is.
    program : bytes
        16 bytes: digest of the program.
    home, tenant : str
        The node that owns it, and who pays; at most `NAME_BYTES_MAX` bytes each.
    frame, operand : bytes
        The live values, and what the kind needs.
    given, flags : int
        What the operand of a `RUN` is; bits of `FLAGS`.
    deadline_ns, lease_ms : int
        When home gives up (Unix ns, 0: never), and how long it waits for a sign of life.
    budget : Budget
        What may still be used.
    trace, span : bytes
        16 and 8 bytes: the trace and the span of the hop before.
    trace_flags, key_id : int
        One byte each.
    """

    id: bytes
    kind: int
    epoch: int
    hop: int
    program: bytes
    position: int
    home: str
    tenant: str = ""
    frame: bytes = b""
    operand: bytes = b""
    given: int = NOTHING
    flags: int = 0
    deadline_ns: int = 0
    lease_ms: int = 30_000
    budget: Budget = UNBOUNDED
    trace: bytes = bytes(16)
    span: bytes = bytes(8)
    trace_flags: int = 0
    key_id: int = 0


def freeze(message: Message, key: bytes) -> bytes:
    """Give the bytes of a message, sealed with `key`.

    Raises
    ------
    InputError
        If a field does not fit its place: a name, or the whole, is too long.
    """
    m = message
    left = m.budget
    home = m.home.encode()
    tenant = m.tenant.encode()
    frame = m.frame
    operand = m.operand
    try:
        header = _HEADER.pack(
            MAGIC, VERSION, m.kind, m.flags, m.key_id, m.hop, m.id, m.epoch, m.program, m.position,
            m.given, m.trace_flags, m.deadline_ns, m.lease_ms, m.trace, m.span, left.mask,
            len(home), len(tenant), 0, len(operand), len(frame),
        )  # fmt: skip
    except struct.error as problem:
        raise InputError(f"message of {m.id.hex()}: a field does not fit: {problem}") from None
    if left.mask:
        header += _BUDGET[_BITS[left.mask]].pack(*left.values)
    body = b"".join((header, home, tenant, operand, frame))
    if len(body) > MESSAGE_BYTES_MAX - DIGEST_BYTES or len(home) > 64 or len(tenant) > 64:
        raise InputError(
            f"message of {m.id.hex()}: {len(body) + DIGEST_BYTES} bytes, names of {len(home)} and "
            f"{len(tenant)}; possible: {MESSAGE_BYTES_MAX}, {NAME_BYTES_MAX} and {NAME_BYTES_MAX}"
        )
    return body + sealed(body, key)


def thaw(data: bytes, key: bytes) -> Message:
    """Read a message that `freeze` wrote with the same key.

    Raises
    ------
    CorruptError
        If it is cut short, of another version, sealed with another key, or not well formed; the
        field and its offset are named.
    """
    body = opened(data, key, MAGIC, _LEAST, MESSAGE_BYTES_MAX)
    (
        _, _, kind, flags, key_id, hop, id_, epoch, program, position, given, trace_flags,
        deadline, lease, trace, span, mask, homes, tenants, reserved, operands, frames,
    ) = _HEADER.unpack_from(body)  # fmt: skip
    at = HEADER_BYTES + 8 * _BITS[mask]
    if at + homes + tenants + operands + frames != len(body):
        raise CorruptError(
            f"message: lengths at offsets 88 to 96 come to "
            f"{at + homes + tenants + operands + frames} bytes; there are {len(body)}"
        )
    if not 0 < kind <= LOST or given > TIMED_OUT or flags & ~FLAGS or reserved:
        raise _unfit(kind, flags, given, reserved)
    if max(epoch, hop) >= COUNT_MAX or lease < LEASE_MS_MIN:
        raise CorruptError(
            f"message: epoch {epoch}, hop {hop}, lease {lease} ms at offsets 28, 8, 60; possible: "
            f"less than {COUNT_MAX}, at least {LEASE_MS_MIN} ms"
        )
    if homes > NAME_BYTES_MAX or tenants > NAME_BYTES_MAX:
        raise CorruptError(
            f"message: names at offset 89 of {homes} and {tenants} bytes; possible: "
            f"{NAME_BYTES_MAX}"
        )
    left = UNBOUNDED
    if mask:
        left = Budget(mask, _BUDGET[_BITS[mask]].unpack_from(body, HEADER_BYTES))
    try:
        home = body[at : at + homes].decode()
        at += homes
        tenant = body[at : at + tenants].decode()
    except UnicodeDecodeError as problem:
        raise CorruptError(f"message: name at offset {at}: {problem}") from None
    at += tenants
    return Message(
        id_, kind, epoch, hop, program, position, home, tenant, body[at + operands :],
        body[at : at + operands], given, flags, deadline, lease, left, trace, span,
        trace_flags, key_id,
    )  # fmt: skip


def state_digest(message: Message) -> bytes:
    """Give 8 bytes that are equal where a step begins with the same state.

    Epoch, lease, budget and trace are left out: a step driven anew has others of them.
    """
    m = message
    state = blake2b(digest_size=8)
    state.update(struct.pack("<BBHI", m.kind, m.given, m.position, len(m.frame)))
    state.update(m.program)
    state.update(m.frame)
    state.update(m.operand)
    return state.digest()


def sealed(body: bytes, key: bytes) -> bytes:
    """Give the seal of `body`; the keyed state is made once a key."""
    state = _keyed.get(key)
    if state is None:
        if len(_keyed) >= _KEYS_MAX:
            _keyed.clear()
        state = _keyed[key] = blake2b(key=key, digest_size=DIGEST_BYTES)
    state = state.copy()
    state.update(body)
    return state.digest()


_keyed: dict[bytes, blake2b] = {}
_KEYS_MAX: Final = 64


def opened(data: bytes, key: bytes, magic: bytes, least: int, most: int) -> bytes:
    """Give a message without its seal, after checking size, magic, version and seal.

    Raises
    ------
    CorruptError
        If one of them is not what it should be.
    """
    if not least <= len(data) <= most:
        raise CorruptError(f"message of {len(data)} bytes; possible: {least} to {most}")
    if data[:4] != magic:
        raise CorruptError(f"message: magic at offset 0 is {data[:4]!r}, not {magic!r}")
    if data[4] != VERSION:
        raise CorruptError(f"message: version at offset 4 is {data[4]}, not {VERSION}")
    body = data[:-DIGEST_BYTES]
    if not hmac.compare_digest(data[-DIGEST_BYTES:], sealed(body, key)):
        raise CorruptError(f"message: the seal at offset {len(body)} does not fit")
    return body


def _unfit(kind: int, flags: int, given: int, reserved: int) -> CorruptError:
    if not 0 < kind <= LOST:
        return CorruptError(f"message: kind at offset 5 is {kind}; possible: 1 to {LOST}")
    if flags & ~FLAGS:
        return CorruptError(f"message: flags at offset 6 are {flags}; possible: {FLAGS}")
    if given > TIMED_OUT:
        return CorruptError(f"message: given at offset 50 is {given}; possible: 0 to {TIMED_OUT}")
    return CorruptError(f"message: the reserved byte at offset 91 is {reserved}, not 0")
