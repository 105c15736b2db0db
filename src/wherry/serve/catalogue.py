"""The datasets of an agent: what lies in one folder, known by names and never by paths.

A file is a dataset of its stem's name, a folder of files one of the folder's. They are opened when
they are asked for and opened again once they changed; one that cannot be read does not keep the
others from being served.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

from wherry.base.errors import CorruptError, InputError, WherryError, unknown_name
from wherry.data.fragments import FragmentSource
from wherry.data.paths import is_data
from wherry.data.source import open_source
from wherry.data.types import to_plain
from wherry.serve.requests import Dataset, Part

Stamp = tuple[tuple[str, int, int, int], ...]
"""Of each file: name, inode, size, time of its last change."""


class Catalogue:
    """What a folder holds.

    Parameters
    ----------
    folder : Path or None
        Looked at anew whenever names are asked for; None: the agent stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is no folder; --data names one with Arrow or Parquet files")
        self._folder = folder
        self._opened: dict[str, tuple[Stamp, FragmentSource]] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What the datasets are called, sorted."""
        return sorted(self._paths())

    def source(self, name: str) -> FragmentSource:
        """Give a dataset.

        Raises
        ------
        InputError
            If there is none of that name, or it cannot be read; no folder is named.
        """
        with self._lock:
            try:
                return self._current(name)
            except WherryError as problem:
                self._opened.pop(name, None)
                raise self.bared(problem) from None

    def bared(self, problem: WherryError) -> WherryError:
        """Give an error that does not tell where on the agent's disk the folder is."""
        if self._folder is None:
            return problem
        said = [str(problem)]
        for folder in (self._folder, self._folder.resolve()):
            said.append(said[-1].replace(f"{folder}/", "").replace(str(folder), "the folder"))
        if said[-1] == said[0]:
            return problem
        kind = CorruptError if isinstance(problem, CorruptError) else InputError
        return kind(said[-1]) if isinstance(problem, InputError) else type(problem)(said[-1])

    def _current(self, name: str) -> FragmentSource:
        paths = self._paths()
        if name not in paths:
            raise unknown_name("dataset", name, sorted(paths))
        try:
            stamp = _stamp(paths[name])
        except OSError as problem:
            raise InputError(f"{paths[name]} cannot be read: {problem.strerror}") from None
        known = self._opened.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        # Files and folders are always made of fragments.
        found = cast("FragmentSource", open_source(paths[name]))
        self._opened[name] = stamp, found
        return found

    def _paths(self) -> dict[str, Path]:
        if self._folder is None:
            return {}
        try:
            entries = sorted(self._folder.iterdir())
        except OSError as problem:
            raise InputError(f"the agent's data cannot be listed: {problem.strerror}") from None
        found: dict[str, Path] = {}
        for path in entries:
            if path.is_dir() and not path.name.startswith((".", "_")):
                found[path.name] = path
            elif is_data(path):
                found.setdefault(path.stem, path)
        return found


def _stamp(path: Path) -> Stamp:
    """Give what tells whether the files of a dataset are still those that were opened."""
    files = sorted(p for p in path.rglob("*") if is_data(p)) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files]
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats)


def described(source: FragmentSource) -> Dataset:
    """Give what a caller is told of a dataset."""
    schema = source.schema.serialize().to_pybytes()
    constants = source.constants or ({},) * len(source.parts)
    parts = (
        Part(
            label=Path(part.label).name,
            identity=part.identity,
            nbytes=_stored_bytes(part.label),
            rows=part.rows,
            decodes=part.decodes,
            constants={name: to_plain(value.as_py()) for name, value in fixed.items()},
        )
        for part, fixed in zip(source.parts, constants, strict=True)
    )
    return Dataset(source.name, schema, tuple(parts))


def _stored_bytes(label: str) -> int:
    try:
        return Path(label).stat().st_size
    except OSError:
        return 0
