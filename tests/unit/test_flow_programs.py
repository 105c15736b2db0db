"""Random movables do what Python does, frozen and thawed at every await."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.movable_programs import INNER, Writer
from support.movables import VOCABULARY, Movable, Script, check_same, declare, made

from wherry.flow.compile import compile_function


@settings(max_examples=120)
@given(st.integers(0, 1 << 32))
def test_random_movables_run_as_python_runs_them(seed: int) -> None:
    function = declare(INNER + Writer(seed).text(), movable=Movable)
    program = compile_function(function, VOCABULARY)
    for turn in range(3):
        chance = random.Random(seed + turn)
        arguments = tuple(made(slot.type, chance) for slot in program.parameters)
        check_same(function, program, arguments, Script(seed + turn, failing=0.08 * turn, most=80))
