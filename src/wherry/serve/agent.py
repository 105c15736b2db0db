"""An agent: a station that listens, until it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.devices.cpu import CpuDriver
from wherry.devices.driver import Driver
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.profile import Profile
from wherry.devices.system import UNIX
from wherry.render.team import Work, alone
from wherry.run.crew import crew
from wherry.serve import requests
from wherry.serve.catalogue import Catalogue
from wherry.serve.dial import POSSIBLE, dial
from wherry.serve.peer import Peer
from wherry.serve.received import Received
from wherry.serve.station import Settings, Station
from wherry.serve.tenants import Tenants, only_user
from wherry.serve.unix import Listener, Served

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
    lease_s : float
        How long it keeps what nobody speaks of.
    """

    name: str
    profile: Profile
    listen: tuple[str, ...]
    data: Path | None = None
    emulate: bool = False
    keys: str = ""
    lease_s: float = 15.0


class Agent:
    """A station and its listeners, from the moment it is made.

    Raises
    ------
    InputError
        If it cannot listen at an address, or has none.
    """

    def __init__(self, asked: Asked) -> None:
        if not asked.listen:
            raise InputError(f"an agent listens somewhere; {POSSIBLE}")
        tenants = only_user(os.geteuid())
        self.station = station_of(asked, lambda: tenants)
        self.listeners: list[Listening] = []
        self._tenants: Callable[[], Tenants] = lambda: tenants
        try:
            for address in asked.listen:
                self.listeners.append(self._listener(address))
        except BaseException:
            self.close()
            raise

    def serve(self, stop: threading.Event) -> None:
        """Let go of what nobody speaks of, until `stop` is set."""
        while not stop.wait(SWEEP_S):
            self.station.sweep()

    def close(self) -> None:
        """Listen no more, and let go of everything."""
        for listener in self.listeners:
            listener.close()
        self.station.close()

    def _listener(self, address: str) -> Listening:
        if address.startswith(UNIX):
            served = Served(self._user, self.station.handle, self.station.taken)
            return Listener(address.removeprefix(UNIX), served)
        raise InputError(f"{address!r} is no address to listen at; {POSSIBLE}")

    def _user(self, uid: int) -> Peer:
        return Peer(self._tenants().of_uid(uid).name, f"unix uid {uid}")


def station_of(asked: Asked, tenants: Callable[[], Tenants]) -> Station:
    """Give the core of an agent."""
    driver: Driver
    if asked.emulate:
        driver, team = EmulatedDriver(asked.name, asked.profile), alone
    else:
        driver, team = CpuDriver(asked.name, asked.profile), _on_all_cores
    take = partial(_take, asked.keys)
    settings = Settings(tenants, asked.emulate, asked.lease_s, team=team)
    return Station(driver, Catalogue(asked.data), take, settings)


def _on_all_cores(work: Work) -> None:
    crew().run(work)


def _take(keys: str, address: str, ticket: bytes) -> Received:
    connection = dial(address, "", keys)
    try:
        return connection.take(ticket, requests.TAKE_S)
    finally:
        connection.close()


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
