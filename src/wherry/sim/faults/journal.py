"""A journal of real bytes, for schedules of faults: rows with checksums, written in batches.

A batch is a frame [length, checksum, rows]. One that was asked for and is not durable may be there
after a crash, be torn, or be gone; a durable row may have a bit flipped later. Both must be found.
"""

from __future__ import annotations

import struct
from typing import Final
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

Key = tuple[object, ...]
_FRAME: Final = struct.Struct("<II")
_encode: Final = msgspec.msgpack.Encoder().encode
_TYPES: Final = (Held, Stepped, Effect, Leased, Signal, Receipted, Answered, Code)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_TYPES)}
_decoders: Final = tuple(msgspec.msgpack.Decoder(kind).decode for kind in _TYPES)
HELD, STEPPED, EFFECT, LEASED, SIGNAL, RECEIPTED, ANSWERED, CODE = range(len(_TYPES))
TABLES: Final = tuple(kind.__name__ for kind in _TYPES)


class Journal:
    """Rows by key, as bytes; `owner` says that it is home's, which keeps receipts for good."""

    def __init__(self, *, owner: bool) -> None:
        self.owner = owner
        self.rows: dict[Key, bytes] = {}
        self.ids: dict[bytes, set[Key]] = {}
        """The keys of each id."""
        self.pending: list[tuple[Record, ...]] = []
        self.receipts: dict[Key, bytes] = {}
        """Every receipt that was ever durable here: what this node counts."""

    def sync(self) -> None:
        """Make what is pending durable."""
        for batch in self.pending:
            for record in batch:
                self._put(record)
        self.pending.clear()

    def crash(self, survive: int, cut: int, flip: int) -> None:
        """End with so many pending batches written, the next one cut short after `cut` bytes.

        `flip` >= 0 turns a bit of what was written of that one.
        """
        pending, self.pending = self.pending, []
        for number, batch in enumerate(pending[: survive + 1]):
            rows = _encode([(_NUMBERS.get(type(r), -1), _encode(r)) for r in batch])
            frame = _FRAME.pack(len(rows), crc32(rows)) + rows
            if number == survive:
                frame = frame[: min(cut, len(frame) - 1)]
                if flip >= 0 and frame:
                    torn = bytearray(frame)
                    torn[flip % len(frame)] ^= 1 << flip % 8
                    frame = bytes(torn)
            for record in _recovered(frame):
                self._put(record)

    def of(self, id_: bytes) -> tuple[tuple[Record, ...], str]:
        """Give the records of an id, and which of its state or answer is damaged."""
        found: list[Record] = []
        damage = ""
        for key in sorted(self.ids.get(id_, ()), key=repr):
            record = self.read(key)
            if record is not None:
                found.append(record)
            elif key[0] in {HELD, ANSWERED}:
                damage = _damage(key, self.rows[key])
        return tuple(found), damage

    def counted(self, name: str) -> dict[Key, bytes]:
        """Give the receipts of the steps that this node itself carried out."""
        return {(k[4], k[1], k[2], k[3], k[5]): v for k, v in self.receipts.items() if k[4] == name}

    def read(self, key: Key) -> Record | None:
        """Read a row; None: it is damaged, and stays so until it is written again."""
        row = self.rows[key]
        number, body = key[0], row[4:]
        assert isinstance(number, int)
        if crc32(body) != int.from_bytes(row[:4], "little"):
            return None
        return _decoders[number](body)

    def _put(self, record: Record) -> None:
        rows = self.rows
        if isinstance(record, Forgotten):
            for key in tuple(self.ids.get(record.id, ())):
                if key[0] in {HELD, STEPPED}:
                    self._drop(key)
            return
        key = key_of(record)
        gone = isinstance(record, Leased) and not record.until_ns
        if isinstance(record, Receipted):
            gone = record.told and not self.owner
        if gone:
            if key in rows:
                self._drop(key)
            return
        if isinstance(record, Signal) and not record.taken and key in rows:
            return
        if isinstance(record, Receipted):
            self.receipts.setdefault(key, record.receipt)
        body = _encode(record)
        if key not in rows:
            self.ids.setdefault(_id(key), set()).add(key)
        rows[key] = crc32(body).to_bytes(4, "little") + body

    def _drop(self, key: Key) -> None:
        del self.rows[key]
        keys = self.ids[_id(key)]
        keys.discard(key)
        if not keys:
            del self.ids[_id(key)]


def _damage(key: Key, row: bytes) -> str:
    number = key[0]
    assert isinstance(number, int)
    return f"{TABLES[number]} row of {len(row)} bytes: its checksum does not fit"


def key_of(record: Record) -> Key:
    """Give the table and primary key of a record."""
    if isinstance(record, Held):
        return (HELD, record.id)
    if isinstance(record, Stepped):
        return (STEPPED, record.id, record.hop)
    if isinstance(record, Effect):
        return (EFFECT, record.id, record.key)
    if isinstance(record, Leased):
        return (LEASED, record.id, record.resource)
    if isinstance(record, Signal):
        return (SIGNAL, b"", record.name, record.number)
    if isinstance(record, Receipted):
        return (RECEIPTED, record.id, record.epoch, record.hop, record.node, record.run)
    if isinstance(record, Answered):
        return (ANSWERED, record.id)
    assert isinstance(record, Code)
    return (CODE, b"", record.digest)


def _id(key: Key) -> bytes:
    id_ = key[1]
    assert isinstance(id_, bytes)
    return id_


def _recovered(frame: bytes) -> list[Record]:
    """Give the records of a frame at the end of the log, if all of it is there."""
    if len(frame) < _FRAME.size:
        return []
    length, checksum = _FRAME.unpack_from(frame)
    rows = frame[_FRAME.size :]
    if len(rows) != length or crc32(rows) != checksum:
        return []
    return [
        Forgotten(msgspec.msgpack.decode(body)[0]) if number < 0 else _decoders[number](body)
        for number, body in msgspec.msgpack.decode(rows)
    ]
