"""The way to an agent on another host, as callers use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from wherry.base.threads import begin
from wherry.serve.dial import CONNECT_S
from wherry.serve.flight_address import flight_address
from wherry.serve.flight_client import FlightConnection
from wherry.serve.flight_keys import Tls
from wherry.serve.keys import read_credentials, revoked_at
from wherry.serve.pinning import context_of, pinned
from wherry.serve.received import Received, Unreached

_MORE_S: Final = 1.0
"""A call that does not end by itself so long after its deadline is left alone."""

R = TypeVar("R")
_Call = tuple[Callable[[], Any], Future[Any]]


class _Flight:
    """The way to an agent by Flight.

    Nothing ends a call of gRPC's from outside but its deadline. So a thread of the connection makes
    calls, and whoever waits for one stops waiting when the connection is closed: the thread follows
    once the call is over, which nobody waits for.
    """

    def __init__(self, connection: FlightConnection) -> None:
        self._connection = connection
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: Future[Any] | None = None
        self._begun = False
        self._closed = False

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send a request and give the reply."""
        return self._made(lambda: self._connection.ask(request, deadline_s), deadline_s)

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Take the piece that a ticket is for: every byte of it is carried."""
        return self._made(lambda: self._connection.take(ticket, deadline_s), deadline_s)

    def close(self) -> None:
        """End it: whoever waits for a call gets an error."""
        with self._lock:
            self._closed = True
            waited = self._under_way
        if waited is not None:
            with suppress(InvalidStateError):
                waited.set_exception(Unreached("the connection was closed"))
        self._calls.put(None)
        if not self._begun:
            self._connection.close()

    def _made(self, call: Callable[[], R], deadline_s: float) -> R:
        done: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise Unreached("the connection is closed")
            if not self._begun:
                begin(self._serve)
                self._begun = True
            self._under_way = done
        self._calls.put((call, done))
        try:
            return done.result(deadline_s + _MORE_S)
        except TimeoutError:
            self.close()
            raise Unreached(f"no answer within {deadline_s:g} s") from None
        finally:
            with self._lock:
                self._under_way = None

    def _serve(self) -> None:
        while (next_one := self._calls.get()) is not None:
            call, done = next_one
            try:
                found, problem = call(), None
            except BaseException as seen:  # noqa: BLE001  raised where it was asked for
                found, problem = None, seen
            with suppress(InvalidStateError):
                if problem is None:
                    done.set_result(found)
                else:
                    done.set_exception(problem)
            # Nothing of a piece may be kept here: its memory is its reader's.
            del next_one, call, done, found, problem
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
