"""Movables that are accepted do what Python does, frozen and thawed at every await."""

from __future__ import annotations

import random
import textwrap

import pytest
from support.movable_good import good
from support.movables import VOCABULARY, Movable, Script, check_same, declare, made

from wherry.flow.compile import compile_function

GOOD = good()
RUNS = 8


def test_there_are_many() -> None:
    assert len(GOOD) >= 200
    assert len(set(GOOD.values())) == len(GOOD)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_runs_as_python_runs_it(name: str) -> None:
    function = declare(textwrap.dedent(GOOD[name]), movable=Movable)
    program = compile_function(function, VOCABULARY)
    for seed in range(RUNS):
        chance = random.Random(seed)
        arguments = tuple(made(slot.type, chance) for slot in program.parameters)
        script = Script(seed, failing=0.0 if seed < RUNS // 2 else 0.15)
        check_same(function, program, arguments, script)
