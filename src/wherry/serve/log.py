"""What an agent refused, as JSON lines: one a refusal, so many a second at most, none forged.

Everything that came from outside stands in JSON strings, with every character that is not printable
ASCII escaped: a name cannot end a line, colour a terminal or turn text around. Text is cut. When
refusals come faster than they are written, the next line says how many were left out, so that the
counts are right. A log that cannot be written loses lines and counts them; no request fails for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

from wherry.base.errors import InputError, WherryError
from wherry.serve.peer import Peer

LINES_A_SECOND: Final = 100
TEXT_CHARACTERS_MAX: Final = 500
_NS: Final = 1_000_000_000
_STANDARD_ERROR: Final = 2


def written_to(path: Path | None) -> Callable[[bytes], None]:
    """Give what writes lines at the end of a file, or to standard error if none is given.

    The file is opened for each line, so that one which was moved away is begun anew.
    """

    def write(line: bytes) -> None:
        if path is None:
            os.write(_STANDARD_ERROR, line)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    return write


Refused = Callable[[Peer, str, str], None]
"""Is told who was refused, in which step, and why: `Log.refused`."""


def unheard(peer: Peer, what: str, why: str) -> None:
    """Tell nobody."""


def note(refused: Refused, peer: Peer, what: str, problem: WherryError) -> None:
    """Tell of an error if it is a refusal: not of what may succeed later, or failed of itself."""
    if isinstance(problem, InputError):
        refused(peer, what, str(problem))


class Log:
    """Writes events of one agent; safe for threads.

    Parameters
    ----------
    agent : str
        Its name.
    write : callable
        Takes a line of bytes; an OSError of it is counted, and the line is lost.
    wall_ns : callable
        The Unix time, for the lines.
    a_second : int
        Lines that are written in a second, at most; bursts of as many.
    """

    def __init__(
        self,
        agent: str,
        write: Callable[[bytes], None],
        wall_ns: Callable[[], int],
        a_second: int = LINES_A_SECOND,
    ) -> None:
        self._agent = agent
        self._write = write
        self._wall_ns = wall_ns
        self._a_second = a_second
        self._lock = Lock()
        self._left = float(a_second)
        self._last_ns = wall_ns()
        self._omitted = 0
        self._counts: dict[str, int] = {}

    def refused(self, peer: Peer | None, what: str, why: str, where: str = "") -> None:
        """Write that something was refused.

        Parameters
        ----------
        peer : Peer, optional
            Who asked, if that is known.
        what : str
            Which step refused it: `certificate`, `uid`, `frame`, `request`, `ticket`, `call`.
        why : str
            The words of the error.
        where : str
            The other end's address.
        """
        tenant, how = ("", "") if peer is None else (peer.tenant, peer.how)
        self.event("refused", what=what, why=why, tenant=tenant, peer=how, where=where)

    def event(self, kind: str, **said: str | float) -> None:
        """Write that something happened; `kind` and the keys are ours, the values anybody's."""
        now = self._wall_ns()
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            since = max(0, now - self._last_ns)
            self._last_ns = now
            self._left = min(self._a_second, self._left + self._a_second * since / _NS)
            if self._left < 1:
                self._omitted += 1
                return
            self._left -= 1
            omitted, self._omitted = self._omitted, 0
            found: dict[str, str | int | float] = {
                "time_ns": now,
                "agent": self._agent,
                "event": kind,
            }
            found |= {key: _cut(value) for key, value in said.items() if value != ""}
            if omitted:
                found["omitted"] = omitted
            try:
                self._write(_line(found))
            except OSError:  # a full disk, a closed pipe: what is lost is counted
                self._omitted += omitted + 1

    def counts(self) -> dict[str, int]:
        """Give how often each kind of event happened, written or not."""
        with self._lock:
            return dict(self._counts)


def _line(found: dict[str, str | int | float]) -> bytes:
    # JSON's own escapes leave DEL alone, which a terminal obeys.
    return json.dumps(found).replace("\x7f", "\\u007f").encode() + b"\n"


def _cut(value: str | float) -> str | int | float:
    if not isinstance(value, str) or len(value) <= TEXT_CHARACTERS_MAX:
        return value
    return f"{value[:TEXT_CHARACTERS_MAX]}... ({len(value)} characters)"
