"""The calls that a Flight listener serves: how many, and how long each may wait for its client.

gRPC hands a batch on when the client has room for it, which may be never: the thread that serves a
call waits inside gRPC, where no deadline of ours reaches it. Therefore every call notes when it
began to wait for its client, and a thread closes the connection of one that waits too long. That
ends all calls of that connection; each of them has the same client.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pyarrow.flight as fl

from wherry.base.errors import Retryable
from wherry.serve.flight_error import flight_error

_LOOK_S: Final = 0.25
_PEERS_MAX: Final = 4096
"""Connections whose sockets are known to be set up; beyond that they are set up again."""


class Call(fl.ServerMiddleware):  # type: ignore[misc]
    """A call under way."""

    def __init__(self, calls: Calls) -> None:
        self.peer = ""
        self.waits_since: float | None = None
        self._calls = calls

    def waits(self) -> None:
        """Note that it is the client's turn."""
        self.waits_since = time.monotonic()

    def works(self) -> None:
        """Note that it is the agent's turn."""
        self.waits_since = None

    def call_completed(self, exception: object) -> None:  # noqa: ARG002 - Flight's signature
        """Count it no more; Flight calls this whatever became of it."""
        self._calls.ended(self)


class Calls(fl.ServerMiddlewareFactory):  # type: ignore[misc]
    """All calls of a listener.

    Parameters
    ----------
    most : int
        Calls at once; more are told to come again.
    wait_s : float
        How long a call may wait for its client to take something.
    """

    def __init__(self, most: int, wait_s: float) -> None:
        self._most = most
        self._wait_s = wait_s
        self._calls: set[Call] = set()
        self._peers: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._watch = threading.Thread(target=self._look, name="flight-calls", daemon=True)
        self._watch.start()

    def start_call(self, info: object, headers: object) -> Call:  # noqa: ARG002
        """Count a call in, or refuse it."""
        with self._changed:
            if self._stopping or len(self._calls) >= self._most:
                why = "the agent stops" if self._stopping else f"{self._most} calls are under way"
                raise flight_error(Retryable(f"{why}; come again"))
            call = Call(self)
            self._calls.add(call)
            self._changed.notify_all()
        return call

    def ended(self, call: Call) -> None:
        """Count a call out."""
        with self._changed:
            self._calls.discard(call)
            self._changed.notify_all()

    def met(self, call: Call, peer: str) -> None:
        """Note who calls, by the address of its connection; a new connection is set up."""
        call.peer = peer
        if peer in self._peers:
            return
        with self._changed:
            if len(self._peers) >= _PEERS_MAX:
                self._peers.clear()
            self._peers.add(peer)
        for connection in _connections_of(peer):
            _notice_loss(connection, self._wait_s)

    def under_way(self) -> int:
        """Give how many calls there are."""
        with self._changed:
            return len(self._calls)

    def stop(self, grace_s: float) -> None:
        """Take no more calls, let those there are end, then close the connections of the rest."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._calls, grace_s)
            left = {call.peer for call in self._calls}
        for peer in left:
            cut(peer)

    def _look(self) -> None:
        while True:
            with self._changed:
                # Without calls nothing can wait, and the thread sleeps until there is one.
                self._changed.wait_for(lambda: self._calls or self._stopping)
                if self._stopping and not self._calls:
                    return
                late = time.monotonic() - self._wait_s
                slow = {c.peer for c in self._calls if (c.waits_since or late) < late}
            # Without descriptors or memory now, there may be some next time.
            with suppress(OSError, MemoryError):
                for peer in slow:
                    cut(peer)
            time.sleep(min(_LOOK_S, self._wait_s / 4))


def cut(peer: str) -> None:
    """Close the connections from `peer`, as gRPC names it: all their calls end with an error."""
    for connection in _connections_of(peer):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """Give a second handle of a socket, so that gRPC may close its own at any time."""
    try:
        second = os.dup(descriptor)
    except OSError:
        yield None
        return
    try:
        handle = socket.socket(fileno=second)
    except OSError:
        os.close(second)
        yield None
        return
    with handle:
        yield handle


def _connections_of(peer: str) -> Iterator[socket.socket]:
    """Give the sockets of this process whose other end is `peer`: gRPC keeps them to itself."""
    wanted = _end_of(peer)
    if wanted is None:
        return
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only, of files that come and go
        with _borrowed(int(name)) as handle:
            if handle is None or handle.family not in {socket.AF_INET, socket.AF_INET6}:
                continue
            with suppress(OSError):
                host, port, *_ = handle.getpeername()
                if (_plain(host), port) == wanted:
                    yield handle


def _end_of(peer: str) -> tuple[str, int] | None:
    """Read `ipv4:127.0.0.1:52816` or `ipv6:%5B::1%5D:52816`."""
    _, _, rest = peer.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.replace("%5B", "").replace("%5D", "").strip("[]")
    return (_plain(host), int(port)) if port.isdigit() else None


def _plain(host: str) -> str:
    """Give the one spelling of an address: IPv4 within IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    inner = getattr(found, "ipv4_mapped", None)
    return str(inner or found)


def _notice_loss(connection: socket.socket, wait_s: float) -> None:
    """Let the kernel close a connection whose other host is gone, also when nothing is sent."""
    whole = max(1, round(wait_s / 4))
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, whole)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, whole)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(wait_s * 1000))
