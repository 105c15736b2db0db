"""How busy a run kept each resource, and what it cost: sums over its spans, all modelled."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from msgspec import Struct

from wherry.base.events import Span
from wherry.devices.charge import media_ns
from wherry.devices.demand import programs_at_once
from wherry.devices.expense import Expense, expense
from wherry.devices.system import System


class Usage(Struct, frozen=True):
    """What a run used of a system, modelled.

    Attributes
    ----------
    time_ns : int
        How long it took.
    busy : dict of str to float
        Of each resource that was used, the share of that time for which all of it was.
    expense : Expense
        Energy and money, of every device of the system, busy or not.
    """

    time_ns: int
    busy: dict[str, float]
    expense: Expense


def usage(spans: Iterable[Span], system: System, time_ns: int) -> Usage:
    """Give what the spans of one run, or of several at once, come to over `time_ns`."""
    used, units = _used(spans, system)
    whole = max(1, time_ns)
    shares = {name: Fraction(ns, units[name] * whole) for name, ns in sorted(used.items())}
    working = {
        name: shares.get(f"{'cores' if profile.runs_programs else 'media'} {name}", Fraction(0))
        for name, profile in system.devices.items()
    }
    busy = {name: float(share) for name, share in shares.items()}
    return Usage(time_ns, busy, expense(system, working, time_ns))


def used_ns(spans: Iterable[Span], system: System) -> dict[str, int]:
    """Give for how long each resource was used; a use of one of its units counts as its share."""
    used, units = _used(spans, system)
    return {name: ns // units[name] for name, ns in used.items()}


def _used(spans: Iterable[Span], system: System) -> tuple[dict[str, int], dict[str, int]]:
    """Give the nanoseconds each resource was used, added over its units, and how many it has."""
    used: dict[str, int] = {}
    units: dict[str, int] = {}
    for span in spans:
        if span.kind == "hold":
            continue
        if span.resource.startswith("media "):
            # A read occupies its share of the channels, some of them longer than others.
            took = media_ns(system.devices[span.device], span.nbytes)
        else:
            took = span.end_ns - span.start_ns
        used[span.resource] = used.get(span.resource, 0) + took
        if span.resource not in units:
            units[span.resource] = _units(span, system)
    return used, units


def _units(span: Span, system: System) -> int:
    """Give how many uses of a resource there can be at once."""
    kind, _, rest = span.resource.partition(" ")
    if kind == "cores":
        return programs_at_once(system.devices[span.device])
    if kind != "engine":
        return 1
    name = rest.removeprefix(f"{span.device} ")
    engines = system.devices[span.device].engine
    return next(engine.jobs.value for engine in engines if engine.name == name)
