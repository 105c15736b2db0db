"""A caller's end of a Unix socket: asks an agent of this host, and maps the pieces it gives.

When the last buffer of a piece is gone its lease is noted, and told to the agent with the next
request, or by `flush`; until then the agent does not write to that memory again. If the connection
ends first the agent never does, so what was taken stays as it is.
"""

from __future__ import annotations

import os
import struct
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
        return self._stream.fileno() < 0

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
        self.post(request, deadline)
        with self._careful("answer"):
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

    def flush(self, deadline: float) -> int:
        """Tell the agent which pieces nobody reads any more; give how many. Raises as `ask`."""
        returns = self._returns()
        if returns:
            with self._careful("take leases back"):
                self._stream.send(returns, deadline)
        return sum(len(payload) // LEASE.size for _, payload in returns)

    def shut(self) -> None:
        """End it from another thread: whoever waits on it waits no longer, and closes it."""
        self._stream.shut()

    def close(self) -> None:
        """End it; what was taken stays mapped and as it is, for as long as somebody reads it."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _returns(self) -> list[tuple[int, bytes]]:
        leases = bytearray()
        while self._let_go:
            leases += LEASE.pack(self._let_go.popleft())
        return [(RETURN, bytes(leases))] if leases else []

    def _piece(self, frame: Frame) -> Imported:
        if len(frame.payload) < LEASE.size:
            raise CorruptError(f"the {self.label} gave a piece without a lease")
        (lease,) = LEASE.unpack_from(frame.payload)
        let_go = self._let_go
        return imported(
            frame.payload[LEASE.size :],
            frame.descriptors,
            self._mappings,
            f"a piece of the {self.label}",
            gone=lambda: let_go.append(lease),
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
            raise _Told(told)
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
        if self.closed:
            raise Retryable(f"the connection to the {self.label} is closed")
        try:
            yield
        except _Told as told:
            raise told.problem from None
        except TimeoutError:
            self.close()
            raise Retryable(f"the {self.label} did not {what} in time") from None
        except OSError as problem:
            said = self._last_words()
            self.close()
            why = f"closed the connection: {problem}"
            raise said or Retryable(f"the {self.label} {why}") from None
        except BaseException:
            self.close()
            raise


class _Told(Exception):
    def __init__(self, problem: WherryError) -> None:
        self.problem = problem


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forked() -> None:
    """Leave connections to the parent: a child would keep them open behind its back."""
    for connection in list(_open):
        connection.close()


os.register_at_fork(after_in_child=_forked)
