"""How an agent is, and what the way to it does: measured when asked for, kept for the planner."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from platformdirs import user_cache_path

from wherry.base.errors import WherryError
from wherry.base.ids import DIGEST_BYTES, digest
from wherry.devices.bandwidth import read_gb_per_s
from wherry.devices.figures import Figure
from wherry.devices.routes import Link as WireLink
from wherry.devices.system import UNIX
from wherry.devices.topology import System
from wherry.serve import requests
from wherry.serve.links import Link

_ASKED: Final = 51
_LARGE: Final = 5
_PIECE_BYTES: Final = 64 << 20
_NS_PER_US: Final = 1_000
_STEADY = time.perf_counter_ns
MEASURED: Final = "measured: by wherry doctor --measure"
"""The source of a link's figures that were."""


class Clock(Struct, frozen=True):
    """An agent's clock beside the caller's: how far it is ahead, and how surely, in nanoseconds."""

    ahead_ns: int
    within_ns: int


class Way(Struct, frozen=True):
    """What the way to an agent does, measured.

    Attributes
    ----------
    latency_us : float
        Half of the median round trip of an empty request.
    bandwidth_gb_per_s : float
        Of rows that come from there: of the way's bytes, or of memory where rows are handed over.
    handed_over : bool
        Whether they are mapped instead of carried.
    """

    latency_us: float
    bandwidth_gb_per_s: float
    handed_over: bool


_ways: Final = msgspec.json.Decoder(dict[str, Way])  # see wherry.base.decoders


class State(Struct, frozen=True):
    """How an agent is.

    Attributes
    ----------
    lost : str
        Why it is not reached; empty if it is.
    """

    device: str
    address: str
    lost: str = ""
    profile: str = ""
    emulated: bool = False
    datasets: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    health: requests.Healthy | None = None
    clock: Clock | None = None
    way: Way | None = None


def state_of(link: Link, *, measure: bool) -> State:
    """Ask an agent how it is; with `measure`, also what the way to it does (some 0.2 s)."""
    try:
        welcome = link.welcome()
        listed = link.ask(requests.List(), "listing its datasets", requests.Listed)
        clock, health = _clock(link)
        way = measured(link) if measure else None
    except WherryError as problem:
        return State(link.device, link.address, str(problem))
    profile = msgspec.json.decode(welcome.profile, type=_Profile)
    return State(
        device=link.device,
        address=link.address,
        profile=profile.device.name,
        emulated=welcome.emulated,
        datasets=tuple(dataset.name for dataset in listed.datasets),
        unreadable=listed.unreadable,
        health=health,
        clock=clock,
        way=way,
    )


class _Device(Struct):
    name: str


class _Profile(Struct):
    device: _Device


def _clock(link: Link) -> tuple[Clock, requests.Healthy]:
    """Compare clocks by the quickest of some round trips, as NTP does."""
    best: tuple[int, int, requests.Healthy] | None = None
    for _ in range(5):
        wall, begin = time.time_ns(), _STEADY()
        found = link.ask(requests.Health(), "asking how it is", requests.Healthy)
        took = _STEADY() - begin
        if best is None or took < best[0]:
            best = took, found.clock_ns - (wall + took // 2), found
    assert best is not None
    return Clock(best[1], best[0] // 2), best[2]


def measured(link: Link) -> Way:
    """Measure the way to an agent: round trips, and a piece that is taken and looked at."""
    empty = median(_took(link) for _ in range(_ASKED))
    if link.address.startswith(UNIX):
        # What is mapped is read from memory, by whoever reads it.
        return Way(empty / 2 / _NS_PER_US, read_gb_per_s(1), handed_over=True)
    query = os.urandom(DIGEST_BYTES)
    offer = requests.Offer(query, _PIECE_BYTES)
    made = link.ask(offer, "measuring the way", requests.Made)
    took = min(_taken(link, made.ticket) for _ in range(_LARGE))
    link.ask(requests.Release(query), "measuring the way", requests.Done)
    return Way(empty / 2 / _NS_PER_US, _PIECE_BYTES / took, handed_over=False)


def _took(link: Link) -> int:
    begin = _STEADY()
    link.ask(requests.Echo(0), "measuring the way", requests.Rows)
    return _STEADY() - begin


def _taken(link: Link, ticket: bytes) -> int:
    begin = _STEADY()
    link.take(ticket, "measuring the way")
    return _STEADY() - begin


def keep(system: System, ways: dict[str, Way]) -> Path:
    """Keep what was measured, for the planner; give the file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    place = _place(system)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(ways))
    part.replace(place)
    return place


def kept(system: System) -> dict[str, Way]:
    """Give what was measured of a system's agents at these addresses; nothing if nobody did."""
    with suppress(OSError, msgspec.DecodeError):
        return _ways.decode(_place(system).read_bytes())
    return {}


def with_measured(system: System, ways: dict[str, Way]) -> System:
    """Give the system with measured links, where they lead from the caller's process to an agent.

    That is where the client is, and every device that is no agent.
    """
    apart = {*system.agents, *system.switches}

    def better(link: WireLink) -> WireLink:
        for here, there in (link.ends, link.ends[::-1]):
            way = ways.get(there)
            if way is not None and there in system.agents and here not in apart:
                return replace(
                    link,
                    bandwidth_gb_per_s=Figure(way.bandwidth_gb_per_s, MEASURED),
                    latency_us=Figure(way.latency_us, MEASURED),
                )
        return link

    return replace(system, links=tuple(map(better, system.links)))


def _place(system: System) -> Path:
    # Sockets are named by whole paths: those of two folders may be called the same in each.
    agents = sorted((device, _absolute(address)) for device, address in system.agents.items())
    name = f"{digest(system.name.encode(), msgspec.json.encode(agents)).hex()}.json"
    return user_cache_path("wherry") / "links" / name


def _absolute(address: str) -> str:
    if not address.startswith(UNIX):
        return address
    return f"{UNIX}{Path(address.removeprefix(UNIX)).resolve()}"
