"""Quantities that say how they were found.

A time in Wherry is either `Modelled` (it follows from a device profile) or `Measured` (a clock saw
it). The two are different types: adding one to the other is a TypeError, and both print the word.
"""

from __future__ import annotations

from typing import ClassVar, Self

from msgspec import Struct

_TIME_STEPS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))
_BYTE_STEPS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class _Nanoseconds(Struct, frozen=True, order=True):
    ns: int
    origin: ClassVar[str] = ""

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            msg = f"cannot add a {type(other).__name__} time to a {self.origin} one"
            raise TypeError(msg)
        return type(self)(self.ns + other.ns)

    def __str__(self) -> str:
        return f"{format_ns(self.ns)} {self.origin}"


class Modelled(_Nanoseconds, frozen=True):
    """A time in nanoseconds that follows from a profile; no clock saw it."""

    origin: ClassVar[str] = "modelled"


class Measured(_Nanoseconds, frozen=True):
    """A time in nanoseconds read off this machine's clock."""

    origin: ClassVar[str] = "measured"


Time = Modelled | Measured


def format_ns(ns: int) -> str:
    """Give a time in the unit a person would use.

    >>> format_ns(1_530_000)
    '1.53 ms'
    """
    for step, unit in _TIME_STEPS:
        if abs(ns) >= step:
            return (
                f"{ns / step:.3g} {unit}" if abs(ns) < 1000 * step else f"{ns / step:,.0f} {unit}"
            )
    return f"{ns} ns"


def format_bytes(count: int) -> str:
    """Give a number of bytes in the binary unit a person would use.

    >>> format_bytes(3 << 20)
    '3 MiB'
    """
    for step, unit in _BYTE_STEPS:
        if abs(count) >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count} B"
