"""What a run costs besides time: energy and money, modelled, as far as profiles know them.

A device draws its busy watts while it works and its idle watts for the rest of the run, whoever it
works for; half of its cores busy is half of the time busy. What a profile does not say is listed as
unknown, and never taken as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from msgspec import Struct

from wherry.devices.figures import Figure
from wherry.devices.system import System

_NS_PER_S = 1_000_000_000
_S_PER_HOUR = 3_600
_NAMES_SHOWN = 4


class Energy(Struct, frozen=True):
    """What one device draws, in joules; `idle_j` is None if its idle draw is not known."""

    busy_j: float
    idle_j: float | None


class Expense(Struct, frozen=True):
    """Energy and money of a run, modelled.

    Attributes
    ----------
    energy : dict of str to Energy
        Of each device whose draw is known.
    power_unknown, idle_unknown : tuple of str
        Devices whose draw is not known at all, or only while busy.
    money_usd : dict of str to float
        Of each device with a price by the hour: that, for as long as the run took.
    price_unknown : tuple of str
        Devices without one.
    capital_usd : dict of str to float
        What devices with a price cost once; in no sum.
    """

    energy: dict[str, Energy]
    power_unknown: tuple[str, ...]
    idle_unknown: tuple[str, ...]
    money_usd: dict[str, float]
    price_unknown: tuple[str, ...]
    capital_usd: dict[str, float]

    @property
    def energy_j(self) -> float:
        """All joules that are known."""
        return sum(e.busy_j + (e.idle_j or 0.0) for e in self.energy.values())

    def lines(self) -> list[str]:
        """Give it as text, with the names of devices that are not in a sum."""
        found = [f"{self._joules()}{_without('draw', self.power_unknown)}"]
        if self.idle_unknown:
            found.append(f"idle draw unknown of {_names(self.idle_unknown)}: only work counts")
        if self.money_usd:
            without = _without("price by the hour", self.price_unknown)
            found.append(f"{self.usd:.3g} USD modelled{without}")
        for name, dollars in self.capital_usd.items():
            found.append(f"{name} costs {dollars:,.0f} USD once, in no sum")
        return found

    def _joules(self) -> str:
        # Where nothing that works has a known draw, the sum of what is known is no energy.
        if not self.energy_j and (self.power_unknown or self.idle_unknown):
            return "energy unknown"
        return f"{self.energy_j:.4g} J modelled"

    @property
    def usd(self) -> float:
        """All money by the hour that is known."""
        return sum(self.money_usd.values())


def expense(system: System, busy: Mapping[str, Fraction], time_ns: int) -> Expense:
    """Give what a run of `time_ns` costs.

    Parameters
    ----------
    busy : mapping of str to Fraction
        Of each device that works, the share of the time it is busy, from 0 to 1.
    """
    found = Expense({}, (), (), {}, (), {})
    power_unknown, idle_unknown, price_unknown = [], [], []
    seconds = Fraction(time_ns, _NS_PER_S)
    for name, profile in system.devices.items():
        power, price = profile.power, profile.price
        if power is None:
            power_unknown.append(name)
        else:
            share = min(Fraction(1), busy.get(name, Fraction(0)))
            idle = None
            if power.idle_watts is None:
                idle_unknown.append(name)
            else:
                idle = float(_exact(power.idle_watts) * seconds * (1 - share))
            found.energy[name] = Energy(float(_exact(power.busy_watts) * seconds * share), idle)
        if price is None or price.hour_usd is None:
            price_unknown.append(name)
        else:
            found.money_usd[name] = float(_exact(price.hour_usd) * seconds / _S_PER_HOUR)
        if price is not None and price.device_usd is not None:
            found.capital_usd[name] = price.device_usd.value
    return Expense(
        found.energy,
        tuple(power_unknown),
        tuple(idle_unknown),
        found.money_usd,
        tuple(price_unknown),
        found.capital_usd,
    )


def _without(what: str, names: Sequence[str]) -> str:
    return f", without {_names(names)}, whose {what} is unknown" if names else ""


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _exact(figure: Figure) -> Fraction:
    # repr gives back the decimal that the file holds, so sums are the same on every machine.
    return Fraction(repr(figure.value))
