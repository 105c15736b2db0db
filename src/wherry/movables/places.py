"""Where a home keeps things: journal, rows of dormant continuations, the key of its seals."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from wherry.base.errors import CorruptError
from wherry.run.journal import Journal
from wherry.run.journal_memory import MemoryJournal

KEY_BYTES: Final = 32
_SERVERS: Final = ("postgresql://", "postgres://")


def opened(journal: str | Path | None) -> Journal:
    """Open a journal to drive it: a file, a server's address, or None for one in memory."""
    if journal is None:
        return MemoryJournal()
    if _on_server(journal):
        from wherry.run.journal_postgres import open_postgres  # noqa: PLC0415  an extra

        return open_postgres(str(journal))
    from wherry.run.journal_sqlite import open_sqlite  # noqa: PLC0415  takes 10 ms to import

    return open_sqlite(journal)


def looked(journal: str | Path) -> Journal:
    """Open a journal to read it, while another process may drive it.

    Raises
    ------
    InputError
        If there is none.
    """
    if _on_server(journal):
        return opened(journal)
    from wherry.run.journal_sqlite import look_sqlite  # noqa: PLC0415  takes 10 ms to import

    return look_sqlite(journal)


def known_key(journal: str | Path) -> bytes | None:
    """Give the key that seals a home's messages; None if this user has none to it."""
    path = _key_path(Path(journal))
    return None if _on_server(journal) or not path.is_file() else sealing_key(journal)


def rows_folder(journal: str | Path | None) -> Path | None:
    """Give the folder beside the journal for rows of dormant continuations; None: memory."""
    if journal is None or _on_server(journal):
        return None
    path = Path(journal)
    return path.with_name(f"{path.name}.rows")


def sealing_key(journal: str | Path | None) -> bytes:
    """Give the key that seals a home's messages: beside its journal, and nobody else's to read.

    Raises
    ------
    CorruptError
        If the file of the key has another length.
    """
    if journal is None or _on_server(journal):
        return os.urandom(KEY_BYTES)
    path = _key_path(Path(journal))
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, os.urandom(KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise CorruptError(f"{path} should hold a key of {KEY_BYTES} bytes; it has {len(key)}")
    return key


def _key_path(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.key")


def _on_server(journal: str | Path) -> bool:
    return str(journal).startswith(_SERVERS)
