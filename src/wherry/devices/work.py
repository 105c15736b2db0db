"""How much work a program did on a chunk, and how long one core of a device takes for it.

The counts come from a real run of the real kernel; the time follows from them, the reference core
and the profile. Families are added up: the reference rates were taken so that their sum gives the
measured time of the fused kernels (device_profiles/reference-core.toml says how far it does).

A hash table that fits in a core's share of the caches is looked up at the cached rate, where the
profile has one: a step, not a slope (dpBento's random reads fall 6 to 26 times from 16 KB to 1 GB).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Self

import msgspec
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.devices.figures import Figure, read_toml, struct_of
from wherry.devices.profile import REFERENCE_NAME, Profile, profile_folder

_NS_PER_M = 1_000  # a rate of 1 M a second takes 1000 ns for one; a rate of 1 G takes 1 ns


class Work(Struct, frozen=True):
    """Counts of what kernels did; `+` adds them field by field, and keeps the larger state.

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
    state_bytes : int
        Bytes of the largest table that rows were hashed into or looked up in; not an amount.
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
    state_bytes: int = 0

    def __post_init__(self) -> None:
        counts = (*_counts(self), self.state_bytes)
        if min(counts) < 0:
            name, count = next((n, c) for n, c in zip(_NAMES, counts, strict=True) if c < 0)
            raise InputError(f"work cannot be negative, but {name} is {count}")

    @property
    def memory_bytes(self) -> int:
        """Bytes that pass between cores and memory: what shares the memory's bandwidth."""
        return self.scan_bytes + self.write_bytes + self.decode_bytes

    def __add__(self, other: Self) -> Self:
        counts = [*map(operator.add, _counts(self), _counts(other))]
        counts.append(max(self.state_bytes, other.state_bytes))
        return type(self)(*counts)


_NAMES = Work.__struct_fields__
_FAMILIES = _NAMES[:-1]
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
    cache = profile.cache
    cached = cache is not None and work.state_bytes <= cache.core_bytes.value
    prices = _prices(profile, reference, cached=cached)
    counts = _counts(work)
    if prices.lacking:
        absent = absent_rates(work, profile, reference)
        if absent:
            file = f"device_profiles/{profile.device.name}.toml"
            raise InputError(f"{file}: no time can be modelled without [rates] {', '.join(absent)}")
    total = sum(map(operator.mul, counts, prices.ns))
    return (2 * total + prices.per) // (2 * prices.per)


def absent_rates(work: Work, profile: Profile, reference: ReferenceCore) -> list[str]:
    """Give the rates that the time of `work` would follow from, and the profile does not have."""
    lacking = _prices(profile, reference, cached=False).lacking
    return list(dict.fromkeys(rate for count, rate in lacking if getattr(work, count)))


class _Prices(Struct, frozen=True):
    """Nanoseconds for one of each family of `Work`, as fractions of one denominator.

    What has no rate costs 0 here; `lacking` has its family and the rate's name.
    """

    ns: tuple[int, ...]
    per: int
    lacking: tuple[tuple[str, str], ...]


@lru_cache(maxsize=1024)
def _prices(profile: Profile, reference: ReferenceCore, *, cached: bool) -> _Prices:
    costs = _ns_per_unit(profile, reference, cached=cached)
    found = [_cost(*parts) for _, parts in costs.values()]
    per = lcm(*(cost.denominator for cost in found))
    lacking = ((family, rate) for family, (rate, parts) in costs.items() if parts[2] is None)
    return _Prices(tuple(int(cost * per) for cost in found), per, tuple(lacking))


def _ns_per_unit(
    profile: Profile, reference: ReferenceCore, *, cached: bool
) -> dict[str, tuple[str, tuple[int, Figure, Figure | None]]]:
    """Give for each family of `Work`, in its order, the name of its rate and what it costs of."""
    rates = profile.rates
    if rates is None:
        raise InputError(
            f"device_profiles/{profile.device.name}.toml: no table [rates], so no time can be "
            f"modelled: a device of kind {profile.device.kind!r} runs no programs"
        )
    one, m, hashing = 1, _NS_PER_M, rates.relative_hash
    if cached and profile.cache is not None:
        hashing = profile.cache.relative_hash
    compress = rates.relative_compress
    return {
        "scan_bytes": ("relative_scan", (one, reference.scan_gb_per_s, rates.relative_scan)),
        "filter_terms": (
            "relative_filter",
            (one, reference.filter_gterms_per_s, rates.relative_filter),
        ),
        "arithmetic_values": (
            "relative_arithmetic",
            (one, reference.arithmetic_gvalues_per_s, rates.relative_arithmetic),
        ),
        "string_rows": (
            "relative_string",
            (m, reference.string_mrows_per_s, rates.relative_string),
        ),
        "hash_rows": ("relative_hash", (m, reference.hash_mrows_per_s, hashing)),
        "write_bytes": ("relative_write", (one, reference.write_gb_per_s, rates.relative_write)),
        "sort_steps": ("relative_sort", (m, reference.sort_msteps_per_s, rates.relative_sort)),
        "decode_bytes": (
            "relative_decode",
            (one, reference.decode_gb_per_s, rates.relative_decode),
        ),
        "lz4_bytes": ("relative_compress", (one, reference.lz4_gb_per_s, compress)),
        "zstd_bytes": ("relative_compress", (one, reference.zstd_gb_per_s, compress)),
    }


def _cost(ns: int, rate: Figure, relative: Figure | None) -> Fraction:
    if relative is None:
        return Fraction(0)
    # repr gives back the decimal number that the file holds, so the quotient is exact.
    return Fraction(ns) / (Fraction(repr(rate.value)) * Fraction(repr(relative.value)))
