"""An agent's end of a Unix socket: a thread for each connection, and the pieces it has lent.

What a connection took and did not give back when it ends is dropped: nobody knows whether its
process still reads there, so that memory is never written to again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import Final, Self

from msgspec import Struct

from wherry.base.errors import CorruptError, Retryable, WherryError
from wherry.base.threads import begin
from wherry.serve.connection import LEASE
from wherry.serve.layout import Exported, export
from wherry.serve.log import note
from wherry.serve.peer import Peer
from wherry.serve.replies import unforeseen
from wherry.serve.requests import INSTALL_BYTES_MAX, REQUEST_BYTES_MAX, failed, to_bytes
from wherry.serve.served import Served
from wherry.serve.socket_file import bound, check_path, peer_of, unbound
from wherry.serve.wire import FAILED, GIVEN, REPLY, REQUEST, RETURN, TAKE, Stream

_BACKLOG: Final = 64
_PAUSE_S: Final = 0.05
"""How long nothing is accepted if the process has no more files or threads."""


class Limits(Struct, frozen=True):
    """What a listener lets its peers do.

    Attributes
    ----------
    connections, of_user : int
        At once, of all and of one user; further ones are told to come again.
    pieces : int
        That one connection has taken at once.
    request_bytes : int
        A longer request ends the connection.
    idle_s : float
        A connection that asks nothing for so long is ended.
    frame_s : float
        In which a request that has begun must be whole, and a reply be taken.
    """

    connections: int = 256
    of_user: int = 128
    pieces: int = 4096
    request_bytes: int = INSTALL_BYTES_MAX + REQUEST_BYTES_MAX
    idle_s: float = 600.0
    frame_s: float = 30.0


class Listener:
    """Serves the peers that connect to a socket file, from the moment it is made.

    The file belongs to this user alone, unless `mode` says otherwise, and goes when the listener
    closes or the process exits; one that a dead process left is replaced.

    Parameters
    ----------
    path : str
        Of the socket.
    served : Served
        Does the work.
    limits : Limits, optional
        What peers may do.
    mode : int
        Of the socket file.

    Raises
    ------
    InputError
        When the path is too long, somebody listens there, or it is something else than a socket.
    """

    def __init__(
        self, path: str, served: Served, limits: Limits | None = None, mode: int = 0o600
    ) -> None:
        check_path(path)
        self.path = path
        self._served = served
        self._limits = Limits() if limits is None else limits
        self._lock = threading.Lock()
        self._clients: dict[_Client, threading.Event | None] = {}
        self._closing = False
        self._sock, self._inode = bound(path, mode, _BACKLOG)
        self._unbind = weakref.finalize(self, unbound, path, self._inode, os.getpid())
        self._acceptor = threading.Thread(target=self._accept, name=f"accept {path}", daemon=True)
        self._acceptor.start()
        _open.add(self)

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._clients)

    @property
    def lent(self) -> int:
        """How many pieces its peers have taken and not given back."""
        with self._lock:
            return sum(client.lent for client in self._clients)

    def close(self, within_s: float = 5.0) -> bool:
        """Accept nobody any more, end all connections, and remove the socket file.

        Gives whether every thread ended in that many seconds; one that is in the middle of a
        request goes on until it is answered.
        """
        deadline = time.monotonic() + within_s
        self._unbind()
        with self._lock:
            self._closing = True
            clients = list(self._clients.items())
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        for client, _ in clients:
            client.shut()
        self._acceptor.join(max(0.0, deadline - time.monotonic()))
        ended = [e.wait(max(0.0, deadline - time.monotonic())) for _, e in clients if e is not None]
        self._sock.close()
        return all(ended) and not self._acceptor.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._sock.accept()
                self._admit(sock)
            except (OSError, MemoryError):
                # The listener is closed, the peer is gone already, or there are no files or there
                # is no memory left: that may be over soon, and nobody else accepts.
                if not self._closing:
                    time.sleep(_PAUSE_S)

    def _admit(self, sock: socket.socket) -> None:
        """Begin to serve a peer, or tell it why not."""
        stream = Stream(sock, self._limits.request_bytes)
        try:
            _, uid, _ = peer_of(sock)
            client = _Client(stream, uid, self._served, self._limits)
            with self._lock:
                most = self._limits.connections
                if self._closing:
                    raise Retryable("the agent is about to end")
                if len(self._clients) >= most:
                    raise Retryable(f"the agent has {most} connections already")
                own = sum(1 for other in self._clients if other.uid == uid)
                if own >= self._limits.of_user:
                    raise Retryable(f"user {uid} has {own} connections to the agent already")
                self._clients[client] = None
            try:
                ended = begin(lambda: self._serve(client))
            except BaseException:
                self._forget(client)
                raise
            with self._lock:
                if client in self._clients:
                    self._clients[client] = ended
        except WherryError as problem:
            _refuse(stream, problem)
        except (OSError, MemoryError):
            stream.close()

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._clients.pop(client, None)

    def _serve(self, client: _Client) -> None:
        try:
            client.serve()
        finally:
            self._forget(client)

    def forked(self) -> None:
        """Leave the socket and the connections to the parent."""
        self._unbind.detach()
        self._sock.close()
        for client in list(self._clients):
            client.abandon()


class _Client:
    """One connection, and what it has been lent."""

    def __init__(self, stream: Stream, uid: int, served: Served, limits: Limits) -> None:
        self._stream, self.uid = stream, uid
        self._served, self._limits = served, limits
        self._lent: dict[int, Exported] = {}
        self._last = 0

    def serve(self) -> None:
        """Find out who it is, and answer until the connection ends."""
        try:
            peer = self._served.peer(self.uid)
        except WherryError as problem:
            _refuse(self._stream, problem)
            return
        try:
            while True:
                idle_until = time.monotonic() + self._limits.idle_s
                frame = self._stream.receive(idle_until, self._limits.frame_s)
                self._answer(frame.kind, frame.payload, peer)
        except CorruptError as problem:
            note(self._served.refused, peer, "frame", problem)
            _refuse(self._stream, problem)
        except OSError:
            pass  # Gone, silent for too long, or too slow: whatever it was, it is over.
        finally:
            self._stream.close()
            self._drop()

    def _answer(self, kind: int, payload: bytes, peer: Peer) -> None:
        if kind == REQUEST:
            self._send(REPLY, self._served.handle(payload, peer))
        elif kind == TAKE:
            self._give(payload, peer)
        elif kind == RETURN:
            self._return(payload)
        else:
            raise CorruptError(f"a frame of kind {kind} is nothing to send to an agent")

    def _give(self, ticket: bytes, peer: Peer) -> None:
        try:
            exported = self._exported(ticket, peer)
        except WherryError as problem:
            note(self._served.refused, peer, "ticket", problem)
            self._send(FAILED, to_bytes(failed(problem)))
            return
        except Exception as problem:  # noqa: BLE001  a fault of ours ends a request, not the agent
            self._send(FAILED, to_bytes(failed(unforeseen(problem))))
            return
        self._last += 1
        self._lent[self._last] = exported
        payload = LEASE.pack(self._last) + exported.layout
        self._send(GIVEN, payload, exported.descriptors)

    def _exported(self, ticket: bytes, peer: Peer) -> Exported:
        if len(self._lent) >= self._limits.pieces:
            raise Retryable(f"this connection has taken {len(self._lent)} pieces already")
        taken = self._served.taken(ticket, peer)
        return export(taken.schema, taken.batches, taken.pool)

    def _send(self, kind: int, payload: bytes, descriptors: tuple[int, ...] = ()) -> None:
        deadline = time.monotonic() + self._limits.frame_s
        self._stream.send([(kind, payload)], deadline, descriptors)

    def _return(self, payload: bytes) -> None:
        """Take pieces back; what this connection does not have is nobody's business."""
        if len(payload) % LEASE.size:
            raise CorruptError(f"{len(payload)} bytes of leases")
        for (lease,) in LEASE.iter_unpack(payload):
            self._lent.pop(lease, None)

    def _drop(self) -> None:
        """Let go of what was not given back, and have its memory never written to again."""
        while self._lent:
            _, exported = self._lent.popitem()
            exported.drop()

    @property
    def lent(self) -> int:
        """How many pieces the peer has."""
        return len(self._lent)

    def shut(self) -> None:
        """End the connection from another thread."""
        self._stream.shut()

    def abandon(self) -> None:
        """Close it in a child of a fork."""
        self._stream.close()


def _refuse(stream: Stream, problem: WherryError) -> None:
    """Say why, if that can be said without waiting, and close the connection."""
    with suppress(OSError):
        stream.send([(FAILED, to_bytes(failed(problem)))], time.monotonic() + _PAUSE_S)
    stream.close()


_open: weakref.WeakSet[Listener] = weakref.WeakSet()


def _forked() -> None:
    for listener in list(_open):
        listener.forked()


os.register_at_fork(after_in_child=_forked)
