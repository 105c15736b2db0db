"""An agent: a station that listens, until it is told to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.devices.driver import Driver
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.here import HereDriver
from wherry.devices.proc import usable_cores
from wherry.devices.profile import Profile
from wherry.devices.system import UNIX
from wherry.render.team import Work, alone
from wherry.run.crew import crew
from wherry.serve import requests
from wherry.serve.answers import Answers
from wherry.serve.catalogue import Catalogue
from wherry.serve.dial import POSSIBLE, dial
from wherry.serve.flight_address import flight_address
from wherry.serve.flight_keys import Tls
from wherry.serve.gate import Gate
from wherry.serve.guard import door_of
from wherry.serve.load import NS_PER_S, Bounds, Limits
from wherry.serve.log import Log, written_to
from wherry.serve.loopback import uid_of
from wherry.serve.measures import Family, of_admission, of_keeping, of_memory
from wherry.serve.metrics import Exposed, observe, traced
from wherry.serve.peer import Peer
from wherry.serve.served import Served
from wherry.serve.station import Settings, Station
from wherry.serve.suppliers import Suppliers
from wherry.serve.tenants import Bounds as TenantBounds
from wherry.serve.tenants import Tenants
from wherry.serve.unix import Listener

SWEEP_S: Final = 0.5
"""How often what nobody speaks of any more is looked for."""


class Listening(Protocol):
    """A listener of any kind."""

    def close(self) -> object:
        """Serve nobody any more."""


class Asked(Struct, frozen=True):
    """What an agent is asked to be.

    Attributes
    ----------
    name : str
        The device's name in systems.
    data : Path, optional
        Folder of its datasets.
    listen : sequence of str
        Addresses.
    keys : str
        Folder of its certificate.
    tenants : Path, optional
        Who may ask, and for what; without it only this process's user may, for everything.
    log : Path, optional
        Where refusals are written, as JSON lines; standard error, if not given.
    lease_s : float
        How long it keeps what nobody speaks of.
    running : int
        Requests that work at once; 0: as many as suit its cores (docs/decisions/0017).
    metrics : str
        HOST:PORT of this machine alone where its metrics are read; empty: nowhere.
    otel : bool
        Whether it tells OpenTelemetry what it does.
    """

    name: str
    profile: Profile
    listen: tuple[str, ...]
    data: Path | None = None
    emulate: bool = False
    keys: str = ""
    tenants: Path | None = None
    log: Path | None = None
    lease_s: float = 15.0
    running: int = 0
    metrics: str = ""
    otel: bool = False


class Agent:
    """A station and its listeners, from the moment it is made.

    Parameters
    ----------
    answers : callable, optional
        Gives what answers SQL that comes by Flight.

    Raises
    ------
    InputError
        If it cannot listen at an address, or has none; or a file is not as it should be.
    """

    def __init__(self, asked: Asked, answers: Callable[[Station], Answers] | None = None) -> None:
        if not asked.listen:
            raise InputError(f"an agent listens somewhere; {POSSIBLE}")
        log = Log(asked.name, written_to(asked.log), time.time_ns)
        keys = Path(asked.keys) if asked.keys else None
        self.door = door_of(log, keys=keys, tenants=asked.tenants)
        guard = self.door.guard
        self._suppliers = Suppliers(lambda address: dial(address, "", asked.keys))
        self.station = station_of(asked, guard.tenants, self._suppliers, guard.log.refused)
        self.answers = None if answers is None else answers(self.station)
        self.listeners: list[Listening] = []
        self._handle = traced(self.station.handle) if asked.otel else self.station.handle
        try:
            for address in asked.listen:
                self.listeners.append(self._listener(address))
            if asked.metrics:
                self.listeners.append(Exposed(asked.metrics, self.measured))
            if asked.otel:
                observe(self.measured)
        except BaseException:
            self.close()
            raise

    def serve(self, stop: threading.Event) -> None:
        """Let go of what nobody speaks of, until `stop` is set."""
        while True:
            # Without memory now, there may be some in a moment; an agent does not end for it.
            with suppress(MemoryError):
                if stop.wait(SWEEP_S):
                    return
                self.station.sweep()

    def measured(self) -> Iterator[Family]:
        """Give the agent's numbers, as they are now."""
        unix = [each for each in self.listeners if isinstance(each, Listener)]
        visits = list(self.station.visits)
        pieces = sum(len(visit.carrier.pieces) for visit in visits)
        connections, lent = sum(each.connections for each in unix), sum(each.lent for each in unix)
        yield from of_admission(self.station.gate.counts(), self.station.gate.load())
        yield from of_keeping(len(visits), pieces, connections, lent)
        yield from of_memory(self.station.memory())

    def close(self) -> None:
        """Listen no more, and let go of everything."""
        for listener in self.listeners:
            listener.close()
        self.station.close()
        self._suppliers.close()

    def _listener(self, address: str) -> Listening:
        if address.startswith(UNIX):
            known = partial(self.door.guard.of_uid, where=address)
            return Listener(address.removeprefix(UNIX), self._served(known))
        if address.startswith("grpc"):
            return self._flight(address)
        raise InputError(f"{address!r} is no address to listen at; {POSSIBLE}")

    def _served(self, known: Callable[..., Peer]) -> Served:
        return Served(known, self._handle, self.station.taken, self.door.guard.log.refused)

    def _flight(self, address: str) -> Listening:
        # Takes 60 ms to import, which agents of one host need not wait for.
        from wherry.serve.flight import FlightListener  # noqa: PLC0415

        shown = self.door.credentials
        tls = None if shown is None else Tls(shown.root, shown.certificate, shown.key)
        plain = not flight_address(address).tls
        served = self._served(self._of_call)
        return FlightListener(address, served, tls=None if plain else tls, answers=self.answers)

    def _of_call(self, said: str, where: str) -> Peer:
        """Give the peer of a call: by its certificate or, on loopback, by its user."""
        guard = self.door.guard
        return guard.of_certificate(said, where) if said else guard.of_uid(uid_of(where), where)


def station_of(
    asked: Asked,
    tenants: Callable[[], Tenants],
    suppliers: Suppliers,
    refused: Callable[[Peer, str, str], None],
) -> Station:
    """Give the core of an agent."""
    driver: Driver
    if asked.emulate:
        driver, team = EmulatedDriver(asked.name, asked.profile), alone
    else:
        driver, team = HereDriver(asked.name, asked.profile), _on_all_cores
    take = partial(suppliers.take, within_s=requests.TAKE_S)
    settings = Settings(tenants, asked.emulate, asked.lease_s, team=team, refused=refused)
    gate = gate_of(asked.running or _slots(usable_cores(), emulated=asked.emulate), tenants)
    return Station(driver, Catalogue(asked.data), take, settings, gate)


def _slots(cores: int, *, emulated: bool) -> int:
    """Give how many requests work at once: an emulated one takes one core, a real one all."""
    return cores if emulated else min(2, max(1, cores // 2))


def gate_of(running: int, tenants: Callable[[], Tenants]) -> Gate:
    """Give the gate of an agent that works on so many requests at once."""
    return Gate(Limits(running), lambda name: _admitted(tenants().tenant(name).bounds))


@cache
def _admitted(bounds: TenantBounds) -> Bounds:
    return Bounds(bounds.weight, bounds.running, bounds.waiting, bounds.wait_s * NS_PER_S)


def _on_all_cores(work: Work) -> None:
    crew().run(work)


def until_told(agent: Agent, ready: Callable[[Sequence[str]], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is called once it listens."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        ready(())
        agent.serve(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        agent.close()
