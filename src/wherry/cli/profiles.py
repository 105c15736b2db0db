"""`wherry profiles`: the devices and systems that are known, their figures and sources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from wherry.base.errors import Refused, unknown_name
from wherry.base.units import format_bytes
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.devices.coverage import coverage
from wherry.devices.figures import SOURCE_KINDS, Count, Figure, read_toml
from wherry.devices.parts import Engine
from wherry.devices.parts import Path as Way
from wherry.devices.profile import Profile, is_path, load_profile, problems_in, profile_names
from wherry.devices.system import System, check_shipped, load_system, system_names
from wherry.devices.this_machine import THIS_MACHINE

_EXAMPLES = """\b
Examples:
  wherry profiles list
  wherry profiles show bluefield-3
  wherry profiles show dpu-csd-host --json
  wherry profiles check my_drive.toml my_rack.toml
"""

_NUMBER = re.compile(r"\d+")


def app() -> typer.Typer:
    """Give the commands of `wherry profiles`."""
    found = typer.Typer(rich_markup_mode=None)
    found.callback(invoke_without_command=True, epilog=_EXAMPLES)(_root)
    found.command("list", epilog="\b\nExample:\n  wherry profiles list --json")(list_command)
    found.command("show", epilog="\b\nExample:\n  wherry profiles show newport")(show_command)
    found.command("check", epilog="\b\nExample:\n  wherry profiles check my_rack.toml")(
        check_command
    )
    return found


def _root(context: typer.Context) -> None:
    """List, show and check the profiles of devices and systems."""
    if context.invoked_subcommand is None:
        say(context.get_help())


def list_command(as_json: Json = False) -> None:
    """List devices and systems."""
    devices = {name: load_profile(name) for name in profile_names()}
    systems = {name: load_system(name) for name in system_names() if name != THIS_MACHINE}
    if as_json:
        briefs = {name: _brief(system) for name, system in systems.items()}
        show_json({"devices": devices, "systems": briefs})
        return
    grid(
        ("device", "kind", "cores", "memory", "media", "network", "title"),
        [_device_row(name, profile) for name, profile in devices.items()],
        right=(2, 3, 4, 5),
    )
    say()
    rows = [
        (name, ", ".join(together(list(system.devices))), system.title)
        for name, system in systems.items()
    ]
    here = (THIS_MACHINE, "cpu0", "This machine, measured when it is asked for")
    grid(("system", "devices", "title"), [*rows, here])


def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device, a system, or a file.")],
    as_json: Json = False,
) -> None:
    """Show every figure of a device or a system, with its unit and source."""
    found = _load(name)
    if as_json:
        show_json(found)
    elif isinstance(found, System):
        _show_system(found)
    else:
        _show_profile(found)


def check_command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Files; all shipped ones if none.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check profiles and systems, and name every problem at once."""
    if paths:
        problems = [problem for path in paths for problem in problems_in(_load, path)]
        what = counted(len(paths), "file")
    else:
        problems, what = check_shipped(), "every shipped profile and system"
    if problems:
        raise Refused(f"{counted(len(problems), 'problem')} in {what}", problems)
    names = paths or [n for n in (*profile_names(), *system_names()) if n != THIS_MACHINE]
    covered = {name: coverage(_load(name)) for name in names}
    if as_json:
        show_json({"checked": paths or "shipped", "problems": [], "coverage": covered})
        return
    say(f"no problem in {what}")
    say()
    total = {kind: sum(counts[kind] for counts in covered.values()) for kind in SOURCE_KINDS}
    rows = [
        (name, *(str(n) if n else "" for n in (sum(counts.values()), *counts.values())))
        for name, counts in (*covered.items(), ("all", total))
    ]
    grid(("name", "figures", *SOURCE_KINDS), rows, right=range(1, 2 + len(SOURCE_KINDS)))


def _load(name: str) -> Profile | System:
    if is_path(name):
        is_system = "system" in read_toml(Path(name), name)
        return load_system(Path(name)) if is_system else load_profile(Path(name))
    if name in system_names():
        return load_system(name)
    if name in profile_names():
        return load_profile(name)
    raise unknown_name("profile", name, [*profile_names(), *system_names()])


def _device_row(name: str, profile: Profile) -> tuple[str, ...]:
    cores = "none" if profile.cores is None else str(profile.cores.count.value)
    memory = "none" if profile.memory is None else format_bytes(profile.memory.capacity_bytes.value)
    media = "none" if profile.media is None else f"{profile.media.read_gb_per_s.value:g} GB/s"
    line = "none" if profile.network is None else f"{profile.network.line_gbit_per_s.value:g} Gb/s"
    return name, profile.device.kind, cores, memory, media, line, profile.device.title


def _brief(system: System) -> dict[str, Any]:
    return {
        "title": system.title,
        "host": system.host,
        "client": system.client,
        "devices": {name: profile.device.name for name, profile in system.devices.items()},
    }


def together(names: list[str]) -> list[str]:
    """Give names as they are read: of those that differ in numbers only, the first and the last.

    >>> together(["host0", "csd0", "csd1", "csd2"])
    ['host0', 'csd0 .. csd2 (3)']
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_NUMBER.sub("#", name), []).append(name)
    return [
        one[0] if len(one) == 1 else f"{one[0]} .. {one[-1]} ({len(one)})" for one in alike.values()
    ]


def _show_profile(profile: Profile) -> None:
    heading(f"{profile.device.name} ({profile.device.kind}): {profile.device.title}")
    grid(("figure", "value", "source"), _figures(profile), right=(1,))
    able = profile.capabilities
    if able is not None:
        say()
        grid(
            ("can", ""),
            [("operators", ", ".join(able.operators)), ("types", ", ".join(able.types))],
        )


def _figures(table: msgspec.Struct, where: str = "") -> list[tuple[str, str, str]]:
    found = []
    for field in msgspec.structs.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Figure | Count):
            found.append((f"{where}{field.name}", _amount(field.name, value), value.source))
        elif isinstance(value, msgspec.Struct):
            found += _figures(value, f"{field.name}.")
        elif isinstance(value, tuple):
            for part in value:
                if isinstance(part, Engine):
                    found += _figures(part, f"engine {part.name} ({part.runs_on}).")
                elif isinstance(part, Way):
                    found += _figures(part, f"path {part.name}.")
    return found


def _amount(name: str, figure: Figure | Count) -> str:
    if name.endswith("_bytes") or name.startswith("request_bytes"):
        return format_bytes(int(figure.value))
    return f"{figure.value:,g}"


def _show_system(system: System) -> None:
    heading(f"{system.name}: {system.title}")
    say(f"host {system.host}, client {system.client}")
    say()
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for name, profile in system.devices.items():
        device = profile.device
        kinds.setdefault((device.name, device.kind, device.title), []).append(name)
    rows: list[tuple[Any, ...]] = [(", ".join(together(names)), *of) for of, names in kinds.items()]
    grid(("device", "profile", "kind", "title"), rows)
    say()
    alike: dict[tuple[str, ...], list[str]] = {}
    for link in system.links:
        ends = " - ".join(link.ends)
        figures = (
            f"{link.bandwidth_gb_per_s.value:g} GB/s",
            f"{link.latency_us.value:g} us",
            link.duplex,
            "" if link.both_ways_share is None else f"{link.both_ways_share.value:g}",
        )
        alike.setdefault((_NUMBER.sub("#", ends), *figures), []).append(ends)
    rows = [(", ".join(together(ends)), *of[1:]) for of, ends in alike.items()]
    grid(("link", "bandwidth", "latency", "duplex", "both ways"), rows, right=(1, 2, 4))
    say()
    rows = [
        (entry.name, ", ".join(together(list(entry.devices))), entry.layout)
        for entry in system.datasets
    ]
    grid(("dataset", "devices", "layout"), rows)
