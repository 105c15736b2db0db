"""Hostile byte strings for every listener of an agent: no crash, no hang, bounded memory.

    python -m fuzz.listeners --strings 1000000 --seed 1

An agent runs in a process of its own. Several threads send it strings over its Unix socket and its
Flight port: frames that lie, frames with hostile requests and tickets in them, descriptors nobody
asked for, connections cut anywhere, and bytes that are nothing at all. Now and then a caller in
good faith must get an answer in time; memory, threads and files of the agent must not have grown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
from msgspec import Struct

from fuzz.corruptions import corrupted
from fuzz.hostile import hostile
from wherry.base.errors import WherryError
from wherry.serve.connection import Connection
from wherry.serve.flight_client import FlightConnection
from wherry.serve.requests import Health, Healthy, reply_of, to_bytes

THREADS = 4
ROUND = 2_000
"""Strings that a thread sends between two looks at the agent."""
ANSWER_S = 20.0
GROWTH = 1 << 30
FILES, TASKS = 300, 300
"""More of either than at the beginning, and the agent leaks them."""
_HEADER = struct.Struct("<4sBBHI")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
_CALL_SHARE = 0.5


class Told(Struct):
    """What the agent said of itself, as it began."""

    unix: str
    flight: int
    key: bytes
    requests: list[bytes]
    tickets: list[bytes]


class Agent:
    """An agent's process."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.served", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("wb"),
            text=True,
            # gRPC says on stderr what it thinks of each hostile connection.
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        said = self._line()
        self.told = Told(
            said["unix"],
            said["flight"],
            bytes.fromhex(said["key"]),
            [bytes.fromhex(one) for one in said["requests"]],
            [bytes.fromhex(one) for one in said["tickets"]],
        )
        self.at_first: tuple[int, int, int] = (0, 0, 0)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the agent ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def asked(self) -> dict[str, Any]:
        """Let it sweep, and give what it says."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def needs(self) -> tuple[int, int, int]:
        """Give its resident bytes, its files and its threads."""
        place = Path(f"/proc/{self.process.pid}")
        pages = int((place / "statm").read_text().split()[1])
        return (
            pages * 4096,
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
        )

    def end(self) -> dict[str, Any]:
        """Have it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = self._line()
        if self.process.wait(ANSWER_S) != 0:
            raise AssertionError(f"the agent ended with {self.process.returncode}")
        return said

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()


def frame(kind: int, payload: bytes, count: int = 0) -> bytes:
    """Give a frame as `wherry.serve.wire` has it."""
    return _HEADER.pack(b"WHRY", kind, 0, count, len(payload)) + payload


def unix_strings(told: Told, draw: random.Random, count: int) -> None:
    """Send strings over connections, several over one until the agent has enough of it."""
    sent = 0
    while sent < count:
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.settimeout(ANSWER_S)
            sock.connect(told.unix)
            for _ in range(draw.choice((1, 1, 5, 50))):
                sent += 1
                data, answered = _unix_string(told, draw)
                _send(sock, data, draw)
                if not answered:
                    break
                _frame_from(sock)


def _unix_string(told: Told, draw: random.Random) -> tuple[bytes, bool]:
    """Give bytes, and whether the agent answers them and listens on."""
    how = draw.randrange(10)
    if how < 6:
        return frame(1, hostile(told.requests, told.key, draw)), True
    if how == 6:
        return frame(3, corrupted(draw.choice(told.tickets), draw)), True
    if how == 7:
        return draw.randbytes(draw.choice((1, 12, 100, 5000))), False
    whole = bytearray(frame(draw.choice((0, 1, 2, 3, 4, 5, 6, 255)), draw.randbytes(16)))
    whole[draw.randrange(_HEADER.size)] = draw.randrange(256)
    return bytes(whole[: draw.randint(0, len(whole))]), False


def _send(sock: socket.socket, data: bytes, draw: random.Random) -> None:
    if draw.randrange(50) == 0:
        socket.send_fds(sock, [data or b"\0"], [sock.fileno()] * draw.choice((1, 3, 250)))
    else:
        sock.sendall(data)


def _frame_from(sock: socket.socket) -> None:
    """Read an answer; too late is a hang."""
    begun = time.monotonic()
    try:
        header = _exactly(sock, _HEADER.size)
        _, _, _, descriptors, size = _HEADER.unpack(header)
        _exactly(sock, size)
    except TimeoutError:
        raise AssertionError(f"no answer in {time.monotonic() - begun:.0f} s") from None
    if descriptors:  # nobody here maps them: the kernel throws them away
        assert descriptors < 250


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(1 << 20, size - len(data)))
        if not part:
            raise ConnectionError("closed")
        data += part
    return bytes(data)


def flight_strings(told: Told, draw: random.Random, count: int) -> None:
    """Call with hostile bytes, and send bytes that are no calls."""
    client = fl.FlightClient(
        f"grpc://127.0.0.1:{told.flight}",
        generic_options=[("grpc.use_local_subchannel_pool", 1)],
    )
    with client:
        for _ in range(count):
            if draw.random() < _CALL_SHARE:
                _call(client, told, draw)
            else:
                _raw(told, draw)


def _call(client: fl.FlightClient, told: Told, draw: random.Random) -> None:
    options = fl.FlightCallOptions(timeout=ANSWER_S)
    data = hostile(told.requests, told.key, draw)
    try:
        match draw.randrange(6):
            case 0 | 1:
                list(client.do_action(fl.Action("wherry", data), options))
            case 2:
                kind = draw.choice(("", "CreatePreparedStatement", "ClosePreparedStatement", "x"))
                list(client.do_action(fl.Action(kind, _protobuf(draw)), options))
            case 3:
                ticket = draw.choice((corrupted(draw.choice(told.tickets), draw), _protobuf(draw)))
                client.do_get(fl.Ticket(ticket), options).read_all()
            case 4:
                command = draw.choice((data, _protobuf(draw), _sql(draw)))
                asked = draw.choice((client.get_flight_info, client.get_schema))
                asked(fl.FlightDescriptor.for_command(command), options)
            case _:
                path = draw.choice(("orders", "salaries", "../orders", "x" * 1000, "\0"))
                client.get_schema(fl.FlightDescriptor.for_path(path), options)
    except fl.FlightTimedOutError:
        raise AssertionError(f"no answer in {ANSWER_S} s to {data!r}") from None
    except (fl.FlightError, pa.ArrowException, OSError, UnicodeDecodeError):
        pass


_COMMANDS = (
    "CommandStatementQuery", "CommandPreparedStatementQuery", "CommandGetTables",
    "CommandGetSqlInfo", "CommandGetDbSchemas", "CommandGetCatalogs", "CommandGetTableTypes",
    "TicketStatementQuery", "ActionCreatePreparedStatementRequest", "Unknown",
)  # fmt: skip


_WORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "JOIN", "ON", "AND", "NOT", "IN",
    "CASE WHEN", "THEN", "END", "CAST(", "AS", "x", "y", "t", "orders", "salaries", "*", "(", ")",
    ",", "+", "/", "=", "<", "'a'", "0", "1e400", "99999999999999999999", "NULL", "sum(",
    "count(*)", "DISTINCT", "LIKE", "'%_\\'", "--", "/*", ";", "DROP TABLE", "\0", "\u202e",
)  # fmt: skip


def _sql(draw: random.Random) -> bytes:
    """Give words of SQL, a sentence now and then."""
    begin = draw.choice(("SELECT x FROM orders", "SELECT t, sum(x) FROM orders GROUP BY t", ""))
    words = draw.choices(_WORDS, k=draw.choice((0, 1, 5, 40)))
    deep = draw.choice((0, 0, 0, 50, 3000))
    return " ".join((begin, *words, "(" * deep)).encode()


def _protobuf(draw: random.Random) -> bytes:
    """Give what Flight SQL's messages look like, damaged or not."""
    name = f"type.googleapis.com/arrow.flight.protocol.sql.{draw.choice(_COMMANDS)}".encode()
    value = b"".join(
        bytes([draw.choice((8, 10, 18, 26, 34, 255)), draw.choice((0, 1, 5, 127, 128, 255))])
        + draw.randbytes(draw.choice((0, 1, 5)))
        for _ in range(draw.randrange(4))
    )
    whole = b"\n" + bytes([len(name)]) + name + b"\x12" + bytes([len(value)]) + value
    return corrupted(whole, draw) if draw.random() < 0.5 else whole


def _raw(told: Told, draw: random.Random) -> None:
    """Send bytes that HTTP/2 may not like, and go."""
    with socket.socket() as sock, suppress(OSError):
        sock.settimeout(ANSWER_S)
        sock.connect(("127.0.0.1", told.flight))
        junk = draw.randbytes(draw.choice((1, 9, 100, 2000)))
        whole = draw.choice((junk, _PREFACE + junk, corrupted(_PREFACE, draw), _PREFACE))
        sock.sendall(whole)
        if draw.randrange(20) == 0:
            sock.settimeout(0.01)
            sock.recv(100)


def in_good_faith(told: Told) -> None:
    """Ask as callers do: an answer comes in time, over both ways."""
    request = to_bytes(Health())
    with Connection(told.unix, deadline=time.monotonic() + ANSWER_S) as connection:
        reply = reply_of(connection.ask(request, deadline=time.monotonic() + ANSWER_S))
        assert isinstance(reply, Healthy), reply
    with FlightConnection(f"grpc://127.0.0.1:{told.flight}") as connection:
        assert isinstance(reply_of(connection.ask(request, ANSWER_S)), Healthy)


def tried(strings: int, seed: int, folder: Path) -> str:
    """Send so many strings to each listener; give what was seen, or raise AssertionError."""
    agent = Agent(folder)
    ways: tuple[Callable[[Told, random.Random, int], None], ...] = (unix_strings, flight_strings)
    most = 0
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for round_ in range(-(-strings // (ROUND * THREADS // 2))):
                jobs = [
                    pool.submit(
                        ways[n % 2], agent.told, random.Random(f"{seed} {round_} {n}"), ROUND
                    )
                    for n in range(THREADS)
                ]
                for job in jobs:
                    job.result()
                in_good_faith(agent.told)
                agent.asked()
                needs = agent.needs()
                if round_ == 0:
                    agent.at_first = needs
                most = max(most, needs[0])
                _check(agent.at_first, needs)
        left = agent.asked()
        said = agent.end()
        assert all(said["ended"]), said
    finally:
        agent.kill()
    faults = (folder / "stderr").read_text().count("Traceback")
    assert faults == 0, f"{faults} faults of the agent; see {folder / 'stderr'}"
    return (
        f"{most >> 20} MiB at most, {agent.at_first[0] >> 20} at first; {left['connections']} "
        f"connections left; {said['refused']:,} refusals"
    )


def _check(first: tuple[int, int, int], now: tuple[int, int, int]) -> None:
    for what, bound, a, b in zip(
        ("bytes", "files", "threads"), (GROWTH, FILES, TASKS), first, now, strict=True
    ):
        assert b - a <= bound, f"{b} {what}; {a} after the first round"


def main(arguments: list[str] | None = None) -> int:
    """Try strings; give 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.listeners", description=__doc__)
    parser.add_argument("--strings", type=int, default=20_000, help="to each listener, about")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            seen = tried(options.strings, options.seed, Path(folder))
        except (AssertionError, WherryError) as problem:
            tail = (Path(folder) / "stderr").read_text()[-3000:]
            print(f"seed {options.seed}: {problem}\n{tail}")
            return 1
    rate = 2 * options.strings / (time.monotonic() - begun)
    print(f"{options.strings:,} hostile strings to each listener, {rate:,.0f}/s: {seen}; 0 found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
