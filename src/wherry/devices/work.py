"""How much work a program did on a chunk, and how long one core of a device takes for it.

The counts come from a real run of the real kernel; the time follows from them, the reference core
and the profile. Families are added up: the reference rates were taken so that their sum gives the
measured time of the fused kernels (device_profiles/reference-core.toml says how far it does).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import Self

import msgspec

from wherry.base.errors import InputError
from wherry.devices.figures import Figure, read_toml, struct_of
from wherry.devices.profile import REFERENCE_NAME, Profile, profile_folder

_NS_PER_M = 1_000  # a rate of 1 M a second takes 1000 ns for one; a rate of 1 G takes 1 ns


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of what kernels did; `+` adds them field by field.

    Parameters
    ----------
    scan_bytes : int
        Bytes streamed from memory.
    filter_terms : int
        Rows times predicate terms compared.
    arithmetic_values : int
        Values computed.
    string_rows : int
        Rows times string comparisons.
    hash_rows : int
        Rows hashed, grouped or partitioned.
    write_bytes : int
        Bytes compacted or written.
    sort_steps : int
        Rows times the base-2 logarithm of the rows sorted together.
    decode_bytes : int
        Bytes written by decoding or decompressing what is stored.
    lz4_bytes, zstd_bytes : int
        Bytes given to a compressor of that kind, at its fastest level.
    """

    scan_bytes: int = 0
    filter_terms: int = 0
    arithmetic_values: int = 0
    string_rows: int = 0
    hash_rows: int = 0
    write_bytes: int = 0
    sort_steps: int = 0
    decode_bytes: int = 0
    lz4_bytes: int = 0
    zstd_bytes: int = 0

    def __post_init__(self) -> None:
        counts = _counts(self)
        if min(counts) < 0:
            name, count = next((n, c) for n, c in zip(_FAMILIES, counts, strict=True) if c < 0)
            raise InputError(f"work cannot be negative, but {name} is {count}")

    @property
    def memory_bytes(self) -> int:
        """Bytes that pass between cores and memory: what shares the memory's bandwidth."""
        return self.scan_bytes + self.write_bytes + self.decode_bytes

    def __add__(self, other: Self) -> Self:
        return type(self)(*map(operator.add, _counts(self), _counts(other)))


_FAMILIES = tuple(field.name for field in fields(Work))
_counts: Callable[[Work], tuple[int, ...]] = operator.attrgetter(*_FAMILIES)


class ReferenceCore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Absolute rates of the core that every `relative_...` rate refers to; GB is 1e9 bytes."""

    title: str
    scan_gb_per_s: Figure
    filter_gterms_per_s: Figure
    arithmetic_gvalues_per_s: Figure
    string_mrows_per_s: Figure
    hash_mrows_per_s: Figure
    write_gb_per_s: Figure
    sort_msteps_per_s: Figure
    decode_gb_per_s: Figure
    lz4_gb_per_s: Figure
    zstd_gb_per_s: Figure


class _ReferenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reference: ReferenceCore


@lru_cache(maxsize=1)
def load_reference() -> ReferenceCore:
    """Give the reference core that the shipped profiles are relative to.

    Raises
    ------
    Refused
        With every problem of `device_profiles/reference-core.toml` as a reason.
    """
    file = f"{REFERENCE_NAME}.toml"
    label = f"device_profiles/{file}"
    tables = read_toml(profile_folder() / file, label)
    return struct_of(tables, _ReferenceFile, label).reference


def core_ns(work: Work, profile: Profile, reference: ReferenceCore) -> int:
    """Give the modelled time of one core for `work`, in whole nanoseconds.

    The sum over families of count / (reference rate x relative rate), computed exactly from the
    decimal figures and rounded half up once. How several busy cores share the memory's bandwidth is
    not in it: that is for whoever knows how many are busy.

    Raises
    ------
    InputError
        The profile has no `[rates]`, or none for something that was done.
    """
    counts = _counts(work)
    costs, lacking = _ns_per_unit(profile, reference)
    if lacking:
        absent = absent_rates(work, profile, reference)
        if absent:
            file = f"device_profiles/{profile.device.name}.toml"
            raise InputError(f"{file}: no time can be modelled without [rates] {', '.join(absent)}")
    total = sum((c * cost for c, cost in zip(counts, costs, strict=True) if c), Fraction(0))
    return (2 * total.numerator + total.denominator) // (2 * total.denominator)


def absent_rates(work: Work, profile: Profile, reference: ReferenceCore) -> list[str]:
    """Give the rates that the time of `work` would follow from, and the profile does not have."""
    _, lacking = _ns_per_unit(profile, reference)
    return list(dict.fromkeys(rate for count, rate in lacking if getattr(work, count)))


@lru_cache(maxsize=256)
def _ns_per_unit(
    profile: Profile, reference: ReferenceCore
) -> tuple[tuple[Fraction, ...], tuple[tuple[str, str], ...]]:
    """Give the exact nanoseconds for one of each count of `Work`, in the order of its fields.

    And what has none: the count's name, and the rate's. Its nanoseconds are 0.
    """
    rates = profile.rates
    if rates is None:
        raise InputError(
            f"device_profiles/{profile.device.name}.toml: no table [rates], so no time can be "
            f"modelled: a device of kind {profile.device.kind!r} runs no programs"
        )
    one, m = 1, _NS_PER_M
    costs = {
        "scan_bytes": (one, reference.scan_gb_per_s, "relative_scan"),
        "filter_terms": (one, reference.filter_gterms_per_s, "relative_filter"),
        "arithmetic_values": (one, reference.arithmetic_gvalues_per_s, "relative_arithmetic"),
        "string_rows": (m, reference.string_mrows_per_s, "relative_string"),
        "hash_rows": (m, reference.hash_mrows_per_s, "relative_hash"),
        "write_bytes": (one, reference.write_gb_per_s, "relative_write"),
        "sort_steps": (m, reference.sort_msteps_per_s, "relative_sort"),
        "decode_bytes": (one, reference.decode_gb_per_s, "relative_decode"),
        "lz4_bytes": (one, reference.lz4_gb_per_s, "relative_compress"),
        "zstd_bytes": (one, reference.zstd_gb_per_s, "relative_compress"),
    }
    found = [_cost(ns, rate, getattr(rates, name)) for ns, rate, name in costs.values()]
    lacking = [
        (count, costs[count][2]) for count, cost in zip(costs, found, strict=True) if not cost
    ]
    return tuple(found), tuple(lacking)


def _cost(ns: int, rate: Figure, relative: Figure | None) -> Fraction:
    if relative is None:
        return Fraction(0)
    # repr gives back the decimal number that the file holds, so the quotient is exact.
    return Fraction(ns) / (Fraction(repr(rate.value)) * Fraction(repr(relative.value)))
