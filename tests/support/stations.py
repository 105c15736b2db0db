"""A station for tests of listeners: pieces by ticket, two datasets."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from wherry.base.errors import InputError, WherryError
from wherry.data.segment import SegmentPool
from wherry.serve import requests
from wherry.serve.answers import Answered
from wherry.serve.served import Served, Taken

_POOL = SegmentPool()
"""What goes by Flight is copied to no segment."""


class Station:
    """Answers an Echo with its text turned round, and gives the pieces it was given."""

    def __init__(self, tables: dict[str, pa.Table] | None = None) -> None:
        self.tables = tables or {}
        self.pieces: dict[bytes, tuple[pa.Schema, list[pa.RecordBatch]]] = {}
        self.peers: list[object] = []
        self.fails: Exception | None = None

    def handle(self, request: bytes, peer: object) -> bytes:
        self.peers.append(peer)
        if self.fails is not None:
            raise self.fails
        if request[:1] == b"!":
            return request[::-1]
        match requests.request_of(request):
            case requests.List():
                found = tuple(_dataset(name, t) for name, t in self.tables.items())
                return requests.to_bytes(requests.Listed(found))
            case requests.Echo(nbytes):
                return requests.to_bytes(requests.Rows(bytes(nbytes)))
        return requests.to_bytes(requests.failed(InputError("not in this test")))

    def keep(self, ticket: bytes, table: pa.Table | list[pa.RecordBatch]) -> bytes:
        batches = table.to_batches() if isinstance(table, pa.Table) else table
        schema = table.schema if isinstance(table, pa.Table) else batches[0].schema
        self.pieces[ticket] = (schema, batches)
        return ticket

    def taken(self, ticket: bytes, peer: object) -> Taken:
        if self.fails is not None:
            raise self.fails
        if ticket not in self.pieces:
            raise InputError("the ticket is for nothing that is here")
        return Taken(*self.pieces[ticket], _POOL)


class Answering:
    """Answers SQL in this process; the answer's rows are kept in pieces of `rows` rows."""

    def __init__(self, station: Station, ask: Callable[[str], pa.Table], rows: int = 1000) -> None:
        self._station = station
        self._ask = ask
        self._rows = rows
        self.asked: list[str] = []

    def schema(self, sql: str, peer: object) -> pa.Schema:
        return self._ask(sql).schema

    def answer(self, sql: str, peer: object) -> Answered:
        self.asked.append(sql)
        table = self._ask(sql)
        starts = range(0, max(1, table.num_rows), self._rows)
        parts = [table.slice(start, self._rows) for start in starts]
        first = len(self._station.pieces)
        tickets = [
            self._station.keep(b"answer %d" % n, part) for n, part in enumerate(parts, first)
        ]
        endpoints = tuple(("", ticket) for ticket in tickets)
        return Answered(table.schema, endpoints, table.num_rows, table.nbytes)


def served(station: Station) -> Served:
    """Give what a listener serves."""
    return Served(known, station.handle, station.taken)


def known(name: str, address: str) -> str:
    """Give a peer for every name but one."""
    if name == "mallory":
        raise WherryError("mallory is not let in")
    return name or "nobody"


def _dataset(name: str, table: pa.Table) -> requests.Dataset:
    rows = tuple(batch.num_rows for batch in table.to_batches())
    part = requests.Part(name, b"", table.nbytes, rows, False, {})
    return requests.Dataset(name, table.schema.serialize().to_pybytes(), (part,))
