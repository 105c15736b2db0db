"""Agents in processes of their own, as people start them: run, interrupt, fork, stop."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from support.clusters import store

import wherry as wh
from wherry import Retryable, cli, col
from wherry.benchmarks import tpch
from wherry.serve import live, requests
from wherry.session.agents import connected

ROWS = 200_000
PROFILES = {"csd0": "newport", "csd1": "newport", "dpu0": "bluefield-3"}
COMMAND = "import sys; from wherry.cli import main; sys.exit(main())"
LINK = """
[[link]]
ends = ["{}", "host0"]
bandwidth_gb_per_s = {{ value = 3.0, source = "estimate: half, from a round trip" }}
latency_us = {{ value = 1.0, source = "estimate: half, from a round trip" }}
duplex = "full"
"""
HEAD = """
[system]
name = "agents"
title = "two drives and a DPU"
host = "host0"
client = "host0"
[[device]]
name = "host0"
profile = "sapphire-rapids"
"""


class Agents:
    """Processes, and the file of their system."""

    def __init__(
        self, folder: Path, names: tuple[str, ...] = ("csd0", "csd1", "dpu0"), *, emulate: bool
    ) -> None:
        self.folder, self.system = folder, folder / "agents.toml"
        self.processes: dict[str, subprocess.Popen[str]] = {}
        text = HEAD
        for name in names:
            profile = PROFILES[name]
            text += f'[[device]]\nname = "{name}"\nprofile = "{profile}"\n'
            text += f'agent = "unix:{name}.sock"\n' + LINK.format(name)
            words = ["agent", "--profile", profile, "--listen", f"unix:{folder}/{name}.sock"]
            if (folder / name).is_dir():
                words += ["--data", str(folder / name)]
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *words, *(["--emulate"] if emulate else [])],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.system.write_text(text)
        for process in self.processes.values():
            assert process.stdout is not None
            assert process.stdout.readline().startswith("agent ")

    def stop(self) -> dict[str, tuple[int, str]]:
        """Stop them, one by Ctrl-C; give how each ended and what it said."""
        for name, process in self.processes.items():
            process.send_signal(signal.SIGINT if name == "csd1" else signal.SIGTERM)
        found = {}
        for name, process in self.processes.items():
            _, errors = process.communicate(timeout=20)
            found[name] = process.returncode, errors
        for key, there in list(live._open.items()):
            if str(self.folder) in str(there.system.agents):
                live._open.pop(key).close()
        return found


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("p")
    tpch.generate(folder / "tpch", 0.005)
    lineitem = wh.scan(folder / "tpch" / "lineitem").collect()
    store(folder, lineitem, "lineitem", rows=8192)
    table = pa.table({"row": range(ROWS), "s": [f"text {n % 97} and more" for n in range(ROWS)]})
    store(folder, table, "rows", rows=50_000)
    found = Agents(folder, emulate=False)
    try:
        yield found
    finally:
        ended = found.stop()
    assert ended == dict.fromkeys(PROFILES, (0, ""))
    assert not list(folder.glob("*.sock"))


def kept(there: Agents) -> dict[str, tuple[int, int, int]]:
    """Give what agents keep: queries, pieces, bytes of segments."""
    links = connected(wh.load_system(there.system)).links
    told = {
        name: links[name].ask(requests.Health(), "looking", requests.Healthy) for name in PROFILES
    }
    return {name: (h.queries, h.pieces, h.segment_bytes) for name, h in told.items()}


def test_the_command_line_runs_and_explains_at_agents(there, capsys):
    said = []
    for words in (("run", "q6"), ("run", "q6", "--placement", "near=home")):
        assert cli.main([*words, "--system", str(there.system), "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    near = said[1]
    assert "near@home" in near["placement"]
    assert near["time"]["origin"] == "measured"
    whole = wh.scan(there.folder / "tpch" / "lineitem")
    answer = [run["answer"]["rows"] for run in said]
    assert answer[0] == answer[1]
    assert whole.collect().num_rows > 0
    handed = [e for e in near["ledger"]["entries"] if "handed over" in e["why"]]
    assert all(entry["copied_bytes"] == 0 for entry in handed)
    assert cli.main(["explain", "q6", "--system", str(there.system)]) == 0
    assert "csd0" in capsys.readouterr().out


def test_rows_are_not_copied_between_processes_and_never_change(there):
    query = wh.scan("rows", system=there.system).filter(col("row") >= 1000)
    result = query.run(there.system, placement={"near": "home", "respond": "home"})
    wanted = list(range(1000, ROWS))
    assert result.table["row"].to_pylist() == wanted
    assert {e.copied_bytes for e in result.ledger.entries if "handed over" in e.why} == {0}
    for least in range(8):
        query.filter(col("row") > least * 9000).collect(there.system)
    assert result.table["row"].to_pylist() == wanted
    lent = kept(there)["csd0"][2]
    del result
    gc.collect()
    time.sleep(0.1)
    assert kept(there)["csd0"][2] < lent


def test_a_forked_caller_asks_for_itself(there):
    query = wh.scan("rows", system=there.system).filter(col("row") < 10)
    before = query.collect(there.system)
    child = os.fork()
    if not child:
        try:
            same = query.collect(there.system).equals(before)
        finally:
            os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert query.collect(there.system).equals(before)


def test_ctrl_c_ends_a_caller_and_agents_go_on(there):
    code = f"""
import wherry as wh
query = wh.scan("rows", system={str(there.system)!r}).sort("s", "row")
query.limit(1).collect({str(there.system)!r})
print("go", flush=True)
while True:
    query.collect({str(there.system)!r})
"""
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "go\n"
    time.sleep(0.3)
    caller.send_signal(signal.SIGINT)
    _, errors = caller.communicate(timeout=20)
    assert errors.strip().endswith("KeyboardInterrupt")
    deadline = time.monotonic() + 20
    while any(queries for queries, _, _ in kept(there).values()):
        assert time.monotonic() < deadline, "a query of a caller that is gone is let go"
        time.sleep(0.2)


def test_movables_are_refused(there, capsys):
    movable = Path(__file__).parents[2] / "examples" / "top_orders.py"
    words = ("run", movable, "--system", there.system, "--arg", "customer=370")
    assert cli.main([str(word) for word in words]) == 2
    assert (
        "movables do not run at agents, and agents has csd0, csd1, dpu0" in capsys.readouterr().err
    )
    with (
        pytest.raises(wh.InputError, match="movables do not run at agents"),
        wh.open_home(system=there.system),
    ):
        pass


def test_agents_that_are_gone_are_named(tmp_path, request):
    store(tmp_path, pa.table({"row": range(10)}), "rows", agents=("csd0",))
    there = Agents(tmp_path, ("csd0",), emulate=True)
    request.addfinalizer(there.processes["csd0"].kill)  # If something below fails.
    query = wh.scan("rows", system=there.system)
    assert query.collect(there.system).num_rows == 10
    processes = [f"/proc/{process.pid}" for process in there.processes.values()]
    for process in there.processes.values():
        process.terminate()
    for process in there.processes.values():
        process.communicate(timeout=20)
    with pytest.raises((Retryable, wh.Refused), match=r"csd[01].*lost|was lost"):
        query.collect(there.system)
    assert there.stop() == {"csd0": (0, "")}
    assert not any(map(os.path.exists, processes))
