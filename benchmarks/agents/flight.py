"""Rows over Flight on loopback, ours and pyarrow's own, in turns in one run.

    python -m wherry.benchmarks.agents.flight

One server process has the same table twice: behind pyarrow's FlightServerBase as its documentation
does it (`RecordBatchStream(table)`), and behind our listener. One client process takes it from each
in turn. Every answer is compared with what was sent, outside the time that is measured.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
from msgspec import Struct, to_builtins

from wherry.data.segment import SegmentPool
from wherry.serve.flight import FlightListener
from wherry.serve.flight_client import FlightConnection
from wherry.serve.peer import Peer
from wherry.serve.requests import List, Listed, to_bytes
from wherry.serve.served import Served, Taken

NBYTES = 256 << 20
ROUNDS = 7
REQUESTS = 2000
_DEADLINE_S = 60.0
_TICKET = b"rows"


class FlightFigures(Struct, frozen=True):
    """Medians over rounds, measured.

    Attributes
    ----------
    nbytes, rounds : int
        Of the table, and how often it was taken in each way.
    pyarrow_gbs : float
        GB/s of pyarrow's own server and client, the table being one batch.
    pyarrow_cut_gbs : float
        The same of the same rows in batches of 4 MiB, which pyarrow does not cut by itself.
    pyarrow_client_gbs : float
        Of our listener to pyarrow's client.
    wherry_gbs : float
        Of our listener to our client, which also aligns and checks what comes.
    share, share_cut : float
        Of wherry_gbs in pyarrow_gbs and in pyarrow_cut_gbs, round by round.
    pyarrow_request_us, request_us : float
        Of a request of 100 bytes: pyarrow's own DoAction, and ours.
    """

    nbytes: int
    rounds: int
    pyarrow_gbs: float
    pyarrow_cut_gbs: float
    pyarrow_client_gbs: float
    wherry_gbs: float
    share: float
    share_cut: float
    pyarrow_request_us: float
    request_us: float


class _Own(fl.FlightServerBase):  # type: ignore[misc]
    """What pyarrow's documentation shows."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._tables = {_TICKET: table, b"cut": _cut(table)}

    def do_get(self, context: object, ticket: fl.Ticket) -> fl.RecordBatchStream:  # noqa: ARG002
        return fl.RecordBatchStream(self._tables[ticket.ticket])

    def do_action(self, context: object, action: fl.Action) -> list[bytes]:  # noqa: ARG002
        return [action.body.to_pybytes()]


def measured(nbytes: int = NBYTES, rounds: int = ROUNDS, requests: int = REQUESTS) -> FlightFigures:
    """Measure; `nbytes` is the size of a table of an int64 and a float64 column."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve, args=(there, nbytes), daemon=True)
    server.start()
    try:
        if not here.poll(_DEADLINE_S):
            raise TimeoutError("the servers do not start")
        own, listener = here.recv()
        return _figures(own, listener, nbytes, rounds, requests)
    finally:
        here.close()
        server.join(5)
        server.kill()


def _serve(parent: Connection, nbytes: int) -> None:
    table = _table(nbytes)
    own = _Own(table)
    piece, reply = Taken(table.schema, table.to_batches(), SegmentPool()), to_bytes(Listed(()))
    served = Served(lambda *_: Peer("bench", "loopback"), lambda *_: reply, lambda *_: piece)
    listener = FlightListener("grpc://127.0.0.1:0", served)
    parent.send((f"grpc://127.0.0.1:{own.port}", str(listener.address)))
    try:
        parent.recv()
    except EOFError:
        listener.stop(1)
        own.shutdown()


def _figures(own: str, listener: str, nbytes: int, rounds: int, requests: int) -> FlightFigures:
    table = _table(nbytes)
    ask = to_bytes(List()).ljust(100)
    with (
        fl.connect(own) as theirs,
        fl.connect(listener) as plain,
        FlightConnection(listener) as ours,
    ):
        ways: dict[str, Callable[[], pa.Table]] = {
            "own": lambda: _read(theirs, _TICKET),
            "wherry": lambda: pa.Table.from_batches(ours.take(_TICKET, _DEADLINE_S).batches),
            "cut": lambda: _read(theirs, b"cut"),
            "client": lambda: _read(plain, _TICKET),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, take in ways.items():
                began = time.perf_counter()
                seen = take()
                seconds = time.perf_counter() - began
                if not seen.equals(table):
                    raise AssertionError(f"{name}: other rows came than were sent")
                del seen
                if number:  # The first round touches fresh memory.
                    rates[name].append(table.nbytes / seconds / 1e9)
        small: dict[str, list[float]] = {"own": [], "ours": []}
        calls: dict[str, Callable[[], object]] = {
            "own": lambda: list(theirs.do_action(("x", ask))),
            "ours": lambda: ours.ask(ask, _DEADLINE_S),
        }
        for _ in range(requests):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                small[name].append((time.perf_counter() - began) * 1e6)
    pairs = list(zip(rates["wherry"], rates["own"], rates["cut"], strict=True))
    return FlightFigures(
        nbytes=table.nbytes,
        rounds=rounds,
        pyarrow_gbs=median(rates["own"]),
        pyarrow_cut_gbs=median(rates["cut"]),
        pyarrow_client_gbs=median(rates["client"]),
        wherry_gbs=median(rates["wherry"]),
        share=median(a / b for a, b, _ in pairs),
        share_cut=median(a / c for a, _, c in pairs),
        pyarrow_request_us=median(small["own"]),
        request_us=median(small["ours"]),
    )


def _read(client: fl.FlightClient, ticket: bytes) -> pa.Table:
    return client.do_get(fl.Ticket(ticket)).read_all()


def _table(nbytes: int) -> pa.Table:
    rows = nbytes // 16
    return pa.table({"k": np.arange(rows), "v": np.arange(rows) / 7})


def _cut(table: pa.Table) -> pa.Table:
    rows = (4 << 20) // 16
    return pa.Table.from_batches(table.to_batches(max_chunksize=rows), table.schema)


if __name__ == "__main__":
    print(json.dumps(to_builtins(measured()), indent=1))
