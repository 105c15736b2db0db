"""Schedules of faults over the protocol: none goes wrong, and wrong protocols are noticed.

`make simulate SEEDS=1000000` runs more of them.
"""

import pytest
from fuzz import messages

from wherry.base.errors import InputError
from wherry.run.records import RUNNING, Held
from wherry.sim.faults.__main__ import killed_by, main
from wherry.sim.faults.campaign import searched, violations
from wherry.sim.faults.journal import HELD, Journal
from wherry.sim.faults.mutants import MUTANTS
from wherry.sim.faults.mutate import Mutant, edited
from wherry.sim.faults.plan import FAULTS
from wherry.sim.faults.world import World

SCHEDULES = 5_000
"""In each of four parts."""
LATEST = 4_000
"""The seed of the last schedule that a mutant is tried with."""


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_goes_wrong(part):
    assert searched(part * SCHEDULES, SCHEDULES) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=[m.name for m in MUTANTS])
def test_a_wrong_protocol_is_noticed(mutant):
    assert killed_by(mutant, LATEST) is not None


def test_there_are_mutants_enough_and_each_is_one():
    assert len(MUTANTS) >= 40
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert all(edited(m) for m in MUTANTS)
    with pytest.raises(InputError, match=r"its text is 0 times in wherry\.run\.home, not once"):
        edited(Mutant("none", "wherry.run.home", "no such text", ""))


def test_the_protocol_is_put_back_after_a_mutant():
    assert killed_by(MUTANTS[0], LATEST) is not None
    assert searched(0, 200) == []


def test_a_schedule_follows_from_its_seed():
    first, second = [], []
    assert violations(7, first) == violations(7, second) == ()
    assert first == second
    assert len(first) > 10


def test_every_fault_happens():
    seen = set()
    for seed in range(300):
        seen |= World(seed).plan.on
    assert seen == set(FAULTS)


def test_a_torn_batch_is_not_there_and_a_damaged_row_is_said_to_be():
    journal = Journal(owner=True)
    held = Held(b"i" * 16, 1, 0, RUNNING, b"p" * 16, 0, b"message")
    journal.pending.append((held,))
    journal.crash(0, 20, -1)
    assert not journal.rows
    journal.put(held)
    assert journal.of(held.id) == ((held,), "")
    key = (HELD, held.id)
    journal.rows[key] = journal.rows[key][:-1] + b"!"
    assert journal.of(held.id) == ((), "Held row: its checksum does not fit")


def test_the_command_says_what_it_found(capsys):
    assert main(["--seeds", "600", "--mutants", "0", "--workers", "1"]) == 0
    assert "violations: 0; mutants killed: not run" in capsys.readouterr().out
    assert main(["--show", "3"]) == 0
    assert "home starts, life 1" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(5))
def test_hostile_messages_are_refused(seed):
    assert messages.tried(seed, 20_000) == ""
