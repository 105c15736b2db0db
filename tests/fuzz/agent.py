"""Hostile bytes for an agent: every request and ticket is answered, refused or an error, in time.

    python -m fuzz.agent --cases 20000 --seed 1

A case is a fresh agent that is told `STRINGS` byte strings one after the other, some of them sound,
so that those after them find something to damage.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct

from fuzz.case import Finding
from fuzz.corruptions import corrupted
from fuzz.hostile import hostile
from fuzz.processes import Target, run
from wherry import col, scan
from wherry.base.errors import WherryError
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.profile import load_profile
from wherry.ir.build import Build, image_of
from wherry.plan.query import Query, prepare
from wherry.run.commands import ALL
from wherry.run.continuation import Continuation, freeze
from wherry.serve import directory, requests
from wherry.serve.catalogue import Catalogue, described
from wherry.serve.peer import Peer
from wherry.serve.requests import Made, Welcome, reply_of, to_bytes
from wherry.serve.station import Settings, Station
from wherry.serve.tenants import Bounds, Tenant, Tenants

STRINGS = 50
SECONDS = 20
GROWTH = 1 << 30
"""Bytes that one agent may need for what it is told."""
PEER = Peer("sales", "unix uid 7")
TENANTS = Tenants(
    {"sales": Tenant("sales", ("orders",), Bounds(memory_bytes=1 << 26, rows=1 << 20))}
)
ROWS = pa.record_batch({"x": list(range(100)), "t": ["a", "bb"] * 50, "y": [0.5, None] * 50})
QUERY = b"q" * 16
_SOUND_SHARE = 0.1


class Prepared(Struct):
    """What every case needs: a folder with datasets, which goes with its `keeper`."""

    folder: Path
    keeper: tempfile.TemporaryDirectory[str]


def prepare_folder() -> Prepared:
    """Write the datasets; one of them may not be read."""
    keeper = tempfile.TemporaryDirectory(prefix="wherry-fuzz-")
    folder = Path(keeper.name)
    for name in ("orders", "salaries"):
        path = str(folder / f"{name}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, ROWS.schema) as writer:
            writer.write_batch(ROWS)
            writer.write_batch(ROWS.slice(20, 50))
    return Prepared(folder, keeper)


def station(
    prepared: Prepared, refused: Callable[[Peer, str, str], None] = lambda *_: None
) -> Station:
    """Give a fresh agent; it reaches no other."""

    def nobody(address: str, ticket: bytes) -> list[pa.RecordBatch]:
        raise WherryError(f"there is nobody at {address[:20]!r}: {len(ticket)} bytes")

    driver = EmulatedDriver("csd0", load_profile("newport"))
    settings = Settings(lambda: TENANTS, emulated=True, refused=refused)
    return Station(driver, Catalogue(prepared.folder), nobody, settings)


def sound(agent: Station, peer: Peer = PEER) -> tuple[list[bytes], bytes, list[bytes]]:
    """Give requests that an agent takes, in order; its key; and tickets that it gave for them."""
    welcome = reply_of(agent.handle(to_bytes(requests.Hello()), peer))
    assert isinstance(welcome, Welcome)
    listed = described(agent.catalogue.source("orders"))
    bounds = reply_of(agent.handle(to_bytes(requests.Measure("orders", "x")), peer))
    places = tuple(
        directory.Place(part, (("csd0", number), ("csd9", 3)))
        for number, part in enumerate(listed.parts)
    )
    known = directory.Directory("orders", listed.schema, places, {"x": bounds.parts})
    source = directory.source_of(known, lambda number: directory.known_in(known, number))
    pipeline = scan(source).filter(col("x") > 3, col("t") == "a").select("x", "y")
    query = prepare(pipeline.source, pipeline.operators, pipeline.schema)
    totals = scan(source).group_by("t").agg(n=col("x").sum(), m=col("y").max())
    grouped = prepare(totals.source, totals.operators, totals.schema)
    largest = scan(source).top_k(5, by="y")
    ordered = prepare(largest.source, largest.operators, largest.schema)
    said: list[requests.Message] = [
        requests.Hello(), requests.List(), requests.Health(), requests.Echo(100),
        requests.Measure("orders", "x"), requests.Unpack("orders", ("x", "t")),
        requests.Sample("orders", ((0, 0, 0, 10, 2),), ("x", "t")),
        requests.Install("directory", directory.to_bytes(known)),
        requests.Install("build", Build(ROWS, 1).message.to_pybytes()),
    ]  # fmt: skip
    for number, one in enumerate((query, grouped, ordered)):
        said += _asked(one, 10 * number, welcome)
    said.append(requests.Release(QUERY))
    tickets = []
    for one in said[:-1]:
        reply = reply_of(agent.handle(to_bytes(one), peer))
        if isinstance(reply, Made):
            tickets.append(reply.ticket)
    return [to_bytes(one) for one in said], welcome.key, tickets


def _asked(query: Query, stage: int, welcome: Welcome) -> list[requests.Message]:
    """Give what carries out a query at one agent, with stages from `stage` on."""
    segments = len(query.plan.segments)

    def message(first: int) -> bytes:
        whole = Continuation(
            query=QUERY,
            epoch=0,
            hop=1,
            plan=query.plan_digest,
            first=first,
            last=first,
            values=tuple(image_of(literal) for literal in query.literals),
            chunks=query.chunks if first else (),
            sites=("csd0",) * segments,
        )
        return freeze(whole, welcome.key)

    chunks = tuple(requests_chunks(query.chunks))
    said: list[requests.Message] = [
        requests.Install("plan", query.plan_bytes),
        requests.Receive(welcome.key_id, stage, message(1)),
        requests.Receive(welcome.key_id, -1, message(0)),
        requests.Route(QUERY, 0),
        requests.Read(welcome.key_id, message(1), stage, chunks[:1]),
        requests.Run(QUERY, 0, stage, stage, ((-1, stage),)),
        requests.Run(QUERY, 0, stage, stage + 1, (), chunks[:1]),
        requests.Give(QUERY, 0, (3, 4), _stream()),
        requests.Fetch(QUERY, 0, (5, 6), "unix:nowhere", b"ticket"),
        requests.Renew((QUERY,)),
    ]
    made: tuple[tuple[int, int], ...] = ((stage, stage), (stage, stage + 1))
    for segment in range(2, segments):
        here = stage + segment - 1
        said += [
            requests.Receive(welcome.key_id, here, message(segment)),
            requests.Run(QUERY, 0, here, ALL, made),
        ]
        made = ((here, ALL),)
    return said


def requests_chunks(chunks: Any) -> list[tuple[int, int, int, int, int]]:
    """Give chunks as requests name them."""
    return [(ref.fragment, ref.batch, ref.offset, ref.rows, 1) for ref in chunks]


def _stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS.schema) as writer:
        writer.write_batch(ROWS)
    return sink.getvalue().to_pybytes()


def run_case(seed: int, number: int, prepared: Prepared, folder: Path) -> str:
    """Tell a fresh agent byte strings."""
    del folder
    draw = random.Random(f"{seed} {number}")
    agent = station(prepared)
    try:
        known, key, tickets = sound(agent)
        assert tickets
        before = _resident()
        for _ in range(STRINGS):
            _tell(agent, known, key, tickets, draw, str(prepared.folder))
        grown = _resident() - before
        if grown > GROWTH:
            raise Finding(f"{grown} bytes more after {STRINGS} strings")
    finally:
        agent.close()
    return "answered"


def _tell(
    agent: Station,
    known: list[bytes],
    key: bytes,
    tickets: list[bytes],
    draw: random.Random,
    secret: str,
) -> None:
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        if draw.randrange(6) == 0:
            _take(agent, corrupted(draw.choice(tickets), draw))
            return
        data = (
            draw.choice(known[:-1]) if draw.random() < _SOUND_SHARE else hostile(known, key, draw)
        )
        answer = agent.handle(data, PEER)
    finally:
        signal.alarm(0)
    reply = reply_of(answer)
    text = getattr(reply, "text", "")
    if "a fault of the agent itself" in text:
        raise Finding(f"{text} for {data[:400]!r}")
    if secret.encode() in answer or (
        b"salaries" in answer.replace(data, b"") and (b"salaries" not in data)
    ):
        raise Finding(f"an answer tells what it must not: {answer[:400]!r}")


def _take(agent: Station, ticket: bytes) -> None:
    try:
        agent.taken(ticket, PEER)
    except WherryError:
        pass
    except Exception as problem:
        raise Finding(f"{problem!r} for ticket {ticket!r}") from problem


def _late(*_: object) -> None:
    raise Finding(f"an answer took more than {SECONDS} s")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


AGENT = Target("fuzz.agent", __doc__, prepare_folder, run_case, ("answered",))

if __name__ == "__main__":
    sys.exit(run(AGENT))
