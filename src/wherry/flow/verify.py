"""A decoded program is checked completely, so that no hostile bytes reach the making of code."""

from __future__ import annotations

from wherry.base.errors import CorruptError
from wherry.flow.infer import Inferred, infer
from wherry.flow.nodes import Program


def verify(program: Program) -> Inferred:
    """Check a program as if strangers had written it; give the types of its variables.

    Raises
    ------
    CorruptError
        If the compiler could not have made it.
    """

    def report(_: object, seen: str, __: str) -> None:
        raise CorruptError(f"program {program.name}: {seen}")

    return infer(program, report)
