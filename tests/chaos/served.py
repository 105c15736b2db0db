"""How agents and callers are started and asked how they are: the one place that knows their wire."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from chaos.world import Agent, Variant, World

LEASE_S: Final = 2.0


def prepare(world: World) -> None:
    """Lay out what agents and callers read."""


def agent_command(world: World, name: str, variant: Variant) -> list[str]:
    """Give the command of an agent."""
    data = str(world.data.get(name, world.folder))
    return [sys.executable, "-m", "chaos.standin", "agent", name, world.address(name), data]


def caller_command(world: World, name: str, variant: Variant) -> list[str]:
    """Give the command of a caller."""
    agents = [world.address(agent) for agent in world.data]
    return [sys.executable, "-m", "chaos.standin", "caller", name, *agents]


def connected(world: World, agent: Agent, timeout_s: float) -> socket.socket:
    """Connect to an agent as a stranger would."""
    if agent.address.startswith("unix:"):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.settimeout(timeout_s)
        stranger.connect(agent.address.removeprefix("unix:"))
        return stranger
    host, _, port = agent.address.rpartition("/")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout_s)


def greeting(world: World) -> bytes:
    """Give a request that an agent answers."""
    return b'{"ask": "rows", "id": 0}\n'


def health(world: World, agent: Agent, timeout_s: float) -> dict[str, int] | str:
    """Give what an agent keeps; or why it does not say."""
    try:
        with connected(world, agent, timeout_s) as asking:
            asking.sendall(b'{"health": 1}\n')
            return json.loads(asking.makefile("rb").readline())
    except (OSError, ValueError) as problem:
        return f"{type(problem).__name__}: {problem}"
