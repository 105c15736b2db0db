"""Other agents that an agent takes pieces from: connections are kept for the next piece.

A connection that closes while its pieces are read costs the agent at the other end those segments:
it cannot tell when they are free, and never writes to them again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from wherry.base.errors import WherryError
from wherry.serve.links import Connection
from wherry.serve.received import Received, Unreached

KEPT: Final = 32
"""Connections that are kept while nobody uses them."""


class Suppliers:
    """Takes pieces from agents, by address; from any thread.

    Parameters
    ----------
    dial : callable
        Makes a connection to an address.
    kept : int
        Most connections that nobody uses; of more, the one unused for longest is closed.
    """

    def __init__(self, dial: Callable[[str], Connection], kept: int = KEPT) -> None:
        self._dial, self._kept = dial, kept
        self._free: list[tuple[str, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, address: str, ticket: bytes, within_s: float) -> Received:
        """Give the rows behind a ticket of the agent at an address.

        Raises
        ------
        WherryError
            What the agent said, or that it is not reached.
        """
        connection = self._unused(address)
        if connection is not None:
            try:
                return self._taken(address, connection, ticket, within_s)
            except Unreached:
                pass  # It may have been closed while nobody used it: a ticket may be shown twice.
        return self._taken(address, self._dial(address), ticket, within_s)

    def close(self) -> None:
        """Close what nobody uses, and keep nothing from now on."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for _, connection in free:
            connection.close()

    def _taken(
        self, address: str, connection: Connection, ticket: bytes, within_s: float
    ) -> Received:
        try:
            found = connection.take(ticket, within_s)
        except BaseException as problem:
            if isinstance(problem, WherryError) and not isinstance(problem, Unreached):
                self._keep(address, connection)  # The agent answered.
            else:
                connection.close()
            raise
        self._keep(address, connection)
        return found

    def _unused(self, address: str) -> Connection | None:
        """Give the connection to an address that was used last."""
        with self._lock:
            for number in reversed(range(len(self._free))):
                if self._free[number][0] == address:
                    return self._free.pop(number)[1]
        return None

    def _keep(self, address: str, connection: Connection) -> None:
        with self._lock:
            self._free.append((address, connection))
            left = 0 if self._closed else self._kept
            unused = [self._free.pop(0)[1] for _ in range(len(self._free) - left)]
        for one in unused:
            one.close()
