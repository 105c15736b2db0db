"""The processes of a run: agents that live over rounds, callers, and what they stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from platformdirs import user_cache_path

from chaos import data, processes, served
from chaos.frames import Hearing
from chaos.network import Network
from chaos.plan import AGENTS, CALLERS, TLS

_START_S: Final = 60.0
_DISK_MB: Final = 64
_LIBC: Final = "clock.so"
SHARED: Final = Path("/dev/shm")
"""Of the machine if the run is not confined; others write there too then, so nobody looks."""


class Variant(Struct, frozen=True):
    """With what an agent or caller is started that is not as it should be.

    Attributes
    ----------
    steady_s, wall_s : float
        By how much its clocks are ahead of the machine's.
    certificate_s : float or None
        How long from now its certificate is valid.
    memory_bytes : int
        That an agent keeps for its callers; 0: as much as it does otherwise.
    """

    steady_s: float = 0.0
    wall_s: float = 0.0
    certificate_s: float | None = None
    memory_bytes: int = 0

    @property
    def calm(self) -> bool:
        """Whether nothing is wrong with it."""
        return self == Variant()


class Agent(Struct):
    """A process that is a device."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    pid: int
    log: Path
    variant: Variant

    @property
    def alive(self) -> bool:
        """Whether it runs or stands still."""
        return self.process.poll() is None


class Caller(Struct):
    """A process that asks; `pauses_s` is how long it stood still in this round."""

    name: str
    process: subprocess.Popen[bytes]
    pid: int
    log: Path
    hearing: Hearing
    variant: Variant
    ready: bool = False
    killed: bool = False


class World:
    """The agents and callers of one carrier.

    Parameters
    ----------
    folder : Path
        Of its own: data, keys, sockets, logs, and a disk for each process.
    mark : str
        Stands in the environment of every process.
    confined : bool
        Whether there may be namespaces, mounts and other clocks.
    plant : str
        A fault of our own that its processes are started with; none if empty.
    """

    def __init__(
        self, carrier: str, folder: Path, mark: str, *, confined: bool, plant: str = ""
    ) -> None:
        self.carrier, self.folder, self.mark, self.plant = carrier, folder, mark, plant
        self.confined = confined
        if confined:
            _mount("tmpfs", "size=1g", SHARED)
        self.data = data.make(folder / "data")
        self.right = data.expected(self.data)
        self.network = Network() if carrier == TLS else None
        if self.network is not None:
            for name in (*AGENTS, *CALLERS):
                self.network.add(name)
        self.certified: dict[str, float | None] = {}
        self.agents: dict[str, Agent] = {}
        self.callers: dict[str, Caller] = {}
        self.disks = {name: self._disk(name) for name in (*AGENTS, *CALLERS)}
        served.prepare(self)

    def address(self, name: str) -> str:
        """Give where an agent listens."""
        if self.network is None:
            # As short as may be: a socket's path has 107 characters at most.
            return f"unix:{self.folder}/{name}.sock"
        return f"grpc+tls://{self.network.hosts[name].address}:8815"

    def start_agent(self, name: str, variant: Variant | None = None) -> None:
        """Start an agent; it may take a while until it listens (`await_agents`)."""
        chosen = variant or Variant()
        words = served.agent_command(self, name, chosen)
        log = self.folder / f"{name}.log"
        process = self._started(name, words, chosen, log, pipes=False)
        pid = processes.innermost(process.pid) if chosen.steady_s else process.pid
        self.agents[name] = Agent(name, self.address(name), process, pid, log, chosen)

    def start_caller(self, name: str, variant: Variant | None = None) -> Caller:
        """Start a caller; it says when it is ready."""
        chosen = variant or Variant()
        words = served.caller_command(self, name, chosen)
        log = self.folder / f"{name}.log"
        process = self._started(name, words, chosen, log, pipes=True)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        caller = Caller(name, process, process.pid, log, Hearing(), chosen)
        self.callers[name] = caller
        return caller

    def await_agents(self) -> list[str]:
        """Wait until all agents answer; give what is wrong with those that do not."""
        deadline = time.monotonic() + _START_S
        wrong = []
        for agent in self.agents.values():
            if not agent.variant.calm:
                self._await_listening(agent)
                continue
            while True:
                said = served.health(self, agent, 2.0)
                if not isinstance(said, str):
                    break
                if not agent.alive or time.monotonic() > deadline:
                    wrong.append(f"{agent.name} does not answer: {said}; {last_words(agent.log)}")
                    break
                time.sleep(0.02)
        return wrong

    def _await_listening(self, agent: Agent) -> None:
        """Wait for an agent that may not want to serve, or be refused by all, as it is started."""
        deadline = time.monotonic() + _START_S
        while agent.alive and time.monotonic() < deadline:
            with suppress(OSError):
                served.connected(self, agent, 1.0).close()
                break
            time.sleep(0.02)
        if agent.variant.steady_s:
            agent.pid = processes.innermost(agent.process.pid)

    def kill(self, name: str) -> None:
        """End a process as the kernel does, without a word."""
        it = self.agents.get(name) or self.callers[name]
        if isinstance(it, Caller):
            it.killed = True
        processes.end([it.pid])
        it.process.wait(timeout=20)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to an agent or caller that may be gone."""
        it = self.agents.get(name) or self.callers.get(name)
        if it is not None and it.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(it.pid, number)

    def stop(self) -> list[str]:
        """End everything as an operator does; give what did not end, or left something."""
        wrong = []
        for caller in self.callers.values():
            assert caller.process.stdin is not None
            with suppress(OSError):
                caller.process.stdin.close()
        for agent in self.agents.values():
            self.signal(agent.name, signal.SIGTERM)
        for it in (*self.callers.values(), *self.agents.values()):
            try:
                it.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                wrong.append(f"{it.name} does not end within 15 s of being asked to")
                processes.end([it.pid])
                it.process.wait(timeout=20)
        if self.network is not None:
            self.network.close()
        return wrong

    def _disk(self, name: str) -> Path:
        """Give a folder for what a process keeps: a small disk of its own, if that may be."""
        disk = self.folder / "disks" / name
        disk.mkdir(parents=True)
        if self.confined:
            _mount("tmpfs", f"size={_DISK_MB}m,mode=0700", disk)
        for part in ("tmp", "home", "cache", "written", "work"):
            (disk / part).mkdir()
        if self.confined:
            # Compiled programs are read from the user's cache; new ones go to the small disk.
            user_cache_path("wherry").mkdir(parents=True, exist_ok=True)
            below = f"lowerdir={user_cache_path()},upperdir={disk}/written,workdir={disk}/work"
            _mount("overlay", below, disk / "cache")
        return disk

    def _started(
        self, name: str, words: list[str], variant: Variant, log: Path, *, pipes: bool
    ) -> subprocess.Popen[bytes]:
        before: list[str] = []
        if self.network is not None:
            before += self.network.inside(name)
        if variant.steady_s:
            ahead = str(int(variant.steady_s))
            before += ["unshare", "-T", "--monotonic", ahead, "--boottime", ahead, "--fork"]
            before += ["--kill-child"]
        with log.open("ab") as out:
            return subprocess.Popen(
                [*before, *words],
                env=self._environment(name, variant),
                cwd=self.disks[name],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                bufsize=0,
            )

    def _environment(self, name: str, variant: Variant) -> dict[str, str]:
        disk = self.disks[name]
        env = {
            **os.environ,
            processes.MARK: self.mark,
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "HOME": str(disk / "home"),
            "TMPDIR": str(disk / "tmp"),
            "XDG_STATE_HOME": str(disk / "home"),
            "XDG_CACHE_HOME": str(user_cache_path()),
            "CHAOS_PLANT": self.plant,
        }
        if self.confined:
            env["XDG_CACHE_HOME"] = str(disk / "cache")
        if variant.wall_s:
            env["LD_PRELOAD"] = str(clock_library(self.folder))
            env["CHAOS_AHEAD_S"] = str(int(variant.wall_s))
        return env


def _mount(kind: str, options: str, where: Path) -> None:
    words = ["mount", "-t", kind, "-o", options, "none", str(where)]
    subprocess.run(words, check=True, timeout=20)


def clock_library(folder: Path) -> Path:
    """Give the library that shifts a process's wall clock; it is compiled when first asked for."""
    library = folder / _LIBC
    if not library.exists():
        source = Path(__file__).with_name("clock.c")
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
        subprocess.run(command, check=True, timeout=60)
    return library


def last_words(log: Path) -> str:
    """Give the end of what a process wrote down."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return " | ".join(lines[-3:])[-400:] or "it wrote nothing"
