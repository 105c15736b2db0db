"""The way to an agent on another host, as callers use it."""

from __future__ import annotations

from wherry.serve.flight_address import flight_address
from wherry.serve.flight_client import FlightConnection
from wherry.serve.flight_keys import tls_of
from wherry.serve.received import CARRIED, Received


class _Flight:
    """The way to an agent by Flight."""

    def __init__(self, connection: FlightConnection) -> None:
        self._connection = connection

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send a request and give the reply."""
        return self._connection.ask(request, deadline_s)

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Take the piece that a ticket is for: every byte of it is carried."""
        found = self._connection.take(ticket, deadline_s)
        nbytes = sum(batch.nbytes for batch in found.batches)
        return Received(found.schema, found.batches, nbytes, CARRIED)

    def close(self) -> None:
        """End it."""
        self._connection.close()


def flight_way(address: str, device: str, keys: str) -> _Flight:
    """Connect to the agent `device`; `keys` is the folder of the caller's certificate.

    Raises
    ------
    InputError
        If it is no address, or TLS needs a folder that is not given or not whole.
    """
    tls = tls_of(keys) if flight_address(address).tls and keys else None
    return _Flight(FlightConnection(address, tls, device))
