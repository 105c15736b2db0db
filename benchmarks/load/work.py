"""What is asked of an agent under load: one query as a caller asks it, again and again.

The query is run once by the ordinary way, over the agent alone, and what was asked is written down.
A new one is the same requests under another id, its messages sealed anew: no planner runs while
the load does, and the agent does for each all that it would do for a caller.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import pyarrow as pa
from msgspec import Struct

import wherry as wh
from wherry.base.errors import InputError
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.devices.profile import Profile
from wherry.devices.system import UNIX, System
from wherry.run.shares import cut_by_home
from wherry.serve import requests
from wherry.serve.connection import Connection
from wherry.serve.dial import dial
from wherry.serve.dispatch import Dispatch
from wherry.serve.far import FarSource
from wherry.serve.links import Connection as Way
from wherry.serve.live import Live, open_live
from wherry.serve.received import Received
from wherry.serve.remote import RemoteCarrier
from wherry.serve.requests import Failed, Message, error_of, reply_of, request_of, to_bytes
from wherry.session.agents import SHARE_ROWS
from wherry.session.journey import Planned, planned, prepared
from wherry.session.options import Options

QUERY_BYTES: Final = 16
_COLUMNS: Final = 2
_ANSWER_S: Final = 60.0
_PART_OF_A_QUERY: Final = (requests.Receive, requests.Route, requests.Read, requests.Run)


class Script(Struct, frozen=True):
    """The requests of a query, in order, the last of which lets go of it.

    Attributes
    ----------
    query : bytes
        The id that they have.
    steps : tuple of (bytes, bytes)
        Each request, and the sealed message in it or nothing.
    needs : tuple of bytes
        What each tenant's agent must have been sent before.
    rows : int
        That one query reads.
    """

    query: bytes
    needs: tuple[bytes, ...]
    steps: tuple[tuple[bytes, bytes], ...]
    rows: int

    def anew(self, key: bytes) -> list[bytes]:
        """Give the requests of another query of a caller with a session key."""
        query = os.urandom(QUERY_BYTES)
        return [self._step(request, message, query, key) for request, message in self.steps]

    def _step(self, request: bytes, message: bytes, query: bytes, key: bytes) -> bytes:
        if not message:
            return request.replace(self.query, query)
        body = message[:-DIGEST_BYTES].replace(self.query, query)
        return request.replace(message, body + seal(key, body))


class _Noted:
    """A way to an agent that writes down what is asked and answered."""

    def __init__(self, way: Way, note: Callable[[Message], None]) -> None:
        self._way, self._note = way, note

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Ask; requests that were answered otherwise than with an error or a lack are noted."""
        reply = self._way.ask(request, deadline_s)
        if not isinstance(reply_of(reply), Failed | requests.Lacks):
            self._note(request_of(request))
        return reply

    def take(self, ticket: bytes, deadline_s: float) -> Received:
        """Give the rows behind a ticket."""
        return self._way.take(ticket, deadline_s)

    def close(self) -> None:
        """Close it."""
        self._way.close()


def script_of(address: str, dataset: str | None) -> Script:
    """Run a query at the agent that listens at an address, and give what was asked.

    It adds up the first columns of numbers of a dataset, the first one of the agent if none is
    named, over the rows where the first of them is not below 0.

    Parameters
    ----------
    address : str
        unix:PATH.

    Raises
    ------
    InputError
        If the agent is not a cpu, has no dataset, or that has no column of numbers.
    """
    asked: list[Message] = []
    system = _alone(address)
    there = open_live(system, lambda at, device: _Noted(dial(at, device), asked.append))
    try:
        name = dataset or next(iter(there.names()), None)
        if name is None:
            raise InputError(f"the agent at {address} has no dataset; give it one with --data")
        query = _declared(there, name)
        _run(query, there, system)  # What the agent lacks at first is sent now.
        needs = [to_bytes(one) for one in asked if isinstance(one, requests.Install)]
        asked.clear()
        rows = _run(query, there, system)
    finally:
        there.close()
    parts = [one for one in asked if isinstance(one, _PART_OF_A_QUERY)]
    ended = [one for one in asked if isinstance(one, requests.Release)]
    steps = tuple((to_bytes(one), _sealed(one)) for one in (*parts, *ended[:1]))
    return Script(ended[0].query, tuple(needs), steps, rows)


def _sealed(request: Any) -> bytes:
    given = isinstance(request, requests.Receive | requests.Read)
    return request.message if given else b""


def welcome_of(connection: Connection, needs: tuple[bytes, ...] = ()) -> requests.Welcome:
    """Say Hello, and send what is needed; give the answer."""
    deadline = time.monotonic() + _ANSWER_S
    found = reply_of(connection.ask(to_bytes(requests.Hello()), deadline))
    others = [reply_of(connection.ask(need, deadline)) for need in needs]
    for reply in (found, *others):
        if isinstance(reply, Failed):
            raise error_of(reply, connection.label)
    assert isinstance(found, requests.Welcome)
    return found


def _alone(address: str) -> System:
    """Give the system of this one agent: it is host and client, too."""
    path = address.removeprefix(UNIX)
    with Connection(path, deadline=time.monotonic() + _ANSWER_S) as connection:
        welcome = welcome_of(connection)
    profile = msgspec.json.decode(welcome.profile, type=Profile)
    if profile.device.kind != "cpu":
        raise InputError(
            f"agent {welcome.name!r} is a {profile.device.kind}; possible under load: an agent "
            "whose profile is a cpu's, which runs whole queries"
        )
    return System(
        name=f"load-{os.getpid()}",
        title="an agent alone",
        host=welcome.name,
        client=welcome.name,
        devices={welcome.name: profile},
        switches=(),
        links=(),
        datasets=(),
        agents={welcome.name: address},
    )


def _declared(there: Live, name: str) -> wh.Pipeline:
    source = there.source(name)
    whole = wh.Pipeline(source, (), source.schema)
    numbers = [f.name for f in source.schema if _is_number(f.type)][:_COLUMNS]
    if not numbers:
        raise InputError(f"dataset {name!r} has no column of numbers to add up")
    totals = {f"total_{name}": wh.col(name).sum() for name in numbers}
    return whole.filter(wh.col(numbers[0]) >= 0).agg(**totals, rows=wh.count())


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_)


def _run(query: wh.Pipeline, there: Live, system: System) -> int:
    """Run a query at the agent; give how many rows it read."""
    source = query.source
    assert isinstance(source, FarSource)
    ready = prepared(query, there.seen(source))
    found: Planned = planned(
        ready, there.seen(source), Options(), key=os.urandom(32), whole=not there.emulated
    )
    carrier = RemoteCarrier(
        there.links,
        found.machine.orders.continuation,
        plan_bytes=ready.plan_bytes,
        directory=source.told,
        builds=found.builds,
        decide=found.decide,
    )
    cut = partial(cut_by_home, homes=found.machine.orders.homes, most_rows=SHARE_ROWS)
    try:
        carrier.answer(Dispatch(carrier, cut).carry_out(found.machine), system.client)
    finally:
        carrier.release()
    return sum(evidence.rows_in for evidence in carrier.evidence if evidence.stage == 0)
