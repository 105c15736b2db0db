"""What one device is, as figures with sources: the schema of `device_profiles/<name>.toml`.

An absent table is None; a figure that a kind of device needs and its file lacks is an error, never
a default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args

from wherry.base.decoders import converted
from wherry.base.errors import InputError, Refused, unknown_name
from wherry.devices.figures import Count, Figure, problems_of, read_toml, refuse
from wherry.devices.parts import Cache, Engine, Launch, Network, Power, Price, Table
from wherry.devices.parts import Path as Way

DeviceKind = Literal["nic", "csd", "drive", "gpu", "cpu"]
TypeFamily = Literal[
    "boolean", "integer", "float", "decimal", "temporal", "time", "duration", "string", "binary",
    "dictionary", "struct",
]  # fmt: skip
OperatorName = Literal[
    "filter", "select", "with_columns", "aggregate", "group_by", "sort", "top_k", "limit",
    "route", "respond", "scan", "join",
]  # fmt: skip
TYPE_FAMILIES: tuple[TypeFamily, ...] = get_args(TypeFamily)
OPERATOR_NAMES: tuple[OperatorName, ...] = get_args(OperatorName)

REFERENCE_NAME = "reference-core"
# What a device says it can do needs the rate that its time follows from.
_RATE_OF = {
    "string": "relative_string",
    "binary": "relative_string",
    "group_by": "relative_hash",
    "join": "relative_hash",
    "sort": "relative_sort",
    "top_k": "relative_sort",
}
_PROGRAMS = ("cores", "rates", "start", "capabilities")
_PROGRAMMABLE = (*_PROGRAMS, "memory")
_NEEDED: dict[str, tuple[str, ...]] = {
    "nic": ("network",),
    "gpu": _PROGRAMMABLE,
    "cpu": _PROGRAMMABLE,
    "csd": ("media",),
    "drive": ("media",),
}
# A plain NIC and a drive of fixed functions run no programs; one that has cores and their rates
# does, and needs the rest.
_TOGETHER = frozenset({"nic", "csd"})
# A drive computes nothing: a table that is never read is a mistake of whoever wrote it.
_SENSELESS: dict[str, tuple[str, ...]] = {
    "nic": ("launch",),
    "gpu": ("media", "network"),
    "cpu": ("launch", "network"),
    "csd": ("launch", "network"),
    "drive": ("cores", "rates", "start", "capabilities", "launch", "network"),
}


class Device(Table, frozen=True):
    """Which device a profile is about; `models` is what drivers call it, if one of them is here."""

    name: str
    kind: DeviceKind
    title: str
    models: tuple[str, ...] = ()


class Cores(Table, frozen=True):
    """The cores that run programs; the clock is informative, the rates carry the speed."""

    count: Count
    clock_ghz: Figure | None = None


class Rates(Table, frozen=True):
    """Speed of one core relative to the reference core, per kernel family (1.0 is equal).

    What every program does is there; a family that is absent is one the core cannot be asked for.
    """

    relative_scan: Figure
    relative_filter: Figure
    relative_arithmetic: Figure
    relative_write: Figure
    relative_string: Figure | None = None
    relative_hash: Figure | None = None
    relative_sort: Figure | None = None
    relative_decode: Figure | None = None
    relative_compress: Figure | None = None


class Memory(Table, frozen=True):
    """The memory that all cores share; the bandwidth is the usable one, all cores busy.

    `beyond_gb_per_s` is the rate of what does not fit and is fetched on demand, where that works
    at all; a device without it refuses what does not fit.
    """

    capacity_bytes: Count
    bandwidth_gb_per_s: Figure
    peak_gb_per_s: Figure | None = None
    beyond_gb_per_s: Figure | None = None


class Media(Table, frozen=True):
    """The flash behind the controller: internal rate, before any external link."""

    read_gb_per_s: Figure
    channels: Count
    latency_us: Figure
    request_bytes_max: Count
    write_gb_per_s: Figure | None = None
    random_read_iops: Count | None = None


class Start(Table, frozen=True):
    """What must happen before work: start a program, receive a continuation, install a program."""

    kernel_start_us: Figure
    hop_receive_us: Figure
    program_install_us: Figure


class Capabilities(Table, frozen=True):
    """What the device's programs can handle."""

    types: tuple[TypeFamily, ...]
    operators: tuple[OperatorName, ...]


class Profile(Table, frozen=True, cache_hash=True):
    """Everything known about one device; hashable, equal by value, JSON-able by msgspec."""

    device: Device
    cores: Cores | None = None
    rates: Rates | None = None
    memory: Memory | None = None
    cache: Cache | None = None
    media: Media | None = None
    start: Start | None = None
    launch: Launch | None = None
    network: Network | None = None
    engine: tuple[Engine, ...] = ()
    path: tuple[Way, ...] = ()
    capabilities: Capabilities | None = None
    power: Power | None = None
    price: Price | None = None

    @property
    def runs_programs(self) -> bool:
        """Whether kernels run on it, and their time is known."""
        return self.cores is not None and self.rates is not None


def load_profile(name_or_path: str | Path) -> Profile:
    """Give a shipped profile by name, or any profile by the path of its `.toml` file.

    Raises
    ------
    InputError
        No such profile, or no such file, or not TOML.
    Refused
        With every problem of the file as a reason.
    """
    if is_path(name_or_path):
        return _load(Path(name_or_path), str(name_or_path), Path(name_or_path).stem)
    return _load_shipped(str(name_or_path))


def profile_names() -> list[str]:
    """Give the names of the shipped profiles, sorted; the reference core is not a device."""
    return [name for name in toml_names(profile_folder()) if name != REFERENCE_NAME]


def check_profiles() -> list[str]:
    """Give every problem of every shipped profile; an empty list when there is none."""
    return [problem for name in profile_names() for problem in problems_in(load_profile, name)]


def problems_in(load: Callable[[str], object], name: str) -> list[str]:
    """Give why `load(name)` refuses its file: all reasons, or none."""
    try:
        load(name)
    except Refused as error:
        return list(error.reasons)
    except InputError as error:
        return [str(error)]
    return []


def is_path(name_or_path: str | Path) -> bool:
    """Tell a path from a shipped name: it is a Path, has a slash or ends in `.toml`."""
    return isinstance(name_or_path, Path) or "/" in name_or_path or name_or_path.endswith(".toml")


def profile_folder() -> Traversable:
    """Give the shipped folder `device_profiles`, in a checkout or in a wheel."""
    return files("wherry.device_profiles")


def toml_names(folder: Traversable) -> list[str]:
    """Give the stems of the `.toml` files of a folder, sorted."""
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )


@cache
def _load_shipped(name: str) -> Profile:
    if name not in profile_names():
        raise unknown_name("profile", name, profile_names())
    file = f"{name}.toml"
    return _load(profile_folder() / file, f"device_profiles/{file}", name)


def _load(file: Traversable | Path, label: str, stem: str) -> Profile:
    tables = read_toml(file, label)
    refuse(label, [*problems_of(tables, Profile), *_disagreements(tables, stem)])
    return converted(tables, Profile)


def _disagreements(tables: dict[str, Any], stem: str) -> list[str]:
    device = tables.get("device")
    if not isinstance(device, dict):
        return []
    name, kind = device.get("name", stem), str(device.get("kind"))
    found = [] if name == stem else [f"[device] name is {name!r}, but the file is {stem}.toml"]
    needed = _NEEDED.get(kind, ())
    if kind in _TOGETHER and tables.keys() & set(_PROGRAMS):
        needed = (*_PROGRAMMABLE, *needed)
    found += [
        f"table [{table}] is missing: a device of kind {kind!r} needs it"
        for table in needed
        if table not in tables
    ]
    found += _missing_rates(tables)
    return found + [
        f"table [{table}] makes no sense for a device of kind {kind!r}"
        for table in _SENSELESS.get(kind, ())
        if table in tables
    ]


def _missing_rates(tables: dict[str, Any]) -> list[str]:
    able, rates = tables.get("capabilities"), tables.get("rates")
    if not isinstance(able, dict) or not isinstance(rates, dict):
        return []
    found = []
    for key in ("types", "operators"):
        words = able.get(key)
        for word in words if isinstance(words, list) else ():
            rate = _RATE_OF.get(str(word))
            if rate is not None and rate not in rates:
                found.append(f"[capabilities] {key} has {word!r}, which needs [rates] {rate}")
    return found
