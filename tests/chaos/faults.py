"""How each fault is done, and how it is undone."""

from __future__ import annotations

import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from chaos import processes, served
from chaos.plan import FAULTS, Strike
from chaos.world import Variant, World

Undo = Callable[[], None]
_MB: Final = 1 << 20


def struck(world: World, strike: Strike) -> Undo:
    """Do a fault; give what undoes it, which may be called again."""
    undo = _STRIKES[strike.fault](world, strike)
    done = False

    def once() -> None:
        nonlocal done
        if not done:
            done = True
            undo()

    return once


def variant(strike: Strike) -> Variant:
    """Give with what a process is started for a fault that lasts a whole round."""
    if strike.fault == "steady clock":
        # No clock may say less than nothing.
        return Variant(steady_s=max(strike.amount, 60.0 - time.monotonic()))
    if strike.fault == "wall clock":
        return Variant(wall_s=strike.amount)
    if strike.fault == "tenant's memory":
        return Variant(memory_bytes=int(strike.amount))
    return Variant(certificate_s=strike.amount)


def _kill_agent(world: World, strike: Strike) -> Undo:
    world.kill(strike.target)
    return lambda: world.start_agent(strike.target)


def _kill_caller(world: World, strike: Strike) -> Undo:
    world.kill(strike.target)

    def undo() -> None:
        world.start_caller(strike.target)

    return undo


def _pause(world: World, strike: Strike) -> Undo:
    world.signal(strike.target, signal.SIGSTOP)
    return lambda: world.signal(strike.target, signal.SIGCONT)


def _link(change: Callable[[World, Strike], None]) -> Callable[[World, Strike], Undo]:
    def strike_link(world: World, strike: Strike) -> Undo:
        assert world.network is not None
        change(world, strike)
        network = world.network
        return lambda: network.heal(strike.target)

    return strike_link


def _half_open(world: World, strike: Strike) -> Undo:
    """End an agent while its link is gone: no peer hears of it, nobody answers any more."""
    assert world.network is not None
    network = world.network
    network.down(strike.target)
    world.kill(strike.target)
    network.heal(strike.target)

    def undo() -> None:
        world.start_agent(strike.target)

    return undo


def _strangers(world: World, strike: Strike) -> Undo:
    """Connect to an agent and say nothing, or half of something, or never read what it says."""
    agent = world.agents[strike.target]
    held: list[socket.socket] = []
    for number in range(int(strike.amount)):
        with suppress(OSError):
            stranger = served.connected(world, agent, 1.0)
            held.append(stranger)
            stranger.setblocking(False)
            said = (b"", b"\x00\x00", served.greeting(world) * 200)[number % 3]
            stranger.send(said)

    def undo() -> None:
        for stranger in held:
            stranger.close()

    return undo


def _full_disk(world: World, strike: Strike) -> Undo:
    filler = world.disks[strike.target] / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(_MB))
    with suppress(OSError), filler.open("ab", buffering=0) as out:
        while True:
            out.write(b"\0")
    return lambda: filler.unlink(missing_ok=True)


def _limited(world: World, strike: Strike, which: int, limit: Callable[[int], int]) -> Undo:
    pid = world.agents[strike.target].pid
    # Of two at once, the first to end ends both: what one found is not what there was.
    before = resource.getrlimit(which)
    resource.prlimit(pid, which, (limit(pid), before[1]))

    def undo() -> None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, which, before)

    return undo


def _full_memory(world: World, strike: Strike) -> Undo:
    more = int(strike.amount * _MB)
    return _limited(
        world, strike, resource.RLIMIT_AS, lambda pid: processes.address_space(pid) + more
    )


def _no_descriptors(world: World, strike: Strike) -> Undo:
    """The next descriptors would be above the limit; the highest in use says where that is."""
    more = int(strike.amount)

    def limit(pid: int) -> int:
        return max(int(name.name) for name in Path(f"/proc/{pid}/fd").iterdir()) + 1 + more

    return _limited(world, strike, resource.RLIMIT_NOFILE, limit)


def _down(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.down(strike.target)


def _blackhole(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.blackhole(strike.target)


def _deaf(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.lose(strike.target, 1.0, ("ingress",))


def _mute(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.lose(strike.target, 1.0, ("egress",))


def _loss(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.lose(strike.target, strike.amount)


def _slow(world: World, strike: Strike) -> None:
    assert world.network is not None
    world.network.slow(strike.target, strike.amount)


_STRIKES: Final[dict[str, Callable[[World, Strike], Undo]]] = {
    "kill agent": _kill_agent,
    "kill caller": _kill_caller,
    "pause agent": _pause,
    "pause caller": _pause,
    "link down": _link(_down),
    "blackhole": _link(_blackhole),
    "deaf": _link(_deaf),
    "mute": _link(_mute),
    "loss": _link(_loss),
    "slow link": _link(_slow),
    "half open": _half_open,
    "strangers": _strangers,
    "full disk": _full_disk,
    "full memory": _full_memory,
    "no descriptors": _no_descriptors,
}
assert set(_STRIKES) == {name for name, kind in FAULTS.items() if not kind.whole}
