"""Faults of our own, which the oracle must see: what is planted, and what is seen of it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Final

from msgspec import Struct

from chaos.plan import UNIX
from wherry.sim.faults.mutate import Mutant, edited


class Plant(Struct, frozen=True):
    """A planted fault: how it shows, and the edit of a module that it is.

    Attributes
    ----------
    carrier, faults : str, tuple of str
        Over which it shows, and with which faults.
    seen_as : str
        In the violation that it causes.
    """

    carrier: str
    faults: tuple[str, ...]
    seen_as: str
    module: str
    old: str
    new: str


PLANTS: Final[dict[str, Plant]] = {
    "what a lost agent may have is left out": Plant(
        UNIX,
        ("kill agent",),
        "lost:",
        "wherry.serve.live",
        "        lost = [device for device in holders if self._lost(device)]\n",
        "        lost: list[str] = []\n",
    ),
    "an answer that is asked for again is there twice": Plant(
        UNIX,
        ("kill agent",),
        "duplicate:",
        "wherry.serve.remote",
        "            found.append(rows)\n",
        "            found += [rows] * (1 + any(other.lost for other in self.links.values()))\n",
    ),
    "memory is used again while its reader reads": Plant(
        UNIX,
        ("pause caller",),
        "wrong:",
        "wherry.serve.connection",
        "        (lease,) = LEASE.unpack_from(frame.payload)\n",
        "        (lease,) = LEASE.unpack_from(frame.payload)\n        self._give_back(lease)\n",
    ),
    "waits have no end": Plant(
        UNIX,
        ("pause agent",),
        "hang:",
        "wherry.serve.wire",
        "        self._sock.settimeout(left)\n",
        "        self._sock.settimeout(None)\n",
    ),
    "what nobody speaks of is kept": Plant(
        UNIX,
        ("kill caller",),
        "leak:",
        "wherry.serve.visits",
        "    return visit.touched < before and not visit.lock.locked()\n",
        "    return False\n",
    ),
    "pieces are given back never": Plant(
        UNIX,
        ("kill caller",),
        "leak:",
        "wherry.serve.connection",
        "        self._let_go.append(lease)\n        self._tell()\n",
        "        pass\n",
    ),
    "a thread without memory is waited for": Plant(
        UNIX,
        ("full memory",),
        "does not answer",
        "wherry.base.threads",
        "    if not begun.wait(BEGIN_S):\n",
        "    if not begun.wait():\n",
    ),
    "an error forgets of what it is": Plant(
        UNIX,
        ("kill agent",),
        "names no hop",
        "wherry.serve.links",
        'super().__init__(f"{device} was lost while {doing} ({hop}): {why}")',
        'super().__init__(f"{device} was lost while {doing}: {why}")',
    ),
    "a key of an earlier life is taken for one of this": Plant(
        UNIX,
        ("kill agent",),
        "seal",
        "wherry.serve.keyring",
        '        self._last = int.from_bytes(random(8), "little") % ids\n',
        "        self._last = 0\n",
    ),
}


def plant(name: str) -> None:
    """Have this process use a module with a planted fault in it, before it is imported."""
    if not name:
        return
    chosen = PLANTS[name]
    source = edited(Mutant(name, chosen.module, chosen.old, chosen.new))
    import_module(chosen.module.rpartition(".")[0])
    spec = find_spec(chosen.module)
    assert spec is not None
    module = module_from_spec(spec)
    assert chosen.module not in sys.modules, f"{chosen.module} was imported before the plant"
    sys.modules[chosen.module] = module
    package, _, short = chosen.module.rpartition(".")
    setattr(sys.modules[package], short, module)
    exec(compile(source, f"plant in {chosen.module}", "exec"), module.__dict__)
