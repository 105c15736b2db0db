"""What /proc knows of the run's processes: which there are, and what they hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "CHAOS_RUN"
"""Stands in the environment of each process of a run, and of all that those start."""
SEGMENT: Final = "memfd:wherry-segment"


def marked(mark: str) -> list[int]:
    """Give the processes of a run, this one aside."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return sorted(found)


def called(pid: int) -> str:
    """Give the command of a process."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return " ".join(word.decode(errors="replace") for word in words).strip()
    return "gone"


def innermost(pid: int) -> int:
    """Give the last of a line of only children: what `unshare --fork` runs."""
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return pid
        if len(children) != 1 or "unshare" not in called(pid):
            return pid
        pid = int(children[0])


def foreign(pid: int) -> set[int]:
    """Give the inodes of the segments of others that a process maps or has descriptors of.

    A process writes into its own; those of others it is given to read.
    """
    own, read = set[int](), set[int]()
    with suppress(OSError), Path(f"/proc/{pid}/maps").open() as lines:
        for line in lines:
            if SEGMENT in line:
                _, access, _, _, inode, *_ = line.split()
                (own if "w" in access else read).add(int(inode))
    for number, name in _descriptors(pid):
        if SEGMENT in name:
            with suppress(OSError):
                inode = Path(f"/proc/{pid}/fd/{number}").stat().st_ino
                (own if _writes(pid, number) else read).add(inode)
    return read - own


def _writes(pid: int, descriptor: str) -> bool:
    for line in Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def sockets(pid: int) -> int:
    """Give how many sockets a process has."""
    return sum(name.startswith("socket:") for _, name in _descriptors(pid))


def threads(pid: int) -> int:
    """Give how many threads a process has."""
    with suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    return 0


def resident(pid: int) -> int:
    """Give the bytes of memory that a process has in use."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def address_space(pid: int) -> int:
    """Give the bytes of addresses that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Give how many descriptors a process has."""
    return sum(1 for _ in _descriptors(pid))


def end(pids: Iterable[int]) -> None:
    """Kill processes, also such that stand still."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descriptors(pid: int) -> Iterator[tuple[str, str]]:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                yield descriptor.name, str(descriptor.readlink())
