"""A network of the run's own: a namespace a process, joined by a bridge; and what goes wrong in it.

The run itself is in namespaces of its own (`confined`), so nothing of the machine is touched, and
the kernel takes everything away with the run's last process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

CONFINED: Final = "CHAOS_CONFINED"
_SUBNET: Final = "10.77.0"
_WAYS: Final = (
    ("unshare", "-nmp"),
    ("unshare", "-rnmp"),
)
_END: Final = ("--fork", "--mount-proc", "--kill-child")


def confining() -> tuple[tuple[str, ...], str]:
    """Give the command that runs another in namespaces of its own; or none, and why not."""
    said = "no unshare on this machine"
    for way in _WAYS:
        try:
            probe = [*way, *_END, "ip", "link", "add", "name", "chaos0", "type", "bridge"]
            done = subprocess.run(probe, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as problem:
            said = str(problem)
            continue
        if done.returncode == 0:
            return (*way, *_END), ""
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
    return (), said


class Host(Struct):
    """A namespace: kept by a process that sleeps in it; the bridge's end of its link is `port`."""

    name: str
    address: str
    port: str
    keeper: subprocess.Popen[bytes]


class Network:
    """Hosts by name, each with one link to all others.

    Faults name a host. `heal` puts its link back to what it was.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "name", "br0", "type", "bridge")
        _ip("link", "set", "br0", "up")
        _ip("addr", "add", f"{_SUBNET}.1/24", "dev", "br0")

    def add(self, name: str) -> Host:
        """Add a host; give it."""
        number = len(self.hosts) + 10
        # The keeper waits for its standard input, so it ends with the run.
        keeper = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        host = Host(name, f"{_SUBNET}.{number}", f"p{number}", keeper)
        _in_namespace_of_its_own(keeper.pid)
        _ip("link", "add", "name", host.port, "type", "veth", "peer", "name", "eth0",
            "netns", str(keeper.pid))  # fmt: skip
        _ip("link", "set", host.port, "master", "br0", "up")
        _run(*self._inside(host), "ip", "link", "set", "lo", "up")
        self.hosts[name] = host
        self._address(host)
        return host

    def inside(self, name: str) -> tuple[str, ...]:
        """Give what a command begins with to run at a host."""
        return self._inside(self.hosts[name])

    def down(self, name: str) -> None:
        """Pull the plug: the host sees that its link is gone."""
        _run(*self.inside(name), "ip", "link", "set", "eth0", "down")

    def blackhole(self, name: str) -> None:
        """Have the host drop what it sends to others; connections are refused at once."""
        _run(*self.inside(name), "ip", "route", "replace", "blackhole", f"{_SUBNET}.0/25")
        _run(*self.inside(name), "ip", "route", "replace", "blackhole", f"{_SUBNET}.128/25")

    def lose(self, name: str, share: float, ways: tuple[str, ...] = ("ingress", "egress")) -> None:
        """Lose this share of packets to the host (`ingress`), from it (`egress`), or both.

        A classic BPF program compares a random number; netem is not in every kernel.
        """
        at_least = min(int(share * 2**32), 2**32 - 1)
        program = f"4,32 0 0 4294963256,53 0 1 {at_least},6 0 0 4294967295,6 0 0 2"
        _run(*self.inside(name), "tc", "qdisc", "replace", "dev", "eth0", "clsact")
        for way in ways:
            _run(*self.inside(name), "tc", "filter", "replace", "dev", "eth0", way, "protocol",
                 "all", "prio", "1", "handle", "1", "bpf", "da", "bytecode", program)  # fmt: skip

    def slow(self, name: str, mbit: float) -> None:
        """Let so many megabits a second leave the host."""
        rate, burst = f"{max(int(mbit * 1e6), 8000)}bit", "16kb"
        _run(*self.inside(name), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
             rate, "burst", burst, "latency", "200ms")  # fmt: skip

    def heal(self, name: str) -> None:
        """Put the link of a host back to what it was."""
        inside = self.inside(name)
        for undo in (
            ("tc", "qdisc", "del", "dev", "eth0", "clsact"),
            ("tc", "qdisc", "del", "dev", "eth0", "root"),
            ("ip", "route", "del", "blackhole", f"{_SUBNET}.0/25"),
            ("ip", "route", "del", "blackhole", f"{_SUBNET}.128/25"),
        ):
            subprocess.run([*inside, *undo], capture_output=True, check=False)
        self._address(self.hosts[name])

    def close(self) -> None:
        """End the hosts' keepers; their namespaces go with them."""
        for host in self.hosts.values():
            assert host.keeper.stdin is not None
            host.keeper.stdin.close()
            host.keeper.wait(timeout=10)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", "br0")

    def _inside(self, host: Host) -> tuple[str, ...]:
        return ("nsenter", "-t", str(host.keeper.pid), "-n", "--")

    def _address(self, host: Host) -> None:
        inside = self._inside(host)
        _run(*inside, "ip", "addr", "replace", f"{host.address}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")


def _in_namespace_of_its_own(pid: int) -> None:
    ours = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/ns/net").readlink() == ours:
        if time.monotonic() > deadline:
            sys.exit(f"chaos: process {pid} stays in the run's network namespace")
        time.sleep(0.005)


def confined() -> bool:
    """Tell whether this process is in namespaces that `confining` made."""
    return os.environ.get(CONFINED) == "1"


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, capture_output=True, check=True, timeout=20)
