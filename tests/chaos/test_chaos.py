"""A few seeded rounds, and whether what judges them sees anything; `make chaos` runs hundreds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from chaos import data
from chaos.network import confining
from chaos.oracle import ANSWERED, FAILED, HUNG, KILLED, Outcome, judged
from chaos.plan import AGENTS, CARRIERS, FAULTS, Plan, Strike, planned
from chaos.plants import PLANTS
from chaos.report import sorted_by_goal
from wherry.sim.faults.mutate import Mutant, edited

QUICK = ("kill agent", "kill caller", "pause caller", "strangers")
TIMEOUT_S = 150
RIGHT = pa.table({"key": [1, 2, 3], "cents": [5, 6, 7]})


def chaos(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "chaos", "--jobs", "1", *words]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def checked_rounds(rounds: int, carrier: str, *faults: str) -> None:
    only = [word for fault in faults for word in ("--only", fault)]
    done = chaos("--rounds", str(rounds), "--seed", "4", "--carrier", carrier, "--json", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert found["rounds"] == rounds
    assert sum(found["made_by"].values()) > rounds
    assert sum(tally["rounds"] for tally in found["faults"].values()) > 0


def test_rounds_over_sockets_of_this_host():
    checked_rounds(3, "unix", *QUICK)


def test_rounds_over_tls_between_namespaces():
    before, why = confining()
    if not before:
        pytest.skip(f"NO NETWORK IS TRIED: no namespaces here ({why}); Unix sockets were")
    checked_rounds(1, "tls", "link down")


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_is_an_edit_of_what_is_there(name):
    plant = PLANTS[name]
    source = edited(Mutant(name, plant.module, plant.old, plant.new))
    compile(source, plant.module, "exec")
    assert set(plant.faults) <= FAULTS.keys()


def test_a_plan_follows_from_its_seed():
    plans = [planned(1, number, CARRIERS) for number in range(300)]
    assert plans == [planned(1, number, CARRIERS) for number in range(300)]
    assert plans != [planned(2, number, CARRIERS) for number in range(300)]
    struck = {(plan.carrier, strike.fault) for plan in plans for strike in plan.strikes}
    assert struck == {(c, name) for name, kind in FAULTS.items() for c in kind.carriers}
    assert {strike.target for plan in plans for strike in plan.strikes} >= set(AGENTS)


CALM = Plan(1, 17, "unix", (), ())
STRUCK = Plan(1, 1, "unix", (), (Strike("kill agent", "csd0", 0, 1.0, 1.0, 0.0),))


def outcome(state: str, table: pa.Table = RIGHT, **more: object) -> Outcome:
    made = {"seconds": 1.0, "allowed_s": 2.0, "stream": data.to_stream(table)}
    return Outcome("caller0", 0, "rows", "apart", True, state, **{**made, **more})


GOOD = "csd0 was lost while running it (hop: stage 0 near of query 1a2b): closed"


@pytest.mark.parametrize(
    ("plan", "seen", "goal"),
    [
        (STRUCK, outcome(ANSWERED, pa.concat_tables([RIGHT, RIGHT.slice(1, 1)])), "duplicate"),
        (STRUCK, outcome(ANSWERED, RIGHT.slice(1)), "lost"),
        (STRUCK, outcome(ANSWERED, RIGHT.set_column(1, "cents", [[5, 6, 8]])), "wrong"),
        (STRUCK, outcome(ANSWERED, changed=True), "wrong"),
        (STRUCK, outcome(ANSWERED, seconds=3.0), "late"),
        (STRUCK, outcome(HUNG), "hang"),
        (STRUCK, outcome(KILLED), "other"),
        (STRUCK, outcome(FAILED, kind="KeyError", known=False, text=GOOD), "error"),
        (STRUCK, outcome(FAILED, kind="AgentLost", text=GOOD.replace("csd0", "it")), "error"),
        (STRUCK, outcome(FAILED, kind="AgentLost", text=GOOD.replace("hop", "")), "error"),
        (CALM, outcome(FAILED, kind="AgentLost", text=GOOD), "error"),
    ],
)
def test_what_is_wrong_is_seen(plan, seen, goal):
    wrong = judged(plan, seen, {"rows": RIGHT})
    assert sorted_by_goal(wrong)[goal] == len(wrong) == 1


@pytest.mark.parametrize(
    ("plan", "seen"),
    [(CALM, outcome(ANSWERED)), (STRUCK, outcome(FAILED, kind="AgentLost", text=GOOD))],
)
def test_what_is_right_is_let_be(plan, seen):
    assert judged(plan, seen, {"rows": RIGHT}) == []
