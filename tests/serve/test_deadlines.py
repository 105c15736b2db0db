"""Every wait for an agent ends: by the query's deadline, or because the agent is silent."""

from __future__ import annotations

import time
from functools import partial

import pyarrow as pa
import pytest
from support.clusters import cluster, store

import wherry as wh
from wherry import InputError, Refused, WherryError, col, count
from wherry.base import threads
from wherry.serve import links, requests, station, unix, watchman
from wherry.serve.deadline import Overdue, is_over, left_s, together, within, without
from wherry.serve.flight_way import _Flight
from wherry.serve.keyring import KeyRing
from wherry.serve.links import AgentLost
from wherry.serve.received import Unreached
from wherry.session.agents import connected

ROWS = 120
SLOW_S = 1.5


@pytest.fixture(params=[True, False], ids=["emulated", "measured"])
def there(request, tmp_path):
    store(tmp_path / "d", pa.table({"row": list(range(ROWS))}), "rows", rows=25)
    with cluster(tmp_path / "d", emulate=request.param) as found:
        yield found


def slow(monkeypatch, kinds, device="csd0", seconds=SLOW_S):
    """Let an agent of this process take long for some requests."""
    for kind in kinds:
        answer = station._ANSWERS[kind]

        def late(self, *asked, answer=answer):
            if self.name == device:
                time.sleep(seconds)
            return answer(self, *asked)

        monkeypatch.setitem(station._ANSWERS, kind, late)


def asked(there):
    return there.scan("rows").filter(col("row") >= 0).agg(n=count())


def run(there, deadline_s, pipeline=None):
    query = asked(there) if pipeline is None else pipeline
    near = {"near": "home"}
    return query.run(there.system, placement=near, deadline_s=deadline_s).table.to_pylist()


def test_a_deadline_that_is_kept_changes_nothing(there):
    assert run(there, 60) == run(there, None) == [{"n": ROWS}]
    assert left_s(7) == 7


def test_a_query_that_is_late_names_device_and_hop(there, monkeypatch):
    run(there, None)
    slow(monkeypatch, [requests.Run])
    begun = time.monotonic()
    with pytest.raises(
        Overdue, match=r"csd0 was not done .* 0\.3 s \(hop: stage 0 near.* of query"
    ):
        run(there, 0.3)
    assert time.monotonic() - begun < SLOW_S
    assert not connected(there.system).links["csd0"].lost  # slow is not lost


def test_planning_ends_by_the_deadline_too(there, monkeypatch):
    query = asked(there)
    slow(monkeypatch, [requests.Measure, requests.Sample, requests.Unpack, requests.Health])
    with pytest.raises(Overdue, match=r"csd0 was not done .* \(hop: planning\)"):
        run(there, 0.3, query)


def test_silence_while_planning_is_noticed(there, monkeypatch):
    run(there, None)
    monkeypatch.setattr(watchman, "PING_S", 0.1)
    monkeypatch.setattr(links, "SILENCE_S", 0.3)
    slow(monkeypatch, [requests.List, requests.Renew])
    begun = time.monotonic()
    with pytest.raises(Refused, match=r"csd0 was lost while .*hop: planning"):
        there.scan("rows")
    assert time.monotonic() - begun < SLOW_S


def test_a_source_that_is_silent_while_its_piece_is_fetched_is_lost(there, monkeypatch):
    link = connected(there.system).links["csd0"]
    other = connected(there.system).links["csd1"]
    slow(monkeypatch, [requests.Echo], "csd1", 5.0)
    lost = AgentLost("csd0", "waiting", links.PLANNING, "for a test")
    with pytest.raises(AgentLost, match="csd0 was lost"):
        together(
            lambda do: do(),
            [
                partial(other.ask, requests.Echo(0), "waiting", requests.Rows, others=(link,)),
                lambda: (time.sleep(0.2), link.lose(lost)),
            ],
        )
    assert not other.lost


@pytest.mark.parametrize("deadline_s", [0, -1.0, float("inf"), float("nan")])
def test_what_is_no_deadline_is_refused(there, deadline_s):
    with pytest.raises(InputError, match="possible: more than 0"):
        run(there, deadline_s)


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_systems_without_agents_keep_no_deadlines(system):
    rows = wh.scan(pa.table({"row": [1]}))
    with pytest.raises(InputError, match="none of whose devices is an agent"):
        rows.run(system, deadline_s=1.0)
    options = wh.session.Options(deadline_s=1.0)
    with pytest.raises(InputError, match="none of whose devices is an agent"):
        list(wh.session.stream(rows, system, options))


def test_the_nearer_deadline_is_kept_and_forgotten_after():
    with within(10), within(0.01), within(5):
        time.sleep(0.02)
        assert is_over()
        with without():
            assert not is_over()
    assert not is_over()


def test_together_gives_all_or_raises_and_keeps_the_deadline():
    with within(10):
        assert together(lambda n: (n, left_s(60) < 11), range(3)) == {
            n: (n, True) for n in range(3)
        }
    with pytest.raises(ZeroDivisionError):
        together(lambda n: 1 // n, range(3))
    assert together(str, []) == {}


def test_an_agent_without_memory_for_a_peer_serves_the_next(there, monkeypatch):
    run(there, None)

    def unable(_):
        raise MemoryError

    begin = unix.begin
    monkeypatch.setattr(unix, "begin", unable)
    link = connected(there.system).links["csd0"]
    for free in link._free:
        free.close()
    with pytest.raises(WherryError, match="csd0"):
        link.ask(requests.Echo(0), "trying", requests.Rows)
    monkeypatch.setattr(unix, "begin", begin)
    assert run(there, None) == [{"n": ROWS}]


def test_who_waits_for_a_call_of_flight_stops_when_it_is_closed():
    class Silent:
        def ask(self, request, deadline_s):
            time.sleep(SLOW_S)

        def close(self):
            pass

    way = _Flight(Silent())
    begun = time.monotonic()
    ended = threads.begin(lambda: (time.sleep(0.1), way.close()))
    with pytest.raises(Unreached):
        way.ask(b"", 60.0)
    assert ended.wait(1)
    assert time.monotonic() - begun < SLOW_S
    with pytest.raises(Unreached):
        way.ask(b"", 60.0)


def test_keys_of_another_life_are_told_apart():
    assert len({KeyRing("session", ids=1 << 62).newest(None, 0).id for _ in range(500)}) == 500


def test_what_is_lost_is_named_if_it_carried_for_others(there):
    query, live = asked(there), connected(there.system)
    live.links["dpu0"].lose(AgentLost("dpu0", "waiting", links.PLANNING, "for a test"))
    with pytest.raises(Refused, match=r"without dpu0 no link of .* dpu0 was lost while waiting"):
        live.seen(query.source)
