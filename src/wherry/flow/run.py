"""Running a program: `Compiled.start`, `resume` and `throw` give the next step as a plain tuple.

A step is `(position, values, operands)` at an await and `(-1, result, None)` at the end; an error
that nothing catches propagates. While a called movable waits, the last of `values` is its own
`(position, values)`, and `operands` are those of the innermost await.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wherry.base.errors import InputError
from wherry.base.memo import make_place
from wherry.flow.generate import code_of
from wherry.flow.nodes import CallMovable, Position, Program, identity
from wherry.flow.support import NAMES, TURNS_MOST, Endless, endless
from wherry.flow.types import type_name
from wherry.flow.verify import verify
from wherry.flow.wire import check_value

Step = tuple[int, Any, Any]
Resume = Callable[[Any, Any], Step]


class Compiled:
    """A program as functions.

    Attributes
    ----------
    program : Program
    identity : bytes
        Its digest.
    """

    def __init__(self, program: Program, identity: bytes) -> None:
        self.program = program
        self.identity = identity
        self.callees = tuple(map(compiled_of, program.callees))
        numbers = range(len(program.positions))
        functions = _functions(program)
        self._plain: list[Resume] = [functions[f"p{n}"] for n in numbers]
        self._thrown: list[Resume | None] = [functions.get(f"t{n}") for n in numbers]
        self._called = {
            n: self.callees[position.awaits.callee]
            for n, position in enumerate(program.positions)
            if isinstance(position.awaits, CallMovable)
        }
        self._resumed = [self._resumer(n) for n in numbers]

    def start(self, values: tuple[Any, ...]) -> Step:
        """Run from the entry to the first await.

        Parameters
        ----------
        values : tuple
            In the order of `program.parameters`.

        Raises
        ------
        InputError
            If they are not of the parameters' types.
        """
        parameters = self.program.parameters
        if len(values) != len(parameters):
            wanted = ", ".join(f"{p.name}: {type_name(p.type)}" for p in parameters)
            raise InputError(f"{self.program.name} takes ({wanted}); got {len(values)} values")
        checked = tuple(
            check_value(p.type, v, f"{self.program.name}: {p.name}")
            for p, v in zip(parameters, values, strict=True)
        )
        return self._entered(self._plain[0](checked, None))

    def resume(self, position: int, values: tuple[Any, ...], result: Any) -> Step:
        """Run from a position to the next await, with the result of what it awaited.

        Raises
        ------
        InputError
            If the result is not of the position's type.
        """
        return self._resumed[position](values, result)

    def throw(self, position: int, values: tuple[Any, ...], error: Exception) -> Step:
        """Run from a position at which an error arrived instead of a result.

        Raises
        ------
        Exception
            The error itself, if no except-clause there catches it.
        """
        callee = self._called.get(position)
        if callee is not None:
            inner, inside = values[-1]
            outer = values[:-1]
            try:
                step = callee.throw(inner, inside, error)
            except Endless:
                raise
            except Exception as raised:  # noqa: BLE001 - except-clauses of the caller choose
                return self._caught(position, outer, raised)
            return self._returned(position, outer, step)
        return self._caught(position, values, error)

    def waiting(self, position: int, values: tuple[Any, ...]) -> Position:
        """Give the innermost position of a frame: what is awaited there is what is to be done."""
        callee = self._called.get(position)
        return self.program.positions[position] if callee is None else callee.waiting(*values[-1])

    def stack(self, position: int, values: tuple[Any, ...]) -> tuple[tuple[Program, Position], ...]:
        """Give the programs and positions of a frame, the outermost first."""
        here = (self.program, self.program.positions[position])
        callee = self._called.get(position)
        return (here,) if callee is None else (here, *callee.stack(*values[-1]))

    def _caught(self, position: int, values: tuple[Any, ...], error: Exception) -> Step:
        """Go on at the except-clause for an error that came out of an await."""
        thrown = self._thrown[position]
        if thrown is None:
            raise error
        return self._entered(thrown(values, error))

    def _entered(self, step: Step) -> Step:
        """Give a step; if it calls a movable, what that comes to."""
        turns = 0
        while (callee := self._called.get(step[0])) is not None:
            position, values, operands = step
            turns += 1
            if turns > TURNS_MOST:
                raise endless()
            try:
                inner = callee.start(operands)
            except Endless:
                raise
            except Exception as raised:  # noqa: BLE001 - except-clauses of the caller choose
                return self._caught(position, values, raised)
            if inner[0] >= 0:
                return position, (*values, inner[:2]), inner[2]
            step = self._plain[position](values, inner[1])
        return step

    def _returned(self, position: int, values: tuple[Any, ...], inner: Step) -> Step:
        """Give the step of the caller, from one of the movable that it called."""
        if inner[0] >= 0:
            return position, (*values, inner[:2]), inner[2]
        return self._entered(self._plain[position](values, inner[1]))

    def _resumer(self, number: int) -> Resume:
        """Give what resumes a position: its own function, unless movables may be called."""
        plain = self._plain[number]
        callee = self._called.get(number)
        if callee is None:
            return plain if not self._called else lambda v, r: self._entered(plain(v, r))

        def resume(values: tuple[Any, ...], result: Any) -> Step:
            inner, inside = values[-1]
            try:
                step = callee.resume(inner, inside, result)
            except Endless:
                raise
            except Exception as raised:  # noqa: BLE001 - except-clauses of the caller choose
                return self._caught(number, values[:-1], raised)
            return self._returned(number, values[:-1], step)

        return resume


_COMPILED: dict[bytes, Compiled] = {}
_BY_OBJECT: dict[int, tuple[Program, Compiled]] = {}
"""The same by the object itself, because finding a digest takes a thousand times as long."""
_MOST_COMPILED: Final = 1024


def compiled_of(program: Program) -> Compiled:
    """Give the functions of a program, which is verified first; kept by its identity.

    Raises
    ------
    CorruptError
        If it is no program that the compiler could have made.
    """
    known = _BY_OBJECT.get(id(program))
    if known is not None and known[0] is program:
        return known[1]
    key = identity(program)
    found = _COMPILED.get(key)
    if found is None:
        found = Compiled(program, key)
        _keep(_COMPILED, key, found)
    _keep(_BY_OBJECT, id(program), (program, found))
    return found


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    make_place(kept, _MOST_COMPILED)
    kept[key] = value


def _functions(program: Program) -> dict[str, Any]:
    code, constants = code_of(program, verify(program))
    namespace = {**NAMES, **constants}
    exec(code, namespace)  # noqa: S102 - of verified nodes, with listed names only
    return namespace
