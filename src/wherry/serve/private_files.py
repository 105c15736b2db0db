"""Files that are only their user's, written whole or not at all.

Everything is written under another name, synced and then renamed: a full disk or a kill leaves what
was there before, and besides it at most something that ends with `.part`, which the next change
removes. Files get mode 0600, folders 0700.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wherry.base.errors import InputError

FILE_BYTES_MAX: Final = 8 << 20
_PART: Final = ".part"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a folder; clear what a kill left behind.

    Raises
    ------
    InputError
        If it is not there, or another process has it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as problem:
        raise InputError(f"{folder}: {problem.strerror}") from problem
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process is changing {folder}; try again") from None
        for left in (*folder.glob(f".*{_PART}"), *folder.glob(f"*/.*{_PART}")):
            _remove(left)
        yield
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a file, or write over one.

    Raises
    ------
    InputError
        If it cannot be written; then it is as it was before.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PART}")
    try:
        _write(part, data)
        part.rename(path)
        _sync(path.parent)
    except OSError as problem:
        raise InputError(f"{path} cannot be written: {problem.strerror}") from problem
    finally:
        _remove(part)


def write_folder(place: Path, files: Mapping[str, bytes], aside: Path | None = None) -> None:
    """Write a folder with files in it, where there is none.

    Parameters
    ----------
    aside : Path, optional
        There is one: it gets this name, once all is written. A kill in that moment leaves it there.

    Raises
    ------
    InputError
        If it cannot be written, or something is there; then nothing has changed.
    """
    part = place.with_name(f".{place.name}.{secrets.token_hex(8)}{_PART}")
    try:
        part.mkdir(mode=0o700)
        for name, data in files.items():
            _write(part / name, data)
        _sync(part)
        _swap(part, place, aside)
        _sync(place.parent)
    except OSError as problem:
        raise InputError(f"{place} cannot be written: {problem.strerror}") from problem
    finally:
        _remove(part)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _swap(part: Path, place: Path, aside: Path | None) -> None:
    if aside is not None:
        place.rename(aside)
    try:
        part.rename(place)  # fails if a folder with something in it is there by now
    except OSError:
        if aside is not None:
            aside.rename(place)
        raise


def read_file(path: Path) -> bytes:
    """Give the bytes of a file.

    Raises
    ------
    InputError
        If it cannot be read, or has more than `FILE_BYTES_MAX`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as problem:
        raise InputError(f"{path} cannot be read: {problem.strerror}") from problem
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes")
    return data
