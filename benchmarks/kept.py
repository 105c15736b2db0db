"""Folders of generated data that are made once, whole or not at all, and left for the next run."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from wherry.base.errors import InputError

_MARKER = ".wherry-tpch"
_TEMPORARY = ".tpch-"


class Made(msgspec.Struct, frozen=True):
    """What the marker says; `finished` turns true when the last file is in its place."""

    scale_factor: float
    generator: str
    layout: int
    finished: bool = True


def keep(
    directory: Path, names: Sequence[str], wanted: Made, make: Callable[[Path], None]
) -> dict[str, Path]:
    """Give the folders `names` of `directory`, made now unless `wanted` is what is there.

    An interrupted or failed call leaves nothing that is taken for finished and no temporary file.

    Parameters
    ----------
    make : callable
        Make all of the folders in the empty directory that it is given.

    Raises
    ------
    InputError
        When `directory` holds such folders that no call of ours made.
    """
    folders = {name: directory / name for name in names}
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        present = all(folder.is_dir() for folder in folders.values())
        if not (present and _made(directory) == wanted):
            _claim(directory, folders, msgspec.structs.replace(wanted, finished=False))
            replace(directory, folders, make)
            _mark(directory, wanted)
    return folders


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time make folders in `directory`; the next one finds them made."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(directory: Path, folders: dict[str, Path], make: Callable[[Path], None]) -> None:
    """Make the folders beside their places and move them there."""
    for killed in directory.glob(f"{_TEMPORARY}*"):  # Nobody else works here: the lock is ours.
        shutil.rmtree(killed)
    with tempfile.TemporaryDirectory(dir=directory, prefix=_TEMPORARY) as temporary:
        make(Path(temporary))
        for name, folder in folders.items():
            if folder.exists():
                shutil.rmtree(folder)
            (Path(temporary) / name).rename(folder)


def _made(directory: Path) -> Made | None:
    try:
        return msgspec.json.decode((directory / _MARKER).read_bytes(), type=Made)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _mark(directory: Path, made: Made) -> None:
    part = directory / f"{_MARKER}.part"
    part.write_bytes(msgspec.json.encode(made))
    part.replace(directory / _MARKER)


def _claim(directory: Path, folders: dict[str, Path], unfinished: Made) -> None:
    """Mark `directory` as ours and unfinished; refuse folders that no call of ours made."""
    present = [name for name, folder in folders.items() if folder.exists()]
    if present and not (directory / _MARKER).exists():
        raise InputError(
            f"{directory} holds {', '.join(present)}, which Wherry did not make; "
            "choose another directory"
        )
    _mark(directory, unfinished)
