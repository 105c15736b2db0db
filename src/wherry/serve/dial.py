"""Connect to an agent, wherever its address says that it listens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from wherry.base.errors import InputError, Retryable
from wherry.devices.system import UNIX
from wherry.serve.connection import Connection as UnixConnection
from wherry.serve.links import Connection
from wherry.serve.received import BY_DESCRIPTOR, Received, Unreached

CONNECT_S: Final = 3.0
"""An agent that does not accept a connection in so long is not reached."""
POSSIBLE: Final = "possible: unix:PATH, grpc+tls://HOST:PORT, grpc://127.0.0.1:PORT"


class _Unix:
    """The way to an agent of this host."""

    def __init__(self, path: str) -> None:
        try:
            self._connection = UnixConnection(path, deadline=time.monotonic() + CONNECT_S)
        except Retryable as problem:
            raise Unreached(str(problem)) from None

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send a request and give the reply."""
        with self._telling():
            return self._connection.ask(request, time.monotonic() + deadline_s)

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Map the piece that a ticket is for."""
        with self._telling():
            found = self._connection.take(ticket, time.monotonic() + deadline_s)
        why = found.why or BY_DESCRIPTOR
        return Received(found.schema, list(found.batches), found.copied_bytes, why)

    def close(self) -> None:
        """End it; a thread that waits gets an error."""
        self._connection.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell what an agent said from that it said nothing: then the connection is closed."""
        try:
            yield
        except Retryable as problem:
            if self._connection.closed:
                raise Unreached(str(problem)) from None
            raise


def dial(address: str, device: str, keys: str = "") -> Connection:
    """Give a connection to the agent at an address.

    Parameters
    ----------
    address : str
        `unix:PATH`, or `grpc+tls://HOST:PORT`.
    device : str
        The agent's name; what its certificate must say.
    keys : str
        Folder of the caller's certificate.

    Raises
    ------
    InputError
        If it is no address.
    """
    if address.startswith(UNIX):
        return _Unix(address.removeprefix(UNIX))
    if address.startswith("grpc"):
        # Takes 60 ms to import, which callers on one host need not wait for.
        from wherry.serve.flight_way import flight_way  # noqa: PLC0415

        return flight_way(address, device, keys)
    raise InputError(f"{address!r} is no address of an agent; {POSSIBLE}")
