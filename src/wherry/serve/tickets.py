"""Tickets: sealed bytes that let whoever shows them take one piece, until its lease ends.

Layout, little-endian:

    offset  size  field
    0       4     magic "WHRT"
    4       1     version, now 1
    5       1     key id: which of the agent's keys sealed it
    6       1     t, length of the tenant's name
    7       1     reserved, 0
    8       16    id of the query
    24      4     epoch
    28      8     first number of the piece, signed
    36      8     second number of the piece, signed
    44      8     end, nanoseconds of the steady clock of the agent that keeps the piece
    52      t     whose rows they are: the tenant's name, UTF-8
    52+t    16    seal: keyed BLAKE2b-128 of everything before it

Only the agent that sealed a ticket opens it, with a key that nobody else has and that its next life
does not have either. The end is of its own steady clock: clocks of others do not matter.
"""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from wherry.base.errors import CorruptError, InputError, Retryable
from wherry.base.ids import DIGEST_BYTES
from wherry.run.message import opened, sealed
from wherry.serve.keyring import KeyRing

MAGIC: Final = b"WHRT"
VERSION: Final = 1
TENANT_BYTES_MAX: Final = 64
_HEADER: Final = struct.Struct("<4sBBBB16sIqqQ")
_LEAST: Final = _HEADER.size + DIGEST_BYTES
TICKET_BYTES_MAX: Final = _LEAST + TENANT_BYTES_MAX
"""A longer ticket is refused unread."""


class Ticket(Struct, frozen=True):
    """What a ticket says.

    Attributes
    ----------
    query : bytes
        16 bytes.
    epoch : int
        Of the query, when the piece was made.
    piece : (int, int)
        Which piece of the query.
    tenant : str
        Whose rows they are; at most `TENANT_BYTES_MAX` bytes.
    until_ns : int
        When it ends, by the steady clock of the agent that sealed it.
    """

    query: bytes
    epoch: int
    piece: tuple[int, int]
    tenant: str
    until_ns: int


def seal_ticket(ticket: Ticket, ring: KeyRing, now_ns: int) -> bytes:
    """Give the bytes of a ticket, sealed with the newest key of the agent's ring.

    A ticket ends with its key, at the latest.

    Raises
    ------
    InputError
        If a field does not fit its place.
    """
    key = ring.newest(None, now_ns)
    tenant = ticket.tenant.encode()
    if len(tenant) > TENANT_BYTES_MAX or len(ticket.query) != DIGEST_BYTES:
        raise InputError(
            f"ticket: a tenant of {len(tenant)} bytes and a query of {len(ticket.query)}; "
            f"possible: up to {TENANT_BYTES_MAX}, and {DIGEST_BYTES}"
        )
    try:
        header = _HEADER.pack(
            MAGIC, VERSION, key.id, len(tenant), 0, ticket.query, ticket.epoch, *ticket.piece,
            min(ticket.until_ns, key.until_ns),
        )  # fmt: skip
    except struct.error as problem:
        raise InputError(f"ticket: a field does not fit: {problem}") from None
    body = header + tenant
    return body + sealed(body, key.key)


def open_ticket(data: bytes, ring: KeyRing, now_ns: int) -> Ticket:
    """Read a ticket that `seal_ticket` wrote with a key of the same ring.

    Raises
    ------
    CorruptError
        If it is not well formed, or another agent's; the field and its offset are named.
    Retryable
        If it has ended, or its key has: the piece is to be made again.
    """
    if not _LEAST <= len(data) <= TICKET_BYTES_MAX:
        raise CorruptError(f"ticket of {len(data)} bytes; possible: {_LEAST} to {TICKET_BYTES_MAX}")
    if data[:4] != MAGIC:
        raise CorruptError(f"ticket: magic at offset 0 is {data[:4]!r}, not {MAGIC!r}")
    key = ring.find(data[5], None, now_ns)
    body = opened(data, key.key, MAGIC, _LEAST, TICKET_BYTES_MAX)
    _, _, _, length, _, query, epoch, first, second, until = _HEADER.unpack_from(body)
    if _HEADER.size + length != len(body):
        raise CorruptError(
            f"ticket: length at offset 6 is {length}, not {len(body) - _HEADER.size}"
        )
    if until <= now_ns:
        raise Retryable(
            f"the ticket ended {(now_ns - until) / 1e9:.3f} s ago; ask for the rows anew"
        )
    tenant = body[_HEADER.size :].decode()
    return Ticket(query, epoch, (first, second), tenant, until)
