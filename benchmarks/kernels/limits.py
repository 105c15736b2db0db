"""What the memory of this machine allows, measured on the buffers that the engines read.

The limit of a question is the time to read every touched column once, or to copy it, by as many
threads as the engines have. Reading is numpy's or-reduction, column after column; it reads 17 GB/s
with one thread of the development machine, within a few percent of the best fused kernel there.
What an answer's bytes cost to write is not part of it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Ask, Question

_PIECE_WORDS = 1 << 17
"""1 MiB a piece: enough of them to share evenly, few enough that handing them out is free."""

Words = npt.NDArray[np.int64]


Crew = Callable[[Callable[[Any], Any], Sequence[Any]], None]
"""Calls the first with each of the second, shared between threads."""


def limit(question: Question, data: Data, crew: Crew) -> Ask:
    """Give what takes as long as the machine needs for the question's bytes alone."""
    if question.from_parquet:
        return _reading(_stored(question, data), crew)
    table = data.mapped(question.tables["t"]).select(list(question.reads))
    pieces = [words for column in table.columns for words in _words(column)]
    return (_copying if question.limit == "copy" else _reading)(pieces, crew)


def described(question: Question) -> str:
    """Say what the limit is."""
    verb = "copying" if question.limit == "copy" else "reading"
    stored = " as stored in Parquet" if question.from_parquet else ""
    return f"{verb} {', '.join(question.reads)}{stored}"


@contextmanager
def pinned_crew(cores: Iterable[int]) -> Iterator[Crew]:
    """Give a crew of one thread for each core; unpinned ones, woken after idle, often share one."""
    free = sorted(cores)
    left = iter(free)

    def pin() -> None:
        os.sched_setaffinity(0, {next(left)})

    def drain(work: Callable[[Any], Any], items: Iterator[Any]) -> None:
        for item in items:
            work(item)

    with ThreadPoolExecutor(len(free), "limit", pin) as threads:

        def crew(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
            shared = iter(items)
            if len(free) == 1:  # nobody to hand over to
                drain(work, shared)
                return
            for part in [threads.submit(drain, work, shared) for _ in free]:
                part.result()

        yield crew


def _reading(pieces: Sequence[Words], crew: Crew) -> Ask:
    small = [part for words in pieces for part in _cut(words)]
    return lambda: crew(np.bitwise_or.reduce, small)


def _copying(pieces: Sequence[Words], crew: Crew) -> Ask:
    pairs = [(words, np.ones_like(words)) for words in pieces]  # written to: no first touch later

    def copy(pair: tuple[Words, Words]) -> None:
        source, target = pair
        ctypes.memmove(target.ctypes.data, source.ctypes.data, source.nbytes)

    return lambda: crew(copy, pairs)


def _cut(words: Words) -> list[Words]:
    return [words[at : at + _PIECE_WORDS] for at in range(0, len(words), _PIECE_WORDS)]


def _words(column: pa.ChunkedArray) -> list[Words]:
    """Give the buffers of a column as they lie; a dictionary's values stay out, they are few."""
    buffers = (buffer for chunk in column.chunks for buffer in chunk.buffers())
    return [np.frombuffer(b, np.int64, b.size // 8) for b in buffers if b is not None]


def _stored(question: Question, data: Data) -> list[Words]:
    """Give the column chunks that a Parquet question has to read."""
    path = data.path(question.tables["t"])
    mapped = np.memmap(path, np.uint8, "r")
    metadata = parquet.read_metadata(path)
    found = []
    for group in question.row_groups or range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            chunk = row_group.column(place)
            if chunk.path_in_schema in question.reads:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                first, last = -(-start // 8), (start + chunk.total_compressed_size) // 8
                found.append(mapped[first * 8 : last * 8].view(np.int64))
    return found
