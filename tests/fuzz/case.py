"""One case: a corrupted file is opened, read and queried, as a user would."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

import wherry as wh
from fuzz.corruptions import corrupted
from wherry.base.errors import InputError
from wherry.data.source import Source, open_source

_QUERIED = 8
"""Of so many files that could be read, one is queried."""


class Finding(Exception):
    """A reader did what it must not do."""


def run_case(seed: int, number: int, sound: Mapping[str, bytes], folder: Path) -> str:
    """Try one case; give `refused` or `read`.

    Raises
    ------
    Finding
        When an error does not name the file, or is not one of Wherry's.
    """
    draw = random.Random(f"{seed} {number}")
    name = draw.choice(sorted(sound))
    path = folder / name
    path.write_bytes(corrupted(sound[name], draw))
    try:
        source = open_source(path)
        _read(source)
        if draw.randrange(_QUERIED) == 0:
            _query(source)
    except InputError as error:
        if name not in str(error):
            raise Finding(f"the error does not name the file: {error}") from error
        return "refused"
    except (Exception, pa.ArrowException) as error:
        raise Finding(f"{type(error).__name__} instead of an error of Wherry: {error}") from error
    return "read"


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
