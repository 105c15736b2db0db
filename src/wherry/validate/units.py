"""Units of published values, and exact amounts put into them."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from msgspec import Struct

from wherry.base.errors import Refused

Dimension = Literal["time", "rate", "operations", "share", "ratio", "winner"]

UNITS: dict[str, tuple[Dimension, Fraction]] = {
    "s": ("time", Fraction(10**9)),
    "ms": ("time", Fraction(10**6)),
    "us": ("time", Fraction(10**3)),
    "ns": ("time", Fraction(1)),
    "GB/s": ("rate", Fraction(1)),
    "MB/s": ("rate", Fraction(1, 10**3)),
    "kB/s": ("rate", Fraction(1, 10**6)),
    "TB/s": ("rate", Fraction(10**3)),
    "GiB/s": ("rate", Fraction(2**30, 10**9)),
    "MiB/s": ("rate", Fraction(2**20, 10**9)),
    "Gb/s": ("rate", Fraction(1, 8)),
    "Gbit/s": ("rate", Fraction(1, 8)),
    "Gops/s": ("operations", Fraction(10**9)),
    "Mops/s": ("operations", Fraction(10**6)),
    "Kops/s": ("operations", Fraction(10**3)),
    "queries/s": ("operations", Fraction(1)),
    "%": ("share", Fraction(1, 100)),
    "x": ("ratio", Fraction(1)),
    "winner": ("winner", Fraction(1)),
}
"""What each unit measures, and its size in nanoseconds, bytes a nanosecond, operations a second."""


class Amount(Struct, frozen=True):
    """An exact amount of a dimension, in the base of `UNITS`."""

    dimension: Dimension
    value: Fraction


def unit_word(text: str) -> str:
    """Give the unit that a text begins with.

    >>> unit_word("s per query, rows = queries"), unit_word("% of link rate"), unit_word("x, %")
    ('s', '%', 'x')
    """
    words = text.replace(",", " ").replace(";", " ").split()
    return words[0] if words else ""


def ns(time: int | Fraction) -> Amount:
    """Give a time."""
    return Amount("time", Fraction(time))


def gb_per_s(rate: Fraction) -> Amount:
    """Give a rate in bytes a nanosecond."""
    return Amount("rate", rate)


def per_s(count: Fraction) -> Amount:
    """Give operations, or queries, a second."""
    return Amount("operations", count)


def share(part: Fraction) -> Amount:
    """Give a part of a whole."""
    return Amount("share", part)


def in_unit(amount: Amount, unit: str) -> float:
    """Give an amount in the unit that a point publishes.

    Raises
    ------
    Refused
        The unit measures something else.
    """
    dimension, size = UNITS[unit_word(unit)]
    if dimension != amount.dimension:
        reason = f"the model gives a {amount.dimension}, the point's unit {unit!r} is a {dimension}"
        raise Refused("unit", [reason])
    return float(amount.value / size)
