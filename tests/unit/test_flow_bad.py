"""Movables that are refused: each for its own reason, at its own place, with the form to use."""

from __future__ import annotations

import pytest
from support.movable_bad import SETUP, bad
from support.movables import VOCABULARY, Movable, declare

from wherry.flow.compile import compile_function
from wherry.flow.source import Rejected

BAD = bad()


def test_there_are_many() -> None:
    assert len(BAD) >= 200
    assert len({case.text for case in BAD.values()}) == len(BAD)


@pytest.mark.parametrize("name", sorted(BAD))
def test_is_refused_for_its_reason(name: str) -> None:
    case = BAD[name]
    assert case.text.count("«") == 1
    before, _, after = case.text.partition("«")
    function = declare(SETUP + before + after, movable=Movable)
    with pytest.raises(Rejected) as refused:
        compile_function(function, VOCABULARY)
    [reason] = refused.value.reasons
    assert case.seen in reason.seen
    assert case.instead in reason.instead
    lines = (SETUP + before).splitlines() if before else [*SETUP.splitlines(), ""]
    assert (reason.line, reason.column) == (len(lines), len(lines[-1]) + 1)
    text = str(refused.value)
    assert f"{reason.file}:{reason.line}:{reason.column}: {reason.seen}" in text
    shown = next(line for line in text.splitlines() if line.strip() == "^")
    assert len(shown) == reason.column + 4
