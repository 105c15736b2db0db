"""Columns that the path of a file gives, as Hive lays them out: `year=2024/month=1/x.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from wherry.base.errors import InputError

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_columns(root: Path, paths: Sequence[Path]) -> tuple[dict[str, pa.Scalar], ...]:
    """Give for each file the value of every partition column, as its path below `root` says.

    A column whose values are all int32 is int32, any other is utf8: pyarrow.dataset decides so too.
    Hive's own name for null gives null.

    Raises
    ------
    InputError
        When a file's path names other columns than the first file's, or one twice.
    """
    found = [_keys(root, path) for path in paths]
    names = [name for name, _ in found[0]]
    for path, keys in zip(paths, found, strict=True):
        seen = [name for name, _ in keys]
        if seen != names or len(set(seen)) != len(seen):
            raise InputError(
                f"{path} is partitioned by {', '.join(seen)}; wanted, each once: {', '.join(names)}"
            )
    columns = [_typed([keys[i][1] for keys in found]) for i in range(len(names))]
    return tuple(dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _keys(root: Path, path: Path) -> list[tuple[str, str | None]]:
    folders = path.relative_to(root).parts[:-1]
    pairs = [folder.partition("=") for folder in folders]
    return [(unquote(key), None if value == _NULL else unquote(value)) for key, _, value in pairs]


def _typed(values: Sequence[str | None]) -> pa.Array:
    text = pa.array(values, pa.utf8())
    try:
        numbers = text.cast(pa.int32())
    except pa.ArrowInvalid:
        return text
    return text if numbers.null_count == len(numbers) else numbers
