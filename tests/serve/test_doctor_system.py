"""`wherry doctor --system`: how agents are, what the ways to them do, and plans that use it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from msgspec.structs import replace
from support.clusters import DRIVES, Cluster, cluster, store

import wherry as wh
from wherry.cli import main
from wherry.devices.figures import Figure
from wherry.devices.routes import Link
from wherry.serve import probing
from wherry.session.agents import connected

ROWS = 60_000
WRITTEN_US = 9000.0
HEAD = """
[system]
name = "asked"
title = "two drives, each with a link to the host"
host = "host0"
client = "host0"
[[device]]
name = "host0"
profile = "sapphire-rapids"
"""
DRIVE = """
[[device]]
name = "{name}"
profile = "newport"
agent = "{agent}"
[[link]]
ends = ["{name}", "host0"]
bandwidth_gb_per_s = {{ value = 0.001, source = "estimate: a guess, from nothing" }}
latency_us = {{ value = 9000.0, source = "estimate: a guess, from nothing" }}
duplex = "full"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep what is measured in a folder of the test."""
    monkeypatch.setattr(probing, "user_cache_path", lambda name: tmp_path / "cache" / name)


@pytest.fixture(params=[False, True], ids=["real", "emulated"])
def there(request, tmp_path):
    values = [number * 7919 % ROWS for number in range(ROWS)]  # No batch can be left out by its x.
    store(tmp_path / "agents", pa.table({"x": values}), "a", rows=10_000)
    with cluster(tmp_path / "agents", *DRIVES, emulate=request.param) as found:
        yield found


def written(there: Cluster) -> str:
    """Write the system of agents as a file; give its path."""
    drives = [DRIVE.format(name=name, agent=there.system.agents[name]) for name in DRIVES]
    path = there.folder / "asked.toml"
    path.write_text(HEAD + "".join(drives))
    return str(path)


def asked(path: str, capsys, *words: str) -> tuple[int, dict[str, dict]]:
    """Ask for the agents; give the exit code, and what is said of each."""
    code = main(["doctor", "--system", path, "--json", *words])
    said = json.loads(capsys.readouterr().out)
    assert said.get("system") == "asked", said
    return code, {agent["device"]: agent for agent in said["agents"]}


def is_emulated(there: Cluster) -> bool:
    return there.agents["csd0"].station.settings.emulated


def test_agents_tell_how_they_are(there, capsys):
    code, agents = asked(written(there), capsys)
    assert code == 0
    assert agents.keys() == set(DRIVES)
    for name, agent in agents.items():
        assert agent["address"] == there.system.agents[name]
        assert (agent["lost"], agent["profile"]) == ("", "newport")
        assert (agent["emulated"], agent["datasets"]) == (is_emulated(there), ["a"])
        assert agent["health"]["datasets"] == 1
        assert abs(agent["clock"]["ahead_ns"]) < 10**9, "agent and caller have one clock here"
        assert agent["way"] is None, "nobody asked for it to be measured"


def test_a_lost_agent_is_named_and_the_others_answer(there, capsys):
    there.agents["csd1"].close()
    code, agents = asked(written(there), capsys, "--measure")
    assert code == 1
    assert agents["csd0"]["lost"] == ""
    assert agents["csd0"]["way"] is not None
    assert agents["csd1"]["lost"].startswith("csd1 was lost while saying hello")
    assert agents["csd1"]["way"] is None
    assert main(["doctor", "--system", written(there)]) == 1
    assert "csd1 is lost: csd1 was lost while saying hello" in capsys.readouterr().out


def test_real_agents_are_planned_with_measured_links_emulated_ones_as_written(there, capsys):
    path = written(there)
    system = wh.load_system(path)
    query = wh.scan("a", system=system).filter(wh.col("x") < 6)

    def seen() -> dict[str, Link]:
        return {link.ends[0]: link for link in connected(system).seen(query.source).links}

    assert {link.latency_us.value for link in seen().values()} == {WRITTEN_US}
    assert "near@home" in query.run(system).placement, "a slow link is for few bytes"

    code, agents = asked(path, capsys, "--measure")
    assert code == 0
    if is_emulated(there):
        assert {link.latency_us.value for link in seen().values()} == {WRITTEN_US}
        assert "near@home" in query.run(system).placement
        return
    for device, link in seen().items():
        way = agents[device]["way"]
        assert way["handed_over"] is True
        assert link.latency_us == Figure(way["latency_us"], "measured: by wherry doctor --measure")
        assert link.bandwidth_gb_per_s == Figure(
            way["bandwidth_gb_per_s"], "measured: by wherry doctor --measure"
        )
    result = query.run(system)
    assert "near@host0" in result.placement, "rows come for nothing, and the host is quicker"
    assert sorted(result.table["x"].to_pylist()) == list(range(6))


def test_only_links_from_the_callers_process_to_an_agent_are_measured_ones():
    base = wh.load_system("dpu-csd-host")
    joined = [("client", "csd0"), ("host0", "csd0"), ("csd0", "csd1"), ("dpu0", "csd1")]
    joined += [("csd1", "pcie0"), ("dpu0", "host0")]
    links = tuple(replace(base.links[0], ends=ends) for ends in joined)
    agents = dict.fromkeys(("csd0", "csd1", "host0"), "unix:nowhere")
    ways = dict.fromkeys(agents, probing.Way(1.0, 10.0, handed_over=True))
    found = probing.with_measured(replace(base, links=links, agents=agents), ways)
    measured = [link.ends for link in found.links if link.latency_us.source == probing.MEASURED]
    # The host is an agent here, and the DPU a station beside the client.
    assert measured == [("client", "csd0"), ("dpu0", "csd1"), ("dpu0", "host0")]


def test_systems_of_two_folders_that_look_the_same_are_measured_apart(tmp_path, monkeypatch):
    system = replace(wh.load_system("dpu-csd-host"), agents={"csd0": "unix:csd0.sock"})
    way = probing.Way(1.0, 10.0, handed_over=True)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    probing.keep(system, {"csd0": way})
    assert probing.kept(system) == {"csd0": way}
    whole = replace(system, agents={"csd0": f"unix:{tmp_path}/here/csd0.sock"})
    assert probing.kept(whole) == {"csd0": way}
    monkeypatch.chdir(tmp_path / "there")
    assert probing.kept(system) == {}
