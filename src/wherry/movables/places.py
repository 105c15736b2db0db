"""Where a home keeps things: journal, rows of dormant continuations, the key of its seals."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

from wherry.base.errors import CorruptError, InputError
from wherry.base.ids import digest
from wherry.run.journal import Journal
from wherry.run.journal_memory import MemoryJournal
from wherry.run.message import thaw

KEY_BYTES: Final = 32
_TRIED: Final = 8
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


def key_for(journal: Journal, name: str | Path | None) -> bytes:
    """Give the key that seals a home's messages, and refuse one that opens nothing of its journal.

    Raises
    ------
    InputError
        If the journal has sealed states, and the key is not here, or fits none of the first few.
    """
    if name is None or _on_server(name):
        return sealing_key(name)
    path = _key_path(name)
    sealed = [one.message for one in journal.listed(limit=_TRIED) if one.message]
    if sealed and not path.exists():  # a new one would open none of it
        raise InputError(f"the states in {name} are sealed, and their key {path} is not here")
    key = sealing_key(name)
    if sealed and not any(_opens(key, message) for message in sealed):
        raise InputError(
            f"{path} is not the key that sealed the states in {name}; possible: the one that was "
            "made with it, or another journal"
        )
    return key


def _opens(key: bytes, message: bytes) -> bool:
    try:
        thaw(message, key)
    except CorruptError:
        return False
    return True


def known_key(journal: str | Path) -> bytes | None:
    """Give the key that seals a home's messages; None if this user has none to it."""
    return sealing_key(journal) if _key_path(journal).is_file() else None


def rows_folder(journal: str | Path | None) -> Path | None:
    """Give the folder beside the journal for rows of dormant continuations; None: memory."""
    if journal is None or _on_server(journal):
        return None
    path = Path(journal)
    return path.with_name(f"{path.name}.rows")


def sealing_key(journal: str | Path | None) -> bytes:
    """Give the key that seals a home's messages, which nobody else can read.

    It lies beside the journal's file; of a journal on a server among the user's own state, so that
    the next process of this user goes on with what this one sealed.

    Raises
    ------
    CorruptError
        If the file of the key has another length.
    InputError
        If it cannot be made.
    """
    if journal is None:
        return os.urandom(KEY_BYTES)
    path = _key_path(journal)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _make_key(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise CorruptError(f"{path} should hold a key of {KEY_BYTES} bytes; it has {len(key)}")
    return key


def _make_key(path: Path) -> None:
    """Make a key under another name first: a full disk or a kill leaves none, not half of one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, os.urandom(KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):  # another process was first: its key it is
            os.link(part, path)
    except OSError as problem:
        raise InputError(f"the key {path} cannot be written: {problem.strerror}") from problem
    finally:
        part.unlink(missing_ok=True)


def _key_path(journal: str | Path) -> Path:
    if _on_server(journal):
        return user_state_path("wherry") / "keys" / f"{digest(str(journal).encode()).hex()}.key"
    path = Path(journal)
    return path.with_name(f"{path.name}.key")


def _on_server(journal: str | Path) -> bool:
    return str(journal).startswith(_SERVERS)
