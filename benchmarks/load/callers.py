"""Callers of an agent: connections that each carry one query at a time, all watched by one thread.

A caller does as an honest one: what it is refused at first it lets be, and a query that has begun
it carries on, coming again when it is told to.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Final

from msgspec import Struct

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks.load.work import Script, welcome_of
from wherry.serve.connection import Connection
from wherry.serve.requests import Failed, reply_of

CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
"""A query that is not answered in so long has failed."""
_LONGEST_NS: Final = 20_000_000

DONE, REFUSED, FAILED = "done", "refused", "failed"


class User(Struct, frozen=True):
    """Whose work it is: a user of this host, with its tenant's weight at the agent."""

    uid: int
    weight: float = 1.0


class Query(Struct, eq=False):
    """One query on its way; times in steady nanoseconds.

    Attributes
    ----------
    due_ns : int
        When it should have been asked; what is late counts from here.
    """

    user: User
    due_ns: int
    steps: list[bytes]
    step: int = 0
    ended: str = ""
    why: str = ""


Told = Callable[[Query, int], None]
"""Is told of each query that ended, and when."""


class Callers:
    """The connections of all users to one agent.

    Parameters
    ----------
    each : int
        Connections of each user.
    told : callable
        Is told what became of each query.
    """

    def __init__(
        self, path: str, users: tuple[User, ...], each: int, script: Script, told: Told
    ) -> None:
        self.script, self.told = script, told
        self.under_way = 0
        self._poll = select.epoll()
        self._free: dict[int, list[Connection]] = {}
        self._keys: dict[int, bytes] = {}
        self._connections: dict[int, Connection] = {}
        self._at: dict[int, Query] = {}
        self._later: list[tuple[int, int]] = []
        """When to ask again on which connection."""
        try:
            for user in users:
                self._connect(path, user, each)
        except BaseException:
            self.close()
            raise

    def begin(self, user: User, due_ns: int) -> bool:
        """Ask a query now; say whether a connection was free."""
        free = self._free[user.uid]
        if not free:
            return False
        connection = free.pop()
        query = Query(user, due_ns, self.script.anew(self._keys[user.uid]))
        self._at[connection.fileno()] = query
        self.under_way += 1
        self._ask(connection, query)
        return True

    def look(self, until_ns: int) -> None:
        """Take what has been answered, waiting for it until a time at most."""
        now = time.monotonic_ns()
        while self._later and self._later[0][0] <= now:
            _, number = heappop(self._later)
            self._ask(self._connections[number], self._at[number])
        wake = min([until_ns, now + _LONGEST_NS, *(at for at, _ in self._later[:1])])
        for number, _ in self._poll.poll(max(0.0, (wake - now) / 1e9)):
            self._answered(self._connections[number])

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._poll.close()

    def _connect(self, path: str, user: User, count: int) -> None:
        free = self._free.setdefault(user.uid, [])
        with _as(user.uid) as trusted:
            for _ in range(count):
                deadline = time.monotonic() + CONNECT_S
                made = Connection(path, deadline=deadline, trusted=trusted)
                self._connections[made.fileno()] = made
                self._poll.register(made.fileno(), select.EPOLLIN)
                free.append(made)
            self._keys[user.uid] = welcome_of(free[0], self.script.needs).key

    def _ask(self, connection: Connection, query: Query) -> None:
        try:
            connection.post(query.steps[query.step], time.monotonic() + ANSWER_S)
        except WherryError as problem:
            raise WherryError(f"the agent was lost under load: {problem}") from None

    def _answered(self, connection: Connection) -> None:
        data = connection.receive()
        if data is None:
            return
        number, now = connection.fileno(), time.monotonic_ns()
        query = self._at[number]
        reply = reply_of(data)
        last = query.step == len(query.steps) - 1
        if isinstance(reply, Failed) and not last:
            if query.step and reply.again_s > 0 and now - query.due_ns < ANSWER_S * 1e9:
                heappush(self._later, (now + int(reply.again_s * 1e9), number))
                return
            query.ended = FAILED if query.step or not reply.again_s else REFUSED
            query.why = reply.text
            query.step = len(query.steps) - 1  # let go of what there is of it
            if query.ended == FAILED:
                self._ask(connection, query)
                return
            last = True
        if not last:
            query.step += 1
            self._ask(connection, query)
            return
        query.ended = query.ended or DONE
        del self._at[number]
        self._free[query.user.uid].append(connection)
        self.under_way -= 1
        self.told(query, now)


@contextmanager
def _as(uid: int) -> Iterator[tuple[int, ...]]:
    """Connect as a user, which only root may do for another; give whom to trust as the agent."""
    mine = os.geteuid()
    if uid == mine:
        yield (mine, 0)
        return
    if mine != 0:
        raise InputError(f"user {mine} cannot ask as user {uid}; possible: {mine}, or run as root")
    os.seteuid(uid)
    try:
        yield (mine, 0)
    finally:
        os.seteuid(mine)
