"""`wherry profiles`: the devices and systems that are known, their figures and sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from wherry.base.errors import Refused, unknown_name
from wherry.base.units import format_bytes
from wherry.cli.options import Json
from wherry.cli.output import counted, grid, heading, say, show_json
from wherry.devices.figures import Count, Figure, read_toml
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
        show_json({"devices": devices, "systems": systems})
        return
    grid(
        ("device", "kind", "cores", "memory", "media", "title"),
        [_device_row(name, profile) for name, profile in devices.items()],
        right=(2, 3, 4),
    )
    say()
    rows = [(name, ", ".join(system.devices), system.title) for name, system in systems.items()]
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
    if as_json:
        show_json({"checked": paths or "shipped", "problems": []})
    else:
        say(f"no problem in {what}")


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
    return name, profile.device.kind, cores, memory, media, profile.device.title


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
    return found


def _amount(name: str, figure: Figure | Count) -> str:
    if name.endswith("_bytes") or name.startswith("request_bytes"):
        return format_bytes(int(figure.value))
    return f"{figure.value:,g}"


def _show_system(system: System) -> None:
    heading(f"{system.name}: {system.title}")
    say(f"host {system.host}, client {system.client}")
    say()
    rows: list[tuple[Any, ...]] = [
        (name, profile.device.name, profile.device.kind, profile.device.title)
        for name, profile in system.devices.items()
    ]
    grid(("device", "profile", "kind", "title"), rows)
    say()
    rows = [
        (
            " - ".join(link.ends),
            f"{link.bandwidth_gb_per_s.value:g} GB/s",
            f"{link.latency_us.value:g} us",
            link.duplex,
        )
        for link in system.links
    ]
    grid(("link", "bandwidth", "latency", "duplex"), rows, right=(1, 2))
    say()
    rows = [(entry.name, ", ".join(entry.devices), entry.layout) for entry in system.datasets]
    grid(("dataset", "devices", "layout"), rows)
