"""Arrow IPC files, written batch by batch: a file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
from msgspec import Struct
from pyarrow import ipc

from wherry.base.errors import InputError
from wherry.base.units import format_bytes
from wherry.data.encoded import Encoding, trimmed
from wherry.data.types import has_dictionary

PLAIN = Encoding(None)


class Written(Struct, frozen=True):
    """A file that was written: how many rows it has, and how many bytes."""

    path: Path
    rows: int
    nbytes: int


def write_ipc(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    encoding: Encoding = PLAIN,
    *,
    overwrite: bool = False,
) -> Written:
    """Write `batches` as an Arrow IPC file, holding one of them at a time.

    Parameters
    ----------
    batches : iterable of pa.RecordBatch
        Stored as they are, but for dictionaries: a file has one for a column, so values that a
        batch adds follow those of the batches before it.
    encoding : Encoding
        Whether buffers are compressed.
    overwrite : bool
        Whether a file of that name is replaced.

    Raises
    ------
    InputError
        When `path` exists already, cannot be written, or its disk is full; or when a column's
        dictionaries have more values together than its index type can number.
    """
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        rows = _write(part, path, schema, batches, encoding)
        nbytes = part.stat().st_size
        with _writing(path, part):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Written(path, rows, nbytes)


def _write(
    part: Path,
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    encoding: Encoding,
) -> int:
    options = ipc.IpcWriteOptions(compression=encoding.compression, emit_dictionary_deltas=True)
    rows = 0
    with _writing(path, part):
        sink = pa.OSFile(str(part), "wb")
    try:
        writer = ipc.new_file(sink, schema, options=options)
        for batch in _unified(batches, schema, path):
            with _writing(path, part):
                writer.write_batch(trimmed(batch))
            rows += batch.num_rows
        with _writing(path, part):
            writer.close()
            sink.close()
    finally:
        # What fails here failed before, and is being reported.
        with suppress(OSError):
            sink.close()
    return rows


@contextmanager
def _writing(path: Path, part: Path) -> Iterator[None]:
    """Say which file could not be written, why, and how far it came."""
    try:
        yield
    except OSError as problem:
        reached = format_bytes(part.stat().st_size) if part.exists() else "nothing"
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        raise InputError(
            f"{path} cannot be written: {reason}, after {reached}; nothing of it is left"
        ) from problem


def _unified(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path
) -> Iterator[pa.RecordBatch]:
    """Give batches whose dictionaries begin with those of the batches before."""
    if not any(has_dictionary(field.type) for field in schema):
        yield from batches
        return
    known: list[pa.RecordBatch] = []
    for batch in (batch for batch in batches if batch.num_rows):
        both = pa.Table.from_batches([*known, batch], schema=schema)
        try:
            found = both.unify_dictionaries().to_batches()[-1]
        except pa.ArrowException as problem:
            raise InputError(
                f"{path}: the dictionaries of all batches cannot be put together: {problem}; "
                "cast dictionary columns to pa.utf8() first"
            ) from problem
        yield found
        known = [found.slice(0, 1)]
