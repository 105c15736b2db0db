"""How agents and callers are started and asked how they are."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Final

from chaos.plan import AGENTS, APART, CALLERS, CSDS, EMULATED, MIRRORED
from wherry.base.errors import WherryError
from wherry.serve import requests, wire
from wherry.serve.dial import dial
from wherry.serve.keys import init, issue

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.world import Agent, Variant, World
    from wherry.serve.identity import Role

LEASE_S: Final = 2.0
_PROFILES: Final = {"csd0": "smartssd", "csd1": "smartssd", "dpu0": "bluefield-3"}
_DAY_S: Final = 86_400
_WATCHER: Final = "watcher"
"""The run's own certificate."""
_DATASET: Final = """
[[dataset]]
name = "{}"
devices = {}
layout = "files"
"""
_LINK: Final = """
[[link]]
ends = ["{}", "{}"]
bandwidth_gb_per_s = {{ value = {}, source = "estimate: a round figure, from no measurement" }}
latency_us = {{ value = 1.0, source = "estimate: a round figure, from no measurement" }}
duplex = "full"
"""


def prepare(world: World) -> None:
    """Lay out what agents and callers read: keys, and a system's file for each caller."""
    if world.network is not None:
        init(world.folder / "keys", int(time.time()) - 10 * _DAY_S, 3650)
        for name in (*AGENTS, *CALLERS, _WATCHER):
            _issue(world, name, None, again=False)
    for name in CALLERS:
        folder = world.folder / "systems" / name
        folder.mkdir(parents=True)
        (folder / "agents.toml").write_text(_system(world, name))


def agent_command(world: World, name: str, variant: Variant) -> list[str]:
    """Give the command of an agent."""
    words = ["agent", "--name", name, "--profile", _PROFILES[name]]
    words += ["--listen", world.address(name), "--lease", str(LEASE_S)]
    tenants = world.folder / f"{name}.tenants.toml"
    tenants.write_text(_tenants(world, variant))
    words += ["--tenants", str(tenants)]
    if name in world.data:
        words += ["--data", str(world.data[name])]
    if world.network is not None:
        words += ["--keys", str(_keys(world, name, variant))]
    if world.carrier == EMULATED:
        words.append("--emulate")
    return [sys.executable, "-m", "chaos.child", *words]


def caller_command(world: World, name: str, variant: Variant) -> list[str]:
    """Give the command of a caller."""
    if world.network is not None:
        _keys(world, name, variant)
    system = world.folder / "systems" / name / "agents.toml"
    return [sys.executable, "-m", "chaos.child", "caller", str(system)]


def connected(world: World, agent: Agent, timeout_s: float) -> socket.socket:
    """Connect to an agent as a stranger would."""
    if agent.address.startswith("unix:"):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.settimeout(timeout_s)
        stranger.connect(agent.address.removeprefix("unix:"))
        return stranger
    host, _, port = agent.address.rpartition("/")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout_s)


def health(world: World, agent: Agent, timeout_s: float) -> dict[str, int] | str:
    """Give what an agent keeps; or why it does not say."""
    keys = str(world.folder / "keys" / _WATCHER) if world.network is not None else ""
    try:
        connection = dial(agent.address, agent.name, keys)
        try:
            asked = requests.to_bytes(requests.Health())
            reply = requests.reply_of(connection.ask(asked, timeout_s))
        finally:
            connection.close()
    except (WherryError, OSError) as problem:
        return f"{type(problem).__name__}: {problem}"
    if not isinstance(reply, requests.Healthy):
        return str(reply)
    return {
        "programs running": reply.running,
        "requests waiting": reply.waiting,
        "queries": reply.queries,
        "pieces": reply.pieces,
        "bytes of segments": reply.segment_bytes,
    }


def greeting(world: World) -> bytes:
    """Give a request that an agent answers; over TLS, bytes that it does not understand."""
    asked = requests.to_bytes(requests.Health())
    if world.network is not None:
        return asked
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.Stream(ours, 1 << 10).send([(wire.REQUEST, asked)], time.monotonic() + 1.0)
        return theirs.recv(1 << 10)


def _keys(world: World, name: str, variant: Variant) -> Path:
    """Give the folder of a process's certificate, which is issued anew if another is needed."""
    if world.certified.get(name) != variant.certificate_s:
        now = time.time()
        until = None if variant.certificate_s is None else now + variant.certificate_s
        _issue(world, name, until, again=True)
        world.certified[name] = variant.certificate_s
    return world.folder / "keys" / name


def _issue(world: World, name: str, until_s: float | None, *, again: bool) -> None:
    """Make a certificate that ends then; none: in a year."""
    assert world.network is not None
    agent = name in AGENTS
    since, days = time.time() - _DAY_S, 365
    if until_s is not None:
        since, days = until_s - _DAY_S, 1
    addresses = (world.network.hosts[name].address,) if agent else ()
    role: Role = "agent" if agent else "client"
    keys = world.folder / "keys"
    issue(keys, name, role, int(since), addresses=addresses, days=days, again=again)


def _tenants(world: World, variant: Variant) -> str:
    """Give the file that says who may ask: each caller, and this run, which sees how all are."""
    names = (*CALLERS, _WATCHER)
    who = [f"certificate {n}" for n in names] if world.network else [f"uid {os.getuid()}"]
    told = f'[[tenant]]\nname = "chaos"\nwho = {json.dumps(who)}\ndatasets = ["*"]\n'
    if variant.memory_bytes:
        told += f"[tenant.bounds]\nmemory_bytes = {variant.memory_bytes}\n"
    return told


def _system(world: World, caller: str) -> str:
    """Give the system's file of a caller: two drives and a DPU behind one switch, and a host."""
    keys = f'keys = "../../keys/{caller}"' if world.network is not None else ""
    head = (
        f'[system]\nname = "agents"\ntitle = "Rounds of faults"\nhost = "host0"\n'
        f'client = "client"\n{keys}\n'
    )
    parts = [
        head,
        '[[device]]\nname = "host0"\nprofile = "sapphire-rapids"\n',
        *(
            f'[[device]]\nname = "{name}"\nprofile = "{_PROFILES[name]}"\n'
            f'agent = "{world.address(name)}"\n'
            for name in AGENTS
        ),
        '[[switch]]\nname = "pcie0"\n',
        _DATASET.format(APART, json.dumps(CSDS)),
        _DATASET.format(MIRRORED, json.dumps(CSDS)) + f"parts = {len(CSDS)}\n",
        _LINK.format("client", "dpu0", 11.8),
        _LINK.format("client", "host0", 3.0),
        *(_LINK.format(name, "pcie0", 3.3) for name in CSDS),
        _LINK.format("dpu0", "pcie0", 50.0),
        _LINK.format("pcie0", "host0", 50.0),
    ]
    return "\n".join(parts)
