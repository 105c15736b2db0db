"""A profile of this machine from measured rates, as a file that `wherry profiles check` accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Final

from wherry.base.errors import InputError
from wherry.benchmarks.calibration.rates import Rate
from wherry.devices.bandwidth import ARRAY_BYTES, measured_gb_per_s
from wherry.devices.proc import cpu_clock_ghz, cpu_name, memory_bytes, usable_cores
from wherry.devices.profile import OPERATOR_NAMES, REFERENCE_NAME, TYPE_FAMILIES, load_profile
from wherry.devices.work import load_reference

_RATES: Final[Mapping[str, tuple[str, ...]]] = {
    "relative_scan": ("scan_gb_per_s",),
    "relative_filter": ("filter_gterms_per_s",),
    "relative_arithmetic": ("arithmetic_gvalues_per_s",),
    "relative_string": ("string_mrows_per_s",),
    "relative_hash": ("hash_mrows_per_s",),
    "relative_write": ("write_gb_per_s",),
    "relative_sort": ("sort_msteps_per_s",),
    "relative_decode": ("decode_gb_per_s",),
    "relative_compress": ("lz4_gb_per_s", "zstd_gb_per_s"),
}
_CACHED: Final = {
    "relative_scan": ("scan_cached_gb_per_s", "scan_gb_per_s"),
    "relative_hash": ("hash_cached_mrows_per_s", "hash_mrows_per_s"),
}
_STARTS: Final = ("kernel_start_us", "hop_receive_us", "program_install_us")
_L2: Final = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def reference_rate(name: str) -> float | None:
    """Give the checked-in reference core's rate of a name; None if it has none."""
    figure = getattr(load_reference(), name, None)
    return None if figure is None else float(figure.value)


def write_profile(path: Path, rates: Mapping[str, Rate], *, overwrite: bool = False) -> None:
    """Write the profile, and check it by reading it.

    Raises
    ------
    InputError
        If the file is there already, or does not end in `.toml`.
    """
    if path.suffix != ".toml":
        raise InputError(f"a profile is a .toml file, not {path.name!r}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already; possible: another name, --overwrite")
    path.write_text("\n".join(_lines(path.stem, rates)) + "\n", encoding="utf-8")
    load_profile(path)


def _lines(name: str, rates: Mapping[str, Rate]) -> Iterator[str]:
    yield f"# Written by `wherry calibrate`; rates are relative to {REFERENCE_NAME}.toml."
    yield from ("", "[device]", f'name = "{name}"', 'kind = "cpu"', f"title = {_text(cpu_name())}")
    yield from ("", "[cores]")
    cores = usable_cores()
    yield _count("count", cores, "measured: cores a process may run on (sched_getaffinity)")
    clock = cpu_clock_ghz()
    if clock is not None:
        yield _figure("clock_ghz", clock, "measured: cpu MHz of /proc/cpuinfo")
    yield from ("", "[rates]")
    for relative, names in _RATES.items():
        yield _relative(relative, [(rates[name], reference_rate(name)) for name in names])
    yield from ("", "[memory]")
    yield _count("capacity_bytes", memory_bytes(), "measured: MemTotal of /proc/meminfo")
    source = f"measured: {cores} threads of numpy reading {ARRAY_BYTES >> 20} MiB, best of 5 passes"
    yield _figure("bandwidth_gb_per_s", measured_gb_per_s(cores), source)
    size = _cache_bytes()
    if size is not None:
        yield from ("", "[cache]")
        yield _count("core_bytes", size, "measured: level 2 of the first core, as Linux tells it")
        for relative, (fast, of) in _CACHED.items():
            yield _relative(relative, [(rates[fast], reference_rate(of))])
    yield from ("", "[start]")
    for start in _STARTS:
        yield _figure(start, rates[start].value, f"measured: {rates[start].how}")
    yield from ("", "[capabilities]")
    yield f"types = [{', '.join(map(_text, TYPE_FAMILIES))}]"
    yield f"operators = [{', '.join(map(_text, OPERATOR_NAMES))}]"


def _relative(key: str, pairs: list[tuple[Rate, float | None]]) -> str:
    """Give a rate relative to the reference core's; of two rates their geometric mean."""
    ratios = [rate.value / of for rate, of in pairs if of is not None]
    value = ratios[0] if len(ratios) == 1 else sqrt(ratios[0] * ratios[1])
    of = "; ".join(f"{rate.name} {rate.value:g} over {base:g}, {rate.how}" for rate, base in pairs)
    return _figure(key, float(f"{value:.3g}"), f"measured: {of}")


def _cache_bytes() -> int | None:
    try:
        size = _L2.read_text().strip()
    except OSError:
        return None
    return int(size[:-1]) * 1024 if size.endswith("K") and size[:-1].isdigit() else None


def _figure(key: str, value: float, source: str) -> str:
    return f"{key} = {{ value = {float(value)!r}, source = {_text(source)} }}"


def _count(key: str, value: int, source: str) -> str:
    return f"{key} = {{ value = {value}, source = {_text(source)} }}"


def _text(value: str) -> str:
    """Give a TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
