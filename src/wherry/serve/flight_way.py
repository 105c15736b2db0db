"""The way to an agent on another host, as callers use it."""

from __future__ import annotations

import time
from pathlib import Path

from wherry.serve.dial import CONNECT_S
from wherry.serve.flight_address import flight_address
from wherry.serve.flight_client import FlightConnection
from wherry.serve.flight_keys import Tls
from wherry.serve.keys import read_credentials, revoked_at
from wherry.serve.pinning import context_of, pinned
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

    The certificate that the agent shows now is the only one believed: if it is renewed, the
    connection breaks and another one is made.

    Raises
    ------
    InputError
        If it is no address, or TLS needs a folder that is not given or not whole; Forbidden if
        the agent's certificate is another one's, or revoked.
    Unreached
        If nobody answers there in time.
    """
    where = flight_address(address)
    tls = None
    if where.tls and keys:
        shown = read_credentials(Path(keys), int(time.time()))
        root = pinned(
            (where.host, where.port),
            device,
            context_of(shown),
            revoked_at(shown),
            now_s=time.time(),
            timeout_s=CONNECT_S,
        )
        tls = Tls(root, shown.certificate, shown.key)
    return _Flight(FlightConnection(address, tls, device))
