"""A caller's side of an agent: connections that are used again, until it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from wherry.base.errors import CorruptError, WherryError
from wherry.serve import requests
from wherry.serve.deadline import Overdue, is_over, left_s
from wherry.serve.peer import Peer
from wherry.serve.received import BY_REFERENCE, Received, Unreached
from wherry.serve.requests import (
    Failed,
    Message,
    Welcome,
    error_of,
    failed,
    reply_of,
    to_bytes,
)
from wherry.serve.station import Station

SILENCE_S: Final = 3.0
"""An agent that gives no sign of life for so long is lost."""
BUSY_S: Final = 30.0
"""A busy agent is asked again, when it says, for so long."""
_AT_ONCE_S: Final = 0.5
_AGAIN_S: Final = 0.001
REQUEST_S: Final = 120.0
"""No request takes longer."""
PLANNING: Final = "hop: planning"
"""What is asked of agents before a query's stages are sent to them."""


class Connection(Protocol):
    """A way to an agent, used by one thread at a time.

    `Unreached` says that the agent said nothing; any other error is what it said.
    """

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send a request, wait so many seconds at most, and give the reply."""

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Give the rows behind a ticket."""

    def close(self) -> None:
        """Close it; a thread that waits on it gets an error."""


class AgentLost(Unreached):
    """An agent cannot be reached, went away, or gave no sign of life.

    Attributes
    ----------
    device : str
        Which.
    """

    def __init__(self, device: str, doing: str, hop: str, why: object) -> None:
        super().__init__(f"{device} was lost while {doing} ({hop}): {why}")
        self.device = device


class InProcess:
    """The connection to a station of this process."""

    def __init__(self, station: Station, peer: Peer) -> None:
        self._station, self._peer = station, peer

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Let the station answer."""
        del deadline_s
        return self._station.handle(request, self._peer)

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Give the rows by reference."""
        del deadline_s
        taken = self._station.taken(ticket, self._peer)
        return Received(taken.schema, list(taken.batches), why=BY_REFERENCE)

    def close(self) -> None:
        """Do nothing: the station stays."""


class Link:
    """All connections to one agent; any thread may ask.

    Parameters
    ----------
    device : str
        The name of the agent in its system.
    address : str
        Where it listens; empty for a station of this process.
    connect : callable
        Makes a connection.
    awaited : callable
        Is called before anything is waited for: somebody has to look whether the agent lives.
    """

    def __init__(
        self,
        device: str,
        address: str,
        connect: Callable[[], Connection],
        awaited: Callable[[], None] = lambda: None,
    ) -> None:
        self.device, self.address = device, address
        self._connect, self.awaited = connect, awaited
        self._free: list[Connection] = []
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()
        self._welcome: Welcome | None = None
        self._lost: AgentLost | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._busy)

    @property
    def why(self) -> AgentLost | None:
        """How it was lost, if it was."""
        return self._lost

    @property
    def lost(self) -> bool:
        """Whether it was lost."""
        return self._lost is not None

    def welcome(self, *, anew: bool = False, within_s: float = SILENCE_S) -> Welcome:
        """Say Hello, if nobody has, or anew for another key; give the answer."""
        if self._welcome is None or anew:
            hello = requests.Hello()
            self._welcome = self.ask(hello, "saying hello", Welcome, within_s=within_s)
        return self._welcome

    def ask(
        self,
        request: Message,
        doing: str,
        *kinds: type[Any],
        hop: str = PLANNING,
        within_s: float = REQUEST_S,
        others: Sequence[Link] = (),
    ) -> Any:
        """Ask, and give the reply, which is of one of `kinds`.

        Parameters
        ----------
        doing, hop : str
            What is being done, and for which part of which query: errors say so.
        within_s : float
            Wait no longer, nor past the deadline of this thread.
        others : sequence of Link
            Agents that this one needs for it: if one is lost, nobody waits any more.

        Raises
        ------
        AgentLost
            If the agent, or one of the others, is not reached.
        Overdue
            If the deadline of this thread was first.
        WherryError
            What the agent answered instead, naming it; that it is busy, only after `BUSY_S` of
            asking as often as it said.
        """
        data, until = to_bytes(request), time.monotonic() + left_s(BUSY_S)
        while True:
            use = partial(_asked, data, within_s)
            reply = reply_of(self._used(use, doing, hop, others))
            if not isinstance(reply, Failed):
                break
            if not 0 < reply.again_s < until - time.monotonic():
                raise error_of(reply, self.device, hop)
            time.sleep(max(reply.again_s, _AGAIN_S))
        if not isinstance(reply, kinds):
            raise WherryError(
                f"{self.device} answered {type(reply).__name__} while {doing} ({hop})"
            )
        return reply

    def take(
        self, ticket: bytes, doing: str, *, hop: str = PLANNING, within_s: float = REQUEST_S
    ) -> Received:
        """Give the rows behind a ticket; raises what `ask` does."""
        return self._used(lambda c: c.take(ticket, left_s(within_s)), doing, hop)

    def alive(self) -> bool:
        """Ask for a sign of life; without one, whoever waits for this agent waits no longer."""
        return self.pinged(requests.Echo(0))

    def pinged(self, sign: Message) -> bool:
        """Ask for a sign of life by a request; give whether the agent is there."""
        try:
            self.ask(sign, "waiting for it", requests.Rows, requests.Done, within_s=SILENCE_S)
        except AgentLost as lost:
            self.lose(lost)
        except WherryError:
            pass  # It answers, or nobody wants to know any more.
        return self._lost is None

    def lose(self, why: AgentLost) -> None:
        """Give the agent up: nothing is asked of it any more, and nobody waits for it."""
        with self._lock:
            self._lost = self._lost or why
            left = [*self._free, *self._busy]
            self._free.clear()
        for connection in left:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        self.lose(AgentLost(self.device, "closing", PLANNING, "it was closed"))

    def _used(
        self,
        use: Callable[[Connection], Any],
        doing: str,
        hop: str,
        others: Sequence[Link] = (),
    ) -> Any:
        if is_over():
            raise Overdue(self.device, doing, hop)
        known, begun = self._kept(), time.monotonic()
        self.awaited()
        try:
            if known is not None:
                try:
                    return self._once(known, use, others)
                except Unreached:
                    # It may have been closed while nobody used it; silence is another matter.
                    if time.monotonic() - begun > _AT_ONCE_S:
                        raise
            return self._once(self._made(), use, others)
        except AgentLost:
            raise
        except Unreached as problem:
            lost = next((link.why for link in (self, *others) if link.why is not None), None)
            if lost is None and is_over():
                raise Overdue(self.device, doing, hop) from None
            raise lost or AgentLost(self.device, doing, hop, problem) from None
        except WherryError as problem:
            raise error_of(failed(problem), self.device, hop) from None

    def _once(
        self, connection: Connection, use: Callable[[Connection], Any], others: Sequence[Link]
    ) -> Any:
        """Use a connection; it is kept if the agent answered, whatever it said."""
        answered = False
        try:
            for other in others:
                other.hang(connection)
            found = use(connection)
            answered = True
        except (OSError, EOFError) as problem:
            raise Unreached(str(problem)) from None
        except WherryError as problem:
            answered = not isinstance(problem, Unreached | CorruptError)
            raise
        finally:
            for other in others:
                other.unhang(connection)
            if answered:
                self._give(connection)
            else:
                with self._lock:
                    self._busy.discard(connection)
                connection.close()
        return found

    def hang(self, connection: Connection) -> None:
        """Have a connection to another agent, which waits for this one, end with it."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            self._busy.add(connection)

    def unhang(self, connection: Connection) -> None:
        """Leave the connection to its own agent."""
        with self._lock:
            self._busy.discard(connection)

    def _kept(self) -> Connection | None:
        """Give a connection that was used before."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if not self._free:
                return None
            found = self._free.pop()
            self._busy.add(found)
            return found

    def _made(self) -> Connection:
        if self._lost is not None:
            raise self._lost
        try:
            made = self._connect()
        except OSError as problem:
            raise Unreached(str(problem)) from None
        with self._lock:
            self._busy.add(made)
        return made

    def _give(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if self._lost is None:
                self._free.append(connection)
                return
        connection.close()


def _asked(data: bytes, within_s: float, connection: Connection) -> bytes:
    return connection.ask(data, left_s(within_s))
