"""A journal of real bytes, for schedules of faults: rows with checksums, written in batches.

A batch is a frame [length, checksum, rows]. One that was asked for and is not durable may be there
after a crash, be torn, or be gone; a durable row may have a bit flipped later. Both must be found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

import msgspec

from wherry.run.records import (
    Answered,
    Code,
    Effect,
    Forgotten,
    Held,
    Leased,
    Receipted,
    Record,
    Signal,
    Stepped,
)

Key = tuple[Any, ...]
"""Table, id (empty: of no continuation), and what else is the row's primary key."""
_FRAME: Final = struct.Struct("<II")
_encode: Final = msgspec.msgpack.Encoder().encode
_TYPES: Final = (Held, Stepped, Effect, Leased, Signal, Receipted, Answered, Code)
HELD, STEPPED, EFFECT, LEASED, SIGNAL, RECEIPTED, ANSWERED, CODE = range(len(_TYPES))
FORGOTTEN: Final = len(_TYPES)
TABLES: Final = tuple(kind.__name__ for kind in _TYPES)
_NUMBERS: Final = {kind: number for number, kind in enumerate((*_TYPES, Forgotten))}
_decoders: Final[tuple[Callable[[bytes], Any], ...]] = tuple(
    msgspec.msgpack.Decoder(kind).decode for kind in (*_TYPES, Forgotten)
)
_KEYS: Final[tuple[Callable[[Any], Key], ...]] = (
    lambda r: (HELD, r.id),
    lambda r: (STEPPED, r.id, r.hop),
    lambda r: (EFFECT, r.id, r.key),
    lambda r: (LEASED, r.id, r.resource),
    lambda r: (SIGNAL, b"", r.name, r.number),
    lambda r: (RECEIPTED, r.id, r.epoch, r.hop, r.node, r.run),
    lambda r: (ANSWERED, r.id),
    lambda r: (CODE, b"", r.digest),
)


class Journal:
    """Rows by key, as bytes; `owner`: it is home's, which keeps receipts for good."""

    def __init__(self, *, owner: bool) -> None:
        self.owner = owner
        self.rows: dict[Key, bytes] = {}
        self.ids: dict[bytes, set[Key]] = {}
        """The keys of each id."""
        self.pending: list[tuple[Record, ...]] = []
        self.receipts: dict[Key, bytes] = {}
        """Every receipt that was ever durable here: what this node counts."""

    def sync(self) -> list[Held]:
        """Make what is pending durable; give those that are parked until a time now."""
        parked = []
        for batch in self.pending:
            for record in batch:
                self.put(record)
                if type(record) is Held and record.wake_ns:
                    parked.append(record)
        self.pending.clear()
        return parked

    def crash(self, survive: int, cut: int, flip: int) -> None:
        """End with so many pending batches written, the next one cut short after `cut` bytes.

        `flip` >= 0 turns a bit of what was written of that one.
        """
        pending, self.pending = self.pending, []
        for number, batch in enumerate(pending[: survive + 1]):
            rows = _encode([(_NUMBERS[type(r)], _encode(r)) for r in batch])
            frame = _FRAME.pack(len(rows), crc32(rows)) + rows
            if number == survive:
                frame = frame[:cut] if flip < 0 or cut < len(frame) else frame
                if flip >= 0 and frame:
                    torn = bytearray(frame)
                    torn[flip % len(frame)] ^= 1 << flip % 8
                    frame = bytes(torn)
            for record in _recovered(frame):
                self.put(record)

    def of(self, id_: bytes) -> tuple[tuple[Record, ...], str]:
        """Give the records of an id, and which of its state or answer is damaged."""
        found: list[Record] = []
        damage = ""
        for key in sorted(self.ids.get(id_, ()), key=repr):
            record = self.read(key)
            if record is not None:
                found.append(record)
            elif key[0] in {HELD, ANSWERED}:
                damage = f"{TABLES[key[0]]} row: its checksum does not fit"
        return tuple(found), damage

    def counted(self, name: str) -> dict[Key, bytes]:
        """Give the receipts of the steps that this node itself carried out."""
        return {(k[4], k[1], k[2], k[3], k[5]): v for k, v in self.receipts.items() if k[4] == name}

    def read(self, key: Key) -> Record | None:
        """Read a row; None: it is damaged, and stays so until it is written again."""
        row = self.rows[key]
        body = row[4:]
        if crc32(body) != int.from_bytes(row[:4], "little"):
            return None
        return _decoders[key[0]](body)

    def put(self, record: Record) -> None:
        """Write one record, durable at once."""
        if isinstance(record, Forgotten):
            for key in [k for k in self.ids.get(record.id, ()) if k[0] in {HELD, STEPPED}]:
                self._drop(key)
            return
        key = _KEYS[_NUMBERS[type(record)]](record)
        known = key in self.rows
        if self._ends(record):
            if known:
                self._drop(key)
            return
        if isinstance(record, Receipted):
            self.receipts.setdefault(key, record.receipt)
        elif isinstance(record, Signal) and known and not record.taken:
            return
        body = _encode(record)
        self.rows[key] = crc32(body).to_bytes(4, "little") + body
        if not known:
            self.ids.setdefault(key[1], set()).add(key)

    def _ends(self, record: Record) -> bool:
        """Whether a record says that its row may go."""
        if isinstance(record, Leased):
            return not record.until_ns
        return isinstance(record, Receipted) and record.told and not self.owner

    def _drop(self, key: Key) -> None:
        del self.rows[key]
        keys = self.ids[key[1]]
        keys.discard(key)
        if not keys:
            del self.ids[key[1]]


def _recovered(frame: bytes) -> list[Record]:
    """Give the records of a frame at the end of the log, if all of it is there."""
    if len(frame) < _FRAME.size:
        return []
    length, checksum = _FRAME.unpack_from(frame)
    rows = frame[_FRAME.size :]
    if len(rows) != length or crc32(rows) != checksum:
        return []
    return [_decoders[number](body) for number, body in msgspec.msgpack.decode(rows)]
