"""Faults of our own, which the oracle must see: what is planted, and what is seen of it."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import Final

from msgspec import Struct

from wherry.sim.faults.mutate import Mutant, edited


class Plant(Struct, frozen=True):
    """A planted fault: over which carrier it shows, and a word of the violation that it causes."""

    carrier: str
    seen_as: str
    module: str
    old: str
    new: str


PLANTS: Final[dict[str, Plant]] = {}


def plant(name: str) -> None:
    """Have this process use a module with a planted fault in it, before it is imported."""
    if not name:
        return
    chosen = PLANTS[name]
    source = edited(Mutant(name, chosen.module, chosen.old, chosen.new))
    spec = find_spec(chosen.module)
    assert spec is not None
    module = module_from_spec(spec)
    assert chosen.module not in sys.modules, f"{chosen.module} was imported before the plant"
    sys.modules[chosen.module] = module
    package, _, short = chosen.module.rpartition(".")
    setattr(sys.modules[package], short, module)
    exec(compile(source, f"plant in {chosen.module}", "exec"), module.__dict__)
