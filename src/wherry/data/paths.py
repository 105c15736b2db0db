"""Which files a path means: one file, those of a glob or a folder, or the leaves of a Hive tree."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from wherry.base.errors import InputError

IPC_SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = IPC_SUFFIXES + PARQUET_SUFFIXES
"""Names of the files that a directory is searched for."""


class Files(Struct, frozen=True):
    """The files of one dataset, in order.

    Attributes
    ----------
    name : str
        What systems call the dataset.
    whole : bool
        Whether they are all there is: those of a directory.
    root : Path or None
        The folder below which directories named `key=value` give partition columns.
    """

    name: str
    paths: tuple[Path, ...]
    whole: bool = False
    root: Path | None = None


def find_files(given: str | Path) -> Files:
    """Give the files that a path, a directory or a glob means.

    Raises
    ------
    InputError
        When there is none, or a directory holds files of several formats, or files both above and
        below its partitions.
    """
    path = Path(given)
    if path.is_dir():
        return _in_directory(path)
    if not path.exists() and glob.has_magic(str(given)):
        names = glob.glob(str(given), recursive=True)  # noqa: PTH207  may be absolute
        found = sorted(Path(name) for name in names)
        if not found:
            raise InputError(f"no file matches {given}")
        return listed(found)
    return listed([path])


def listed(paths: Sequence[Path]) -> Files:
    """Give the files of a list, as they are listed."""
    name = paths[0].stem if len(paths) == 1 else paths[0].resolve().parent.name
    return Files(name, tuple(paths))


def _in_directory(path: Path) -> Files:
    here = sorted(p for p in path.iterdir() if is_data(p))
    below = sorted(_leaves(path))
    if here and below:
        raise InputError(
            f"directory {path} has files ({here[0].name}) beside partitions "
            f"({below[0].relative_to(path)}); scan one of them, by a glob or a list"
        )
    found = here or below
    if not found:
        raise InputError(f"directory {path} has no {', '.join(SUFFIXES)} file")
    _one_format(path, found)
    return Files(path.resolve().name, tuple(found), whole=True, root=path if below else None)


def is_data(path: Path) -> bool:
    """Say whether a directory is searched for files like this one."""
    return path.suffix in SUFFIXES and not path.name.startswith((".", "_")) and path.is_file()


def _leaves(path: Path) -> Iterator[Path]:
    """Give the data files in the folders `key=value` of `path`, however deep those go."""
    for folder in path.iterdir():
        if "=" in folder.name and not folder.name.startswith((".", "_")) and folder.is_dir():
            yield from (p for p in folder.iterdir() if is_data(p))
            yield from _leaves(folder)


def _one_format(directory: Path, found: Iterable[Path]) -> None:
    by_format: dict[bool, Path] = {}
    for path in found:
        by_format.setdefault(path.suffix in PARQUET_SUFFIXES, path)
    if len(by_format) > 1:
        seen = " and ".join(str(p.relative_to(directory)) for p in by_format.values())
        raise InputError(
            f"directory {directory} has files of several formats ({seen}); "
            "scan one of them, by a glob or a list"
        )
