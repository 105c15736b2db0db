"""Measure the figures of continuations; an entry is a file with `FIGURES` and `measure`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import unknown_name
from wherry.benchmarks.continuations import compared, dormant, durable, moving
from wherry.benchmarks.continuations.figure import Figure
from wherry.devices.proc import cpu_name, kernel_release, memory_bytes, usable_cores


class Around(Struct, frozen=True):
    """What entries are given.

    Attributes
    ----------
    folder : Path
        On the disk in question, empty, removed in the end.
    peers : Path
        Where other systems are installed.
    tell, skip : callable
        Are told what is measured now, and what is left out and why.
    """

    folder: Path
    peers: Path
    tell: Callable[[str], None]
    skip: Callable[[str], None]


Entry = tuple[tuple[str, ...], Callable[[Around], Iterator[Figure]]]

ENTRIES: Final[dict[str, Entry]] = {
    "messages": (moving.FIGURES, lambda _: moving.measure()),
    "durable steps": (durable.FIGURES, lambda a: durable.measure(a.folder)),
    "other systems": (
        compared.FIGURES,
        lambda a: compared.measure(a.folder, a.peers, a.tell, a.skip),
    ),
    "a million dormant ones": (dormant.FIGURES, lambda a: dormant.measure(a.folder)),
}
NAMES: Final = tuple(name for figures, _ in ENTRIES.values() for name in figures)


def machine(disk: Path) -> dict[str, Any]:
    """Give what the figures depend on."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "kernel": kernel_release(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "disk": str(disk),
        "origin": "measured",
    }


def run(
    names: Iterable[str],
    disk: Path,
    peers: Path,
    tell: Callable[[str], None],
    skip: Callable[[str], None],
) -> Iterator[Figure]:
    """Give the figures asked for (none: all), as they are measured, with what they are judged by.

    Raises
    ------
    InputError
        If there is no figure of a name.
    """
    wanted = set(names)
    for name in wanted:
        if name not in NAMES:
            raise unknown_name("figure", name, NAMES)
    for title, (figures, measure) in ENTRIES.items():
        if not wanted or wanted & set(figures):
            tell(title)
            with tempfile.TemporaryDirectory(prefix=".wherry-bench-", dir=disk) as folder:
                yield from measure(Around(Path(folder), peers, tell, skip))
