"""Faults of our own, which the oracle must see: what is planted, and what is seen of it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from chaos.plan import UNIX


class Plant(Struct, frozen=True):
    """A planted fault: over which carrier it shows, and a word of the violation that it causes."""

    carrier: str
    seen_as: str


PLANTS: Final[dict[str, Plant]] = {
    "reuse": Plant(UNIX, "wrong: "),
    "twice": Plant(UNIX, "duplicate: "),
    "lose": Plant(UNIX, "lost: "),
    "hang": Plant(UNIX, "hang: "),
    "unnamed": Plant(UNIX, "names no device"),
    "mapping": Plant(UNIX, "leak: "),
    "lease": Plant(UNIX, "leak: "),
    "socket file": Plant(UNIX, "leak: "),
}
