"""A caller's end of a Unix socket: asks an agent of this host, and maps the pieces it gives.

When the last buffer of a piece is gone the agent is told so at once; if the connection is in use at
that moment, or the agent does not keep up, with what is said to it next. Until then the agent does
not write to that memory again, and never if the connection ends first: what was taken stays as it
is.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self

from wherry.base.errors import CorruptError, Refused, Retryable, WherryError
from wherry.serve.imported import Imported, imported
from wherry.serve.layout import DESCRIPTORS_MAX
from wherry.serve.mappings import Mappings
from wherry.serve.requests import Failed, error_of, reply_of
from wherry.serve.socket_file import connected, peer_of
from wherry.serve.wire import FAILED, GIVEN, REPLY, REQUEST, RETURN, TAKE, Frame, Stream

REPLY_BYTES_MAX: Final = 64 << 20
"""A longer reply, or layout of a piece, is refused unread."""
_RETURN_BYTES: Final = 4096
"""Of leases that are given back at once: few enough to be sent whole or not at all."""
LEASE: Final = struct.Struct("<Q")
"""A lease as it travels."""

MAPPINGS: Final = Mappings()
"""What this process has mapped of others, whatever the connection."""


class Connection:
    """Asks one agent, one thing at a time; for one thread at a time.

    Deadlines are points in time of `time.monotonic()`, in seconds. A connection on which anything
    went wrong is closed, because nobody knows what still is on its way.

    Parameters
    ----------
    path : str
        Of the agent's socket.
    deadline : float
        When it must be connected.
    trusted : iterable of int, optional
        User ids of agents to believe: this process's and root's unless given. Whoever hands over
        memory can change it under the reader, so others are refused.
    mappings : Mappings, optional
        Where mapped segments are known; one for the whole process unless given.

    Raises
    ------
    InputError
        When the path is too long, is no socket, or may not be connected to.
    Refused
        When somebody listens there who is not trusted.
    Retryable
        When nobody listens, or the agent did not accept by the deadline.
    """

    def __init__(
        self,
        path: str,
        *,
        deadline: float,
        trusted: Iterable[int] | None = None,
        mappings: Mappings | None = None,
    ) -> None:
        self.label = f"agent at unix:{path}"
        self._mappings = MAPPINGS if mappings is None else mappings
        self._let_go: deque[int] = deque()
        self._turn = threading.Lock()
        self._ended = threading.Event()
        sock = connected(path, self.label, deadline)
        known = {os.geteuid(), 0} if trusted is None else set(trusted)
        _, uid, _ = peer_of(sock)
        if uid not in known:
            sock.close()
            possible = f"trusted: {', '.join(map(str, sorted(known)))}"
            raise Refused(f"the {self.label} runs as user {uid}, who is not trusted", (possible,))
        self._stream = Stream(sock, REPLY_BYTES_MAX, DESCRIPTORS_MAX)
        _open.add(self)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._ended.is_set()

    def fileno(self) -> int:
        """Give the socket, for a selector; -1 when the connection is closed."""
        return self._stream.fileno()

    def ask(self, request: bytes, deadline: float) -> bytes:
        """Send a request and wait for the reply.

        Raises
        ------
        Retryable
            When the agent is gone, or has not answered by the deadline; whether it has done what
            was asked is not known then.
        CorruptError
            When what it sends is no reply.
        WherryError
            When it refused the connection: what it said.
        """
        with self._careful("answer"):
            self._stream.send([*self._returns(), (REQUEST, request)], deadline)
            return self._reply(self._stream.receive(deadline), REPLY).payload

    def post(self, request: bytes, deadline: float) -> None:
        """Send a request and do not wait: `receive` gives the reply. Raises what `ask` does."""
        with self._careful("take a request"):
            self._stream.send([*self._returns(), (REQUEST, request)], deadline)

    def receive(self) -> bytes | None:
        """Give the reply to what was posted, or None while it is not whole; never waits.

        Raises what `ask` does.
        """
        with self._careful("answer"):
            frame = self._stream.receive_now()
            return None if frame is None else self._reply(frame, REPLY).payload

    def take(self, ticket: bytes, deadline: float) -> Imported:
        """Map the piece that a ticket is for; whoever keeps a buffer of it keeps the lease.

        Raises
        ------
        WherryError
            When the agent refused: what it said.
        Retryable
            As with `ask`, and when memory cannot be mapped now.
        CorruptError
            When what it sends is no piece.
        """
        with self._careful("give a piece"):
            self._stream.send([*self._returns(), (TAKE, ticket)], deadline)
            frame = self._reply(self._stream.receive(deadline), GIVEN)
            try:
                return self._piece(frame)
            finally:
                _close(frame.descriptors)

    def close(self) -> None:
        """End it, from any thread: one that waits on it gets a `Retryable`.

        What was taken stays mapped and as it is, for as long as somebody reads it.
        """
        self._ended.set()
        self._stream.shut()
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _returns(self) -> list[tuple[int, bytes]]:
        """Take what was let go of, as a frame; none if nothing was."""
        leases = bytearray()
        while self._let_go and len(leases) < _RETURN_BYTES:
            leases += LEASE.pack(self._let_go.popleft())
        return [(RETURN, bytes(leases))] if leases else []

    def _give_back(self, lease: int) -> None:
        """Let go of a piece. The collector may call this anywhere, so it never waits."""
        self._let_go.append(lease)
        self._tell()

    def _tell(self) -> None:
        """Say what was let go of, if nobody uses the connection now; whoever does says it then."""
        while self._let_go and not self._ended.is_set() and self._turn.acquire(blocking=False):
            try:
                returns = self._returns()
                told = self._stream.send_now(returns)
            finally:
                self._turn.release()
            if not told:
                for _, payload in returns:
                    self._let_go.extend(lease for (lease,) in LEASE.iter_unpack(payload))
                return

    def _finish(self) -> None:
        """Close the socket of a connection that has ended, once nobody uses it."""
        if self._turn.acquire(blocking=False):
            self._stream.close()
            self._turn.release()

    def _piece(self, frame: Frame) -> Imported:
        if len(frame.payload) < LEASE.size:
            raise CorruptError(f"the {self.label} gave a piece without a lease")
        (lease,) = LEASE.unpack_from(frame.payload)
        return imported(
            frame.payload[LEASE.size :],
            frame.descriptors,
            self._mappings,
            f"a piece of the {self.label}",
            gone=lambda: self._give_back(lease),
        )

    def _reply(self, frame: Frame, kind: int) -> Frame:
        """Give the frame if it is of that kind; only pieces come with descriptors."""
        if frame.kind == kind == GIVEN:
            return frame
        _close(frame.descriptors)
        if frame.kind == kind and not frame.descriptors:
            return frame
        told = self._told(frame)
        if told is not None:
            raise _Told(told, over=kind == REPLY)
        raise CorruptError(
            f"{self.label} answered with a frame of kind {frame.kind} and "
            f"{len(frame.descriptors)} descriptors, not one of kind {kind}"
        )

    def _told(self, frame: Frame) -> WherryError | None:
        found = reply_of(frame.payload) if frame.kind == FAILED else None
        return error_of(found, self.label) if isinstance(found, Failed) else None

    def _last_words(self) -> WherryError | None:
        """Give what the agent said before it closed the connection."""
        with suppress(OSError, CorruptError):
            frame = self._stream.receive_now()
            if frame is not None:
                _close(frame.descriptors)
                return self._told(frame)
        return None

    @contextmanager
    def _careful(self, what: str) -> Iterator[None]:
        """Close the connection if anything but an error of the agent's own comes of it."""
        with self._turn:
            if self._ended.is_set():
                raise Retryable(f"the connection to the {self.label} is closed")
            try:
                yield
            except _Told as told:
                if told.over:
                    self._ended.set()
                raise told.problem from None
            except TimeoutError:
                self._ended.set()
                raise Retryable(f"the {self.label} did not {what} in time") from None
            except OSError as problem:
                said = self._last_words()
                self._ended.set()
                why = f"closed the connection: {problem}"
                raise said or Retryable(f"the {self.label} {why}") from None
            except BaseException:
                self._ended.set()
                raise
            finally:
                if self._ended.is_set():
                    self._stream.close()
        if self._ended.is_set():  # By another thread, meanwhile.
            self._finish()
        self._tell()

    def abandon(self) -> None:
        """Close it in a child of a fork; the parent goes on."""
        self._ended.set()
        self._stream.close()


class _Told(Exception):
    def __init__(self, problem: WherryError, *, over: bool) -> None:
        self.problem, self.over = problem, over


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forked() -> None:
    """Leave connections to the parent: a child would keep them open behind its back."""
    for connection in list(_open):
        connection.abandon()


os.register_at_fork(after_in_child=_forked)
