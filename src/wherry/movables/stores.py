"""Rows that steps leave at nodes, by reference, until the lease of their continuation ends.

A row that an await gave stays where it was made; frames hold its reference. What a dormant
continuation refers to has to outlive the process, so it is written beside the journal before the
journal says that it sleeps: once, as an Arrow file, which is mapped when it is asked for again.
A node lets go of what it has in memory when a lease ends; the files are home's, for as long as the
continuation is not over. A key begins with its continuation's id, and so does its file's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import CorruptError, InputError, Retryable
from wherry.data.arrow_write import write_ipc
from wherry.data.source import open_source

KEY_BYTES = 16
_ID_BYTES = 8
"""Of the continuation's id in a key."""
_ENDING = "ending"
"""The folder of notes among the folders of continuations, whose names are hexadecimal."""


class LeaseEnded(Retryable):
    """Rows that a continuation refers to are no longer kept."""


class Stores(Struct):
    """The rows kept at the nodes of one process.

    Parameters
    ----------
    folder : Path or None
        Where rows of dormant continuations are written; None keeps them in memory only.
    """

    folder: Path | None = None
    _rows: dict[bytes, pa.Table] = field(default_factory=dict)
    _pinned: set[bytes] = field(default_factory=set)

    def keep(self, key: bytes, rows: pa.Table) -> None:
        """Keep rows under a key of 16 bytes, by reference."""
        self._rows[key] = rows

    def rows(self, key: bytes, node: str) -> pa.Table:
        """Give the rows of a key.

        Raises
        ------
        LeaseEnded
            If nobody keeps them any more.
        CorruptError
            If their file is not whole.
        """
        found = self._rows.get(key)
        if found is not None:
            return found
        path = self._path(key)
        if path is None or not path.exists():
            raise LeaseEnded(f"{node} no longer keeps the rows {key.hex()}: their lease ended")
        try:
            source = open_source(path)
            batches = [source.read(ref, source.schema.names) for ref in source.chunks()]
        except InputError as problem:
            raise CorruptError(f"{path}: rows of a dormant continuation: {problem}") from None
        self._rows[key] = pa.Table.from_batches(batches, source.schema)
        return self._rows[key]

    def save(self, key: bytes, node: str) -> None:
        """Write rows so that they outlive the process, if there is a folder and they are not there.

        Raises
        ------
        InputError
            If the disk is full, or the folder cannot be written.
        """
        path = self._path(key)
        if path is None or path.exists():
            return
        rows = self.rows(key, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_ipc(path, rows.schema, rows.to_batches())
        _sync(path)
        _sync(path.parent)
        _sync(path.parent.parent)

    def end(self, id_: bytes, answer: Iterable[bytes]) -> None:
        """Let go of the files of a continuation that is over, but for those of its answer."""
        if self.folder is None:
            return
        kept = {key.hex() for key in answer}
        folder = self.folder / id_[:_ID_BYTES].hex()
        if folder.is_dir():
            for path in folder.iterdir():  # also what a killed process was writing
                if path.stem not in kept:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # the answer is in it
                folder.rmdir()
        self._ending(id_).unlink(missing_ok=True)

    def ending(self, id_: bytes) -> None:
        """Note that a continuation with files is about to be over, until `end` was called.

        A process may be killed between the answer on record and the end of its files; nothing in
        the journal would then lead to them. The note is not synced: `kill -9` leaves it.
        """
        if self.folder is not None and (self.folder / id_[:_ID_BYTES].hex()).is_dir():
            note = self._ending(id_)
            note.parent.mkdir(exist_ok=True)
            note.touch()

    def unfinished(self) -> list[bytes]:
        """Give the continuations of which a process noted the end and did not come to it."""
        notes = () if self.folder is None else (self.folder / _ENDING).glob("*")
        return sorted(bytes.fromhex(note.name) for note in notes)

    def _ending(self, id_: bytes) -> Path:
        assert self.folder is not None  # there are files
        return self.folder / _ENDING / id_.hex()

    def pin(self, key: bytes) -> None:
        """Keep rows beyond their continuation: they are its answer, until `unpin`."""
        self._pinned.add(key)

    def unpin(self, key: bytes) -> None:
        """Let go of an answer in memory that was fetched; what is written can be again."""
        self._pinned.discard(key)
        self._rows.pop(key, None)

    def drop(self, key: bytes) -> None:
        """Let rows in memory go, unless they are an answer; nothing if they are gone."""
        if key not in self._pinned:
            self._rows.pop(key, None)

    def kept(self) -> frozenset[bytes]:
        """Give the keys of all rows that are kept, in memory or written."""
        written = self.folder.glob("*/*.arrow") if self.folder is not None else ()
        return frozenset(self._rows) | {bytes.fromhex(path.stem) for path in written}

    def _path(self, key: bytes) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / key[:_ID_BYTES].hex() / f"{key.hex()}.arrow"


def new_key(id_: bytes) -> bytes:
    """Give a key for rows of a continuation."""
    return id_[:_ID_BYTES] + os.urandom(KEY_BYTES - _ID_BYTES)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
