"""One case: a corrupted file is opened, read and queried, as a user would; two readers agree."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from support.stored import content

import wherry as wh
from fuzz.corruptions import corrupted
from wherry.base.errors import InputError
from wherry.data.arrow_file import ArrowFile
from wherry.data.source import Source, open_source

_T = TypeVar("_T")
_QUERIED = 8
"""Of so many files that could be read, one is queried."""


class Finding(Exception):
    """A reader did what it must not do."""


def run_case(seed: int, number: int, sound: Mapping[str, bytes], folder: Path) -> str:
    """Try one case; give `refused` or `read`.

    Raises
    ------
    Finding
        When an error does not name the file, or is not one of Wherry's, or two readers of one
        format give different bytes.
    """
    draw = random.Random(f"{seed} {number}")
    name = draw.choice(sorted(sound))
    path = folder / name
    path.write_bytes(corrupted(sound[name], draw))
    source = _refusing(name, lambda: _opened(path, queried=draw.randrange(_QUERIED) == 0))
    if name.endswith(".arrow"):
        table = _refusing(name, lambda: _read_at_once(path))
        if source is not None and table is not None:
            _compare(source, table)
    return "refused" if source is None else "read"


def _refusing(name: str, read: Callable[[], _T]) -> _T | None:
    """Give what `read` gives, or None if it is refused as it should be."""
    try:
        return read()
    except InputError as error:
        if name not in str(error):
            raise Finding(f"the error does not name the file: {error}") from error
        return None
    except (Exception, pa.ArrowException) as error:
        raise Finding(f"{type(error).__name__} instead of an error of Wherry: {error}") from error


def _opened(path: Path, *, queried: bool) -> Source:
    source = open_source(path)
    _read(source)
    if queried:
        _query(source)
    return source


def _read_at_once(path: Path) -> list[pa.RecordBatch]:
    with ArrowFile(path) as file:
        arena = file.read(file.schema.names)
    return [arena.batch(position) for position in range(len(arena.batches))]


def _compare(source: Source, batches: list[pa.RecordBatch]) -> None:
    """See that the mapping's columns and those read at once are the same bytes."""
    chunks = [source.read(ref, source.schema.names) for ref in source.chunks()]
    sides = ([batch for batch in side if batch.num_rows] for side in (chunks, batches))
    mapped, read = ([[content(c) for c in batch.columns] for batch in side] for side in sides)
    if mapped != read:
        raise Finding(f"two readers differ: {mapped} and {read}")


def _read(source: Source) -> None:
    for ref in source.chunks():
        batch = source.read(ref, source.schema.names)
        batch.validate(full=True)
        columns = source.statistics(ref).columns
        for column in source.schema.names:
            _ = columns[column]


def _query(source: Source) -> None:
    """Let programs touch every value: what passed as sound must not lead them astray."""
    query = wh.scan(source)
    for field in source.schema:
        rows = query.filter(wh.col(field.name).is_null() | wh.col(field.name).is_not_null())
        rows.select(field.name).collect()
        query.group_by(field.name).agg(n=wh.count()).collect()
