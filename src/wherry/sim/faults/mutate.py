"""Whether the schedules would notice if the protocol were wrong: one edit of its source at a time.

An edited module and all that stand on it are built anew, in this process, from their source; what
was there before is put back afterwards.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

from wherry.base.errors import InputError

MODULES: Final = (
    "wherry.run.message",
    "wherry.run.control",
    "wherry.run.delivery",
    "wherry.run.node",
    "wherry.run.owned",
    "wherry.run.visit",
    "wherry.run.home",
    "wherry.run.protocol",
    "wherry.sim.faults.model",
    "wherry.sim.faults.journal",
    "wherry.sim.faults.plan",
    "wherry.sim.faults.shown",
    "wherry.sim.faults.watch",
    "wherry.sim.faults.carry",
    "wherry.sim.faults.world",
    "wherry.sim.faults.oracle",
    "wherry.sim.faults.campaign",
)
"""What is built anew for a mutant, each after what it imports."""


class Mutant(NamedTuple):
    """An edit that makes the protocol wrong: in `module`, `old` becomes `new`."""

    name: str
    module: str
    old: str
    new: str


def edited(mutant: Mutant) -> str:
    """Give the source of the module of a mutant, with its edit.

    Raises
    ------
    InputError
        If the text to edit is not there exactly once.
    """
    spec = find_spec(mutant.module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise InputError(
            f"mutant {mutant.name!r}: its text is {source.count(mutant.old)} times in "
            f"{mutant.module}, not once"
        )
    return source.replace(mutant.old, mutant.new)


@contextmanager
def applied(mutant: Mutant) -> Iterator[ModuleType]:
    """Give the `campaign` module of a protocol with this edit."""
    source = edited(mutant)
    before = {name: importlib.import_module(name) for name in MODULES}
    try:
        for name in MODULES:
            _built(name, source if name == mutant.module else None)
        yield sys.modules["wherry.sim.faults.campaign"]
    finally:
        for name, module in before.items():
            _put(name, module)


def _built(name: str, source: str | None) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    _put(name, module)
    if source is None:
        spec.loader.exec_module(module)
    else:
        exec(compile(source, f"mutant of {name}", "exec"), module.__dict__)  # noqa: S102


def _put(name: str, module: ModuleType) -> None:
    package, _, short = name.rpartition(".")
    sys.modules[name] = module
    setattr(sys.modules[package], short, module)
