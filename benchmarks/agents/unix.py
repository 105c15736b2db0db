"""Rows from process to process of one host, and small requests, over a Unix socket.

    python -m wherry.benchmarks.agents.unix

A process of its own lends the same tables again and again: one whose columns lie in segments, as
one batch and cut into batches of a million rows, and one whose columns lie in a mapped file. That
nothing is copied is shown by where the buffers lie that this process got: in the memory map's
lines of segments and of the file. Values are compared outside the time that is measured.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import pyarrow as pa
from msgspec import Struct, to_builtins

from wherry.data.chunk import buffer_addresses
from wherry.data.mapping import map_file
from wherry.data.segment import SegmentPool
from wherry.serve.connection import Connection
from wherry.serve.peer import Peer
from wherry.serve.requests import Rows, to_bytes
from wherry.serve.served import Served, Taken
from wherry.serve.unix import Listener

NBYTES = 256 << 20
ROUNDS = 50
REQUESTS = 5000
BATCH_ROWS = 1 << 20
_DEADLINE_S = 60.0
_SEGMENTS = "memfd:wherry-segment"
_WHOLE, _CUT, _FILE = b"whole", b"cut", b"file"


class UnixFigures(Struct, frozen=True):
    """Measured; medians, and p99 where said.

    Attributes
    ----------
    nbytes, rounds : int
        Of the tables, and how often each was taken.
    take_us, take_p99_us : float
        From asking for one batch in segments to having it, validated.
    take_cut_us, take_file_us : float
        The same of 2**20 rows a batch, in segments and in a mapped file.
    first_read_gbs, read_gbs : float
        GB/s of adding up what was taken: the first time, when its pages are mapped, and again.
    copied_bytes : int
        What had to be copied for it, all rounds together.
    request_us, request_p99_us : float
        Of a request of 100 bytes that is answered with 100.
    """

    nbytes: int
    rounds: int
    take_us: float
    take_p99_us: float
    take_cut_us: float
    take_file_us: float
    first_read_gbs: float
    read_gbs: float
    copied_bytes: int
    request_us: float
    request_p99_us: float


def measured(nbytes: int = NBYTES, rounds: int = ROUNDS, requests: int = REQUESTS) -> UnixFigures:
    """Measure; `nbytes` is the size of a table of an int64 and a float64 column."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
        lender = context.Process(target=_lend, args=(there, folder, nbytes), daemon=True)
        lender.start()
        try:
            if not here.poll(_DEADLINE_S):
                raise TimeoutError("the lender does not start")
            path = here.recv()
            with Connection(path, deadline=_soon()) as connection:
                return _figures(connection, folder, nbytes, rounds, requests)
        finally:
            here.close()
            lender.join(5)
            lender.kill()


def _soon() -> float:
    return time.monotonic() + _DEADLINE_S


def _lend(parent: Pipe, folder: str, nbytes: int) -> None:
    pool = SegmentPool()
    rows = nbytes // 16
    whole = _in_segments(pool, rows)
    cut = [whole.slice(at, BATCH_ROWS) for at in range(0, rows, BATCH_ROWS)]
    file = Path(folder) / "rows.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        for batch in cut:
            writer.write_batch(batch)
    reader = pa.ipc.open_file(map_file(file).buffer)
    stored = [reader.get_batch(number) for number in range(reader.num_record_batches)]
    pieces = {_WHOLE: [whole], _CUT: cut, _FILE: stored}
    served = Served(
        lambda uid: Peer("bench", f"unix uid {uid}"),
        lambda request, _: request,
        lambda ticket, _: Taken(whole.schema, tuple(pieces[ticket]), pool),
    )
    path = str(Path(folder) / "agent.sock")
    with Listener(path, served):
        parent.send(path)
        try:
            parent.recv()
        except EOFError:
            return


def _in_segments(pool: SegmentPool, rows: int) -> pa.RecordBatch:
    first, second = pool.allocate(8 * rows), pool.allocate(8 * rows)
    np.frombuffer(first, np.int64)[:] = np.arange(rows)
    np.frombuffer(second, np.float64)[:] = np.arange(rows) / 7
    columns = [
        pa.Array.from_buffers(pa.int64(), rows, [None, first]),
        pa.Array.from_buffers(pa.float64(), rows, [None, second]),
    ]
    return pa.record_batch(columns, ["k", "v"])


def _figures(
    connection: Connection, folder: str, nbytes: int, rounds: int, requests: int
) -> UnixFigures:
    rows = nbytes // 16
    took: dict[bytes, list[float]] = {_WHOLE: [], _CUT: [], _FILE: []}
    places = {_WHOLE: _SEGMENTS, _CUT: _SEGMENTS, _FILE: folder}
    copied = 0
    first: list[float] = []
    again: list[float] = []
    gc.disable()
    try:
        for _ in range(rounds):
            for ticket, taken in took.items():
                began = time.perf_counter()
                found = connection.take(ticket, _soon())
                taken.append((time.perf_counter() - began) * 1e6)
                copied += found.copied_bytes
                _check(found.batches, places[ticket], rows)
                if ticket == _WHOLE:
                    for rates in (first, again):
                        began = time.perf_counter()
                        _add_up(found.batches, rows)
                        rates.append(8 * rows / (time.perf_counter() - began) / 1e9)
                del found
    finally:
        gc.enable()
    small = []
    request = to_bytes(Rows(b"x")).ljust(100)
    assert len(request) == 100
    for _ in range(requests):
        began = time.perf_counter()
        reply = connection.ask(request, _soon())
        small.append((time.perf_counter() - began) * 1e6)
        assert reply == request
    return UnixFigures(
        16 * rows,
        rounds,
        median(took[_WHOLE]),
        _p99(took[_WHOLE]),
        median(took[_CUT]),
        median(took[_FILE]),
        median(first),
        median(again),
        copied,
        median(small),
        _p99(small),
    )


def _p99(samples: Sequence[float]) -> float:
    return quantiles(samples, n=100, method="inclusive")[98]


def _check(batches: Sequence[pa.RecordBatch], place: str, rows: int) -> None:
    """Refuse other rows than there are, and buffers that do not lie where they were lent from."""
    if sum(batch.num_rows for batch in batches) != rows:
        raise AssertionError(f"other rows than {rows} came")
    if batches[-1]["k"][-1].as_py() != rows - 1 or batches[0]["v"][7].as_py() != 1.0:
        raise AssertionError("other values came")
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if place in line
    ]
    for address, size in _buffers(batches):
        if not any(low <= address and address + size <= high for low, high in spans):
            raise AssertionError(f"a buffer of {size} bytes lies in no {place}: it was copied")


def _buffers(batches: Iterable[pa.RecordBatch]) -> set[tuple[int, int]]:
    return {region for batch in batches for region in buffer_addresses(batch)}


def _add_up(batches: Sequence[pa.RecordBatch], rows: int) -> None:
    found = sum(int(np.frombuffer(b["k"].buffers()[1], np.int64).sum()) for b in batches)
    if found != rows * (rows - 1) // 2:
        raise AssertionError("the sum is another")


if __name__ == "__main__":
    print(json.dumps(to_builtins(measured()), indent=1))
