"""SQL at an agent: over its own datasets or, if it knows a system, over those of all its agents.

Rows are left where they were made, and whoever asked takes them from there. Pieces of agents that
listen on Unix sockets alone, which Flight clients cannot reach, are taken here and lent from here,
by reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from wherry.data.source import Source
from wherry.devices.system import System, load_system
from wherry.pipeline import Pipeline, scan
from wherry.serve.answers import Answered
from wherry.serve.peer import Peer
from wherry.serve.station import Station
from wherry.serve.tenants import Tenant
from wherry.session import leave, source_at
from wherry.session import names_at as names_of
from wherry.statements.select import sql

_FLIGHT = "grpc"


class SqlAnswers:
    """Answers SQL for the callers of an agent.

    Parameters
    ----------
    station : Station
        The agent's own: it lends the rows, and knows what tenants may read.
    system : path, optional
        A system of agents; without one the agent's own datasets are asked.
    """

    def __init__(self, station: Station, system: Path | None = None) -> None:
        self._station = station
        self._system = None if system is None else load_system(system)

    def schema(self, query: str, peer: Peer) -> pa.Schema:
        """Give the columns of an answer without making it."""
        return self._pipeline(query, peer).schema

    def answer(self, query: str, peer: Peer) -> Answered:
        """Make an answer, and give where it is."""
        pipeline = self._pipeline(query, peer)
        if self._system is None:
            with self._station.gate.admitted(peer.tenant):
                table = pipeline.collect()
            pieces = [("", self._lent(table.to_batches(), table.schema, peer), table.num_rows)]
        else:
            # Its turns are those of the agents that work for it, this one among them.
            pieces = self._left(pipeline, self._system, peer)
        endpoints = tuple((address, ticket) for address, ticket, _ in pieces)
        return Answered(pipeline.schema, endpoints, sum(rows for *_, rows in pieces))

    def _left(self, pipeline: Pipeline, system: System, peer: Peer) -> list[tuple[str, bytes, int]]:
        found = []
        for piece in leave(pipeline, system):
            if piece.link.address.startswith(_FLIGHT):
                found.append((piece.link.address, piece.ticket, piece.rows))
                continue
            received = piece.link.take(piece.ticket, "lending its answer")
            ticket = self._lent(received.batches, received.schema, peer)
            found.append(("", ticket, piece.rows))
        return found

    def _lent(self, rows: Sequence[pa.RecordBatch], schema: pa.Schema, peer: Peer) -> bytes:
        return self._station.lend(peer.tenant, os.urandom(16), rows, schema)

    def _pipeline(self, query: str, peer: Peer) -> Pipeline:
        return sql(query, _Tables(self._station, self._system, peer))


class _Tables(Mapping[str, Pipeline]):
    """The datasets that a caller may read, opened when a query names them."""

    def __init__(self, station: Station, system: System | None, peer: Peer) -> None:
        self._tenant: Tenant = station.settings.tenants().tenant(peer.tenant)
        self._station, self._system = station, system

    def __getitem__(self, name: str) -> Pipeline:
        if name not in list(self):
            raise KeyError(name)
        source: Source
        if self._system is None:
            source = self._station.catalogue.source(name)
        else:
            source = source_at(self._system, name)
        return scan(source)

    def __iter__(self) -> Iterator[str]:
        system = self._system
        names = self._station.catalogue.names if system is None else names_of(system)
        return iter(self._tenant.readable(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)
