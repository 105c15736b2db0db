"""Whether a round left anything: segments, leases, files, sockets, threads, processes."""

from __future__ import annotations

import time
from typing import Final

from msgspec import Struct

from chaos import processes, served
from chaos.world import SHARED, Agent, World

_SETTLES_S: Final = served.LEASE_S + 4.0
"""A lease may have begun with the last fault, and is looked for now and then."""
_MORE_SOCKETS: Final = 12
_MORE_THREADS: Final = 24
"""How many more than at rest are no leak: each peer may keep a few connections open."""


class Rest(Struct, frozen=True):
    """What there is when nothing happens: by agent sockets and threads, and shared files."""

    sockets: dict[str, int]
    threads: dict[str, int]
    files: frozenset[str]


def at_rest(world: World) -> Rest:
    """Give what there is now."""
    return Rest(
        {name: processes.sockets(agent.pid) for name, agent in world.agents.items()},
        {name: processes.threads(agent.pid) for name, agent in world.agents.items()},
        frozenset(_files(world)),
    )


def settled(world: World, rest: Rest) -> list[str]:
    """Wait until nothing is left, or no longer than leases live; give what is left then."""
    deadline = time.monotonic() + _SETTLES_S
    while True:
        left = [*_left(world, rest)]
        if not left or time.monotonic() > deadline:
            return [f"leak: {what}" for what in left]
        time.sleep(0.05)


def stopped(world: World) -> list[str]:
    """Give what is left of a world whose processes were asked to end."""
    left = [f"process {p}: {processes.called(p)}" for p in processes.marked(world.mark)]
    left += [f"socket {path.name}" for path in world.folder.glob("*.sock*")]
    left += sorted(_files(world))
    return [f"leak: {what} is left after the end" for what in left]


def _left(world: World, rest: Rest) -> list[str]:
    left = []
    for agent in world.agents.values():
        left += _of_agent(world, agent, rest)
    for it in (*world.agents.values(), *world.callers.values()):
        foreign = processes.foreign(it.pid)
        if foreign:
            left.append(f"{it.name} still maps or holds {len(foreign)} segments of others")
    known = {it.process.pid for it in (*world.agents.values(), *world.callers.values())}
    known |= {it.pid for it in (*world.agents.values(), *world.callers.values())}
    for pid in processes.marked(world.mark):
        if pid not in known:
            left.append(f"process {pid}: {processes.called(pid)}")
    left += [f"file {name}" for name in sorted(_files(world) - rest.files)]
    return left


def _of_agent(world: World, agent: Agent, rest: Rest) -> list[str]:
    health = served.health(world, agent, 1.0)
    if isinstance(health, str):
        return [f"{agent.name} does not say how it is: {health}"]
    left = [f"{agent.name} keeps {count} {what}" for what, count in health.items() if count]
    sockets = processes.sockets(agent.pid) - rest.sockets.get(agent.name, 0)
    if sockets > _MORE_SOCKETS:
        left.append(f"{agent.name} has {sockets} sockets more than at rest")
    threads = processes.threads(agent.pid) - rest.threads.get(agent.name, 0)
    if threads > _MORE_THREADS:
        left.append(f"{agent.name} has {threads} threads more than at rest")
    return left


def _files(world: World) -> set[str]:
    """Give temporary files, also of those that were killed."""
    found = {str(path) for path in SHARED.iterdir()} if world.confined else set[str]()
    for disk in world.disks.values():
        found |= {str(path.relative_to(world.folder)) for path in (disk / "tmp").rglob("*")}
    return found
