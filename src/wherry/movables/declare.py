"""`@movable`: a restricted `async def` as a program that can be frozen at every await."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.devices.system import System
from wherry.devices.this_machine import THIS_MACHINE
from wherry.flow.compile import compile_function
from wherry.flow.marks import Mark
from wherry.flow.nodes import Program
from wherry.flow.parse_awaits import Vocabulary
from wherry.flow.wire import check_value
from wherry.movables import programs
from wherry.movables.finished import Finished
from wherry.movables.home import open_home
from wherry.run.records import Code

_VOCABULARY: Final = Vocabulary(programs.METHODS)


class Movable(Struct, frozen=True, dict=True):
    """A compiled function: call it through `run`, or await it in another movable.

    Attributes
    ----------
    program : Program
        What it was compiled to; data.
    function : callable
        As it was written.
    """

    program: Program
    function: Callable[..., Any]

    @property
    def __wherry__(self) -> Mark:
        """What the compiler knows of it when another movable awaits it."""
        program = self.program
        return Mark(
            "movable", program.name, parameters=program.parameters, result=program.result,
            program=program,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The function's name."""
        return self.program.name

    @cached_property
    def code(self) -> Code:
        """The program as journals and devices keep it; its digest changes when the program does."""
        return programs.register(self.program)

    def arguments(self, *given: object, **named: object) -> tuple[Any, ...]:
        """Give the values of the parameters, checked against their types.

        Raises
        ------
        InputError
            If one is missing, too many, or of another type.
        """
        try:
            bound = inspect.signature(self.function).bind(*given, **named)
        except TypeError as problem:
            raise InputError(f"{self.name}: {problem}") from None
        bound.apply_defaults()
        return tuple(
            check_value(slot.type, bound.arguments[slot.name], f"{self.name}: {slot.name}")
            for slot in self.program.parameters
        )

    def run(
        self,
        *given: object,
        system: str | Path | System = THIS_MACHINE,
        datasets: Mapping[str, object] | None = None,
        journal: str | Path | None = None,
        tenant: str = "",
        budget: Mapping[str, int] | None = None,
        timeout_s: float | None = None,
        **named: object,
    ) -> Finished:
        """Run it and give its result with the account of its hops.

        Parameters
        ----------
        given, named
            Its arguments.
        system : str, path or System
            Where it may go: `this-machine`, or an emulated system.
        datasets : mapping of str to what `wherry.scan` takes
            The datasets that it names.
        journal : path, optional
            An SQLite journal that outlives this process; memory unless given.
        tenant : str
            Who pays.
        budget : mapping of str to int, optional
            What it may use at most, by dimension: `{"rows": 1000, "time_ns": 10**9}`.
        timeout_s : float, optional
            Seconds after which the continuation itself ends with an error.

        Raises
        ------
        WherryError
            Whatever it raised, with one traceback over all its hops.
        Dormant
            If it waits for an event that did not arrive: it stays in the journal.
        """
        with open_home(journal, system=system, datasets=datasets or {}) as home:
            id_ = home.start(
                self, *given, tenant=tenant, budget=budget, timeout_s=timeout_s, **named
            )
            return home.result(id_)

    def __call__(self, *_: object, **__: object) -> Any:
        """Refuse: a movable is run, or awaited in another movable."""
        raise InputError(
            f"{self.name} is a movable: use {self.name}.run(...), or await it in another movable"
        )


def movable(function: Callable[..., Any]) -> Movable:
    """Compile a restricted `async def` into a program that can be frozen at every await.

    Raises
    ------
    Rejected
        With every reason at once: file, line, column, what was seen, and what to write instead.
    """
    made = Movable(compile_function(function, _VOCABULARY), function)
    programs.register(made.program)
    return made
