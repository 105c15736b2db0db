"""The agents of a system: how each one is, and what the way to it does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from wherry.base.errors import InputError
from wherry.base.units import format_bytes, format_ns
from wherry.cli.output import grid, heading, say, show_json
from wherry.cli.progress import progress
from wherry.devices.system import load_system
from wherry.serve.dial import dial
from wherry.serve.links import Link
from wherry.serve.probing import State, keep, state_of


def show_agents(name: str, *, measure: bool, as_json: bool) -> int:
    """Show the agents of a system; give how many are lost.

    Raises
    ------
    InputError
        If no device of the system is an agent.
    """
    system = load_system(name)
    if not system.agents:
        raise InputError(
            f'no device of {system.name} is an agent; one has agent = "unix:PATH" or another '
            "address beside its profile"
        )
    links = [
        Link(device, address, partial(dial, address, device, system.keys))
        for device, address in system.agents.items()
    ]
    states = []
    with progress(len(links)) as begin:
        for link in links:
            begin(f"asking {link.device}")
            states.append(state_of(link, measure=measure))
            link.close()
    if measure:
        keep(system, {s.device: s.way for s in states if s.way is not None and not s.emulated})
    if as_json:
        show_json({"system": system.name, "agents": states})
    else:
        _show(system.name, states)
    return sum(bool(state.lost) for state in states)


def _show(name: str, states: Sequence[State]) -> None:
    heading(f"agents of {name}")
    grid(
        ("device", "profile", "time", "datasets", "busy", "runs", "waits", "queries", "segments"),
        [_row(state) for state in states],
        right=(4, 5, 6, 7, 8),
    )
    say()
    grid(
        ("device", "address", "clock is ahead by", "latency", "rate of rows"),
        [_way(state) for state in states],
        right=(2, 3, 4),
    )
    for state in states:
        if state.lost:
            say(f"{state.device} is lost: {state.lost}")
        for dataset, why in state.unreadable:
            say(f"{state.device} cannot read {dataset}: {why}")


def _row(state: State) -> tuple[str, ...]:
    found = state.health
    if found is None:
        return (state.device, "lost", *[""] * 7)
    return (
        state.device,
        state.profile,
        "modelled" if state.emulated else "measured",
        ", ".join(state.datasets) or "none",
        f"{found.busy:.0%}",
        str(found.running),
        str(found.waiting),
        str(found.queries),
        format_bytes(found.segment_bytes),
    )


def _way(state: State) -> tuple[str, ...]:
    if state.clock is None:
        return (state.device, state.address, "", "", "")
    clock = f"{format_ns(state.clock.ahead_ns)} +- {format_ns(state.clock.within_ns)}"
    if state.way is None:
        return (state.device, state.address, clock, "--measure", "--measure")
    rate = f"{state.way.bandwidth_gb_per_s:.3g} GB/s"
    how = f"{rate}, handed over" if state.way.handed_over else rate
    return (state.device, state.address, clock, f"{state.way.latency_us:.3g} us", how)
