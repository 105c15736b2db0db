"""A station under its gate: what is refused, when, and what callers and planners make of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pyarrow as pa
import pytest
from msgspec import Struct

from wherry.base.errors import Retryable
from wherry.benchmarks.load.work import Script, script_of
from wherry.devices.profile import load_profile
from wherry.serve import links, requests
from wherry.serve.admission import Busy
from wherry.serve.agent import Agent, Asked
from wherry.serve.gate import Open
from wherry.serve.links import Link
from wherry.serve.load import TENANT, Load
from wherry.serve.peer import Peer
from wherry.serve.requests import Failed, Message, reply_of, to_bytes
from wherry.serve.tenants import LOCAL

PEER = Peer(LOCAL, "a test")
LOAD = Load(busy=0.5, taken=0.25, running=1, waiting=2, wait_ns=3_000_000_000)


class Noted(Open):
    """A gate that notes who came, and refuses new work when it is told to."""

    def __init__(self) -> None:
        self.came: list[bool] = []
        self.full = False

    def admitted(self, tenant: str, *, begun: bool = False) -> AbstractContextManager[object]:
        assert tenant == LOCAL
        self.came.append(begun)
        if self.full and not begun:
            raise Busy(tenant, TENANT, "full", 20_000_000)
        return nullcontext()

    def load(self, tenant: str = "") -> Load:
        return LOAD


class Case(Struct, frozen=True, eq=False):
    """An agent, what its gate noted, and the requests of a query."""

    agent: Agent
    gate: Noted
    script: Script
    address: str

    def ask(self, request: bytes | Message) -> Message:
        data = to_bytes(request) if isinstance(request, Message) else request
        found: Message = reply_of(self.agent.station.handle(data, PEER))
        return found

    def query(self) -> list[bytes]:
        """Give the requests of another query."""
        return self.script.anew(self.ask(requests.Hello()).key)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("agent")
    table = pa.table({"n": range(1000)})
    with (
        pa.OSFile(str(folder / "few.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    address = f"unix:{folder}/a.sock"
    agent = Agent(Asked("host0", load_profile("genoa"), (address,), folder))
    try:
        script = script_of(address, None)
        for need in script.needs:
            agent.station.handle(need, PEER)
        gate = agent.station.gate = Noted()
        yield Case(agent, gate, script, address)
    finally:
        agent.close()


@pytest.fixture(autouse=True)
def anew(case: Case) -> None:
    case.gate.came.clear()
    case.gate.full = False


def test_a_query_is_new_once(case: Case) -> None:
    names = [type(requests.request_of(step)).__name__ for step in case.query()]
    assert names == ["Receive", "Route", "Receive", "Run", "Receive", "Run", "Release"]
    replies = [case.ask(step) for step in case.query()]
    assert not [reply for reply in replies if isinstance(reply, Failed)]
    # Only its first request is new; opening further hops takes no turn, working does.
    assert case.gate.came == [False, True, True, True]


def test_what_is_refused_leaves_nothing_and_what_began_goes_on(case: Case) -> None:
    began, late = case.query(), case.query()
    case.ask(began[0])
    case.gate.full = True
    kept = len(case.agent.station.visits)
    refused = case.ask(late[0])
    assert isinstance(refused, Failed)
    assert (refused.kind, refused.again_s) == ("Retryable", 0.02)
    assert refused.text == "busy: full; come again in 20 ms"
    assert len(case.agent.station.visits) == kept
    replies = [case.ask(step) for step in began[1:]]
    assert not [reply for reply in replies if isinstance(reply, Failed)]
    assert len(case.agent.station.visits) == kept - 1


def test_planning_takes_its_turn_and_signs_of_life_do_not(case: Case) -> None:
    case.gate.full = True
    for refused in (requests.Measure("few", "n"), requests.Unpack("few", ("n",))):
        assert isinstance(case.ask(refused), Failed)
    for answered in (requests.Hello(), requests.Echo(1), requests.Renew(()), requests.List()):
        assert not isinstance(case.ask(answered), Failed)
    assert case.gate.came == [False, False]


def test_health_tells_the_load_and_planners_hear_of_it(case: Case) -> None:
    found = case.ask(requests.Health())
    assert isinstance(found, requests.Healthy)
    assert (found.busy, found.taken, found.running, found.waiting) == (0.5, 0.25, 1, 2)
    assert found.wait_s == 3.0


class Scripted:
    """A connection to an agent that gives these answers."""

    def __init__(self, *answers: Message) -> None:
        self.answers = [to_bytes(answer) for answer in answers]

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        return self.answers.pop(0)

    def close(self) -> None:
        pass


def test_callers_come_again_when_a_busy_agent_says() -> None:
    busy = Failed("Retryable", "busy", 0.02)
    link = Link("csd0", "unix:a", lambda: Scripted(busy, busy, requests.Done()))
    begin = time.monotonic()
    link.ask(requests.Renew(()), "renewing", requests.Done)
    assert time.monotonic() - begin >= 0.04


@pytest.mark.parametrize("again_s", [0.0, 31.0, -1.0, float("nan"), float("inf")])
def test_callers_do_not_wait_for_ever(again_s: float) -> None:
    made = Scripted(Failed("Retryable", "busy", again_s))
    link = Link("csd0", "unix:a", lambda: made)
    with pytest.raises(Retryable, match="csd0: busy"):
        link.ask(requests.Renew(()), "renewing", requests.Done)


def test_an_agent_that_is_always_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "BUSY_S", 0.05)
    made = Scripted(*[Failed("Retryable", "busy", 1e-9)] * 1000)
    link = Link("csd0", "unix:a", lambda: made)
    with pytest.raises(Retryable, match="csd0: busy"):
        link.ask(requests.Renew(()), "renewing", requests.Done)
    assert len(made.answers) > 900  # an agent that says `at once` does not keep its callers busy
