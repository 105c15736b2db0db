"""The core of an agent: requests in, replies out, whatever they travel by.

It trusts nothing but its own keys. Who asks is known before a request is read; messages are opened
with the key that this agent gave out, datasets are looked up by name and must be what the plan saw,
and whatever is kept has an owner, a bound and a lease.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError, Retryable, WherryError
from wherry.data.arrays import empty_batch
from wherry.data.chunk import ChunkRef
from wherry.data.fragments import Fragment
from wherry.data.ipc_plain import check_plain
from wherry.data.segment import SegmentPool
from wherry.data.validate import check_batch
from wherry.devices.driver import Driver
from wherry.render.gather import piece_bytes, several
from wherry.render.team import Team, alone
from wherry.run import commands
from wherry.run.carrier import Carrier, Unread
from wherry.run.continuation import Continuation, chunks_of, query_in, runs_of
from wherry.run.worker import Hop, MissingBuild, MissingPlan, Worker
from wherry.serve import requests
from wherry.serve.admission import Busy
from wherry.serve.belongings import Belongings
from wherry.serve.catalogue import Catalogue, described
from wherry.serve.directory import Directory, bound_of, from_bytes, known_in, source_of
from wherry.serve.gate import Admits, Open
from wherry.serve.keyring import KeyRing
from wherry.serve.log import Refused, note, unheard
from wherry.serve.peer import AGENTS, Forbidden, Peer
from wherry.serve.pieces import as_batches, as_piece
from wherry.serve.received import Received
from wherry.serve.replies import spent_of, unforeseen, unpacking_of
from wherry.serve.requests import Made, Message, failed, request_of, to_bytes
from wherry.serve.served import Taken
from wherry.serve.tenants import Tenant, Tenants
from wherry.serve.tickets import Ticket, open_ticket, seal_ticket
from wherry.serve.timed import Timed
from wherry.serve.visits import Clock, Visit, Visits

_SESSION_IDS: Final = 1 << 62
_ROUTING: Final = -1
_ELSEWHERE: Final = ""
"""Stands for the device that a chunk is read for, if it is another one."""


Take = Callable[[str, bytes], Received]
"""Gives the rows behind a ticket of the agent at an address."""


class Settings(Struct, frozen=True):
    """How a station works.

    Attributes
    ----------
    tenants : callable
        Gives who may do what, as it is now.
    emulated : bool
        Whether the driver models its time.
    lease_s : float
        How long pieces are kept that nobody speaks of.
    clock : callable
        Gives steady nanoseconds.
    team : callable
        Runs programs on all cores.
    refused : callable
        Is told who was refused what, and why: `wherry.serve.log.Log.refused`.
    """

    tenants: Callable[[], Tenants]
    emulated: bool
    lease_s: float = 15.0
    clock: Clock = time.monotonic_ns
    team: Team = alone
    refused: Refused = unheard


class Station:
    """One device, in one process; any thread may call any method.

    Parameters
    ----------
    driver : Driver
        Runs programs.
    catalogue : Catalogue
        What the device stores.
    take : callable
        Gives the rows behind a ticket of another agent.
    gate : Admits, optional
        Admits what works; everybody at once, if not given.
    """

    def __init__(
        self,
        driver: Driver,
        catalogue: Catalogue,
        take: Take,
        settings: Settings,
        gate: Admits | None = None,
    ) -> None:
        self.driver, self.catalogue, self.settings = driver, catalogue, settings
        self.gate: Admits = Open() if gate is None else gate
        self.life = os.urandom(16)
        self.visits = Visits(settings.lease_s, settings.clock)
        self._take = take
        self._timed = Timed(settings.clock)
        self._sessions, self._tickets = KeyRing("session", ids=_SESSION_IDS), KeyRing("ticket")
        self._belongings: dict[str, Belongings] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The device's."""
        return self.driver.name

    def handle(self, data: bytes, peer: Peer) -> bytes:
        """Answer a request; whatever is wrong with it is an answer, too."""
        try:
            return to_bytes(self._answer(data, peer))
        except Busy as busy:  # Names no path and is no fault: an agent has enough to do then.
            return to_bytes(failed(busy))
        except WherryError as problem:
            note(self.settings.refused, peer, "request", problem)
            return to_bytes(failed(self.catalogue.bared(problem)))
        except Exception as problem:  # noqa: BLE001  a fault of ours ends a request, not the agent
            return to_bytes(failed(unforeseen(problem)))

    def taken(self, ticket: bytes, peer: Peer) -> Taken:
        """Give the piece behind a ticket; `peer` may be anybody whom a listener let in.

        Raises
        ------
        CorruptError, Retryable
            If the ticket is not ours, or has ended, or the piece is gone.
        """
        del peer
        said = open_ticket(ticket, self._tickets, self.settings.clock())
        visit = self.visits.find(said.tenant, said.query, said.epoch)
        piece = visit.piece(said.piece)
        pool = self._of(said.tenant).pool
        batches = tuple(as_batches(piece, said.piece))
        return Taken(batches[0].schema, batches, pool)

    def lend(
        self, tenant: str, query: bytes, batches: Sequence[pa.RecordBatch], schema: pa.Schema
    ) -> bytes:
        """Keep rows as a piece of a tenant's, by reference; give the ticket for them."""
        rows = list(batches) or [empty_batch(schema)]
        visit = self.visits.begin(tenant, query, 0, lambda: Carrier({}, b""))
        with visit.lock:
            visit.keep((0, 0), several(rows))
        return self._ticket(visit, (0, 0))

    def sweep(self) -> None:
        """Let go of what nobody spoke of for a lease, stop what is late; to be called often."""
        self._timed.stop_late()
        self.visits.sweep()

    def memory(self) -> dict[str, int]:
        """Give the bytes of segments in use, by tenant."""
        with self._lock:
            return {name: mine.pool.bytes_in_use for name, mine in self._belongings.items()}

    def close(self) -> None:
        """Let go of everything."""
        for visit in self.visits:
            self.visits.release(visit.tenant, visit.query)
        for belongings in self._belongings.values():
            belongings.pool.close()

    # What is asked.

    def _answer(self, data: bytes, peer: Peer) -> Message:
        if peer.tenant == AGENTS:
            raise Forbidden("agents take pieces by ticket, and ask for nothing else")
        tenant = self.settings.tenants().tenant(peer.tenant)
        if len(data) > tenant.bounds.message_bytes:
            raise InputError(
                f"a request of {len(data)} bytes; possible for tenant {tenant.name!r}: "
                f"{tenant.bounds.message_bytes}"
            )
        request = request_of(data)
        answer = _ANSWERS[type(request)]
        with self.gate.admitted(tenant.name) if isinstance(request, _PLANNING) else nullcontext():
            found: Message = answer(self, request, tenant, peer)
        return found

    def _hello(self, request: requests.Hello, _: Tenant, peer: Peer) -> Message:
        if request.version != requests.VERSION:
            raise InputError(f"requests of version {request.version}; possible: {requests.VERSION}")
        key = self._sessions.newest(peer, self.settings.clock())
        return requests.Welcome(
            name=self.name,
            profile=msgspec.json.encode(self.driver.profile),
            emulated=self.settings.emulated,
            life=self.life,
            key_id=key.id,
            key=key.key,
            lease_s=self.settings.lease_s,
            clock_ns=time.time_ns(),
        )

    def _list(self, _: requests.List, tenant: Tenant, peer: Peer) -> Message:
        del peer
        found, unreadable = [], []
        for name in tenant.readable(self.catalogue.names):
            try:
                found.append(described(self.catalogue.source(name)))
            except WherryError as problem:
                unreadable.append((name, str(problem)))
        return requests.Listed(tuple(found), tuple(unreadable))

    def _measure(self, request: requests.Measure, tenant: Tenant, peer: Peer) -> Message:
        del peer
        source = self._source(request.dataset, tenant)
        parts = []
        for fragment, part in enumerate(source.parts):
            refs = [ChunkRef(fragment, batch, 0, 0) for batch in range(len(part.rows))]
            known = [source.statistics(ref).columns.get(request.column) for ref in refs]
            if None in known:
                raise InputError(f"dataset {request.dataset!r} has no column {request.column!r}")
            parts.append(tuple(bound_of(k) for k in known if k is not None))
        return requests.Bounds(tuple(parts))

    def _unpack(self, request: requests.Unpack, tenant: Tenant, peer: Peer) -> Message:
        del peer
        source = self._source(request.dataset, tenant)
        stored = [[n for n in request.columns if n in part.schema.names] for part in source.parts]
        return requests.Unpacked(
            tuple(
                tuple(unpacking_of(part, batch, names) for batch in range(len(part.rows)))
                for part, names in zip(source.parts, stored, strict=True)
            )
        )

    def _sample(self, request: requests.Sample, tenant: Tenant, peer: Peer) -> Message:
        del peer
        source, refs = self._source(request.dataset, tenant), _chunks(request.chunks)
        rows = sum(ref.rows for ref in refs)
        if rows > requests.SAMPLE_ROWS_MAX:
            raise InputError(f"a sample of {rows} rows; possible: {requests.SAMPLE_ROWS_MAX}")
        sink = pa.BufferOutputStream()
        batches = [source.read(ref, request.columns) for ref in refs]
        with pa.ipc.new_stream(sink, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return requests.Rows(sink.getvalue().to_pybytes())

    def _install(self, request: requests.Install, tenant: Tenant, peer: Peer) -> Message:
        del peer
        mine = self._of(tenant.name)
        match request.what:
            case requests.PLAN:
                mine.add_plan(request.body)
            case requests.BUILD:
                mine.add_build(request.body)
            case requests.DIRECTORY:
                listed = from_bytes(request.body)
                self._check_readable(listed.name, tenant)
                if any(self.name in dict(place.holders) for place in listed.places):
                    self._source(listed.name, tenant)
                mine.add_source(source_of(listed, lambda number: self._part(listed, number)))
            case _:
                raise InputError(
                    f"cannot install a {request.what!r}; possible: plan, build, directory"
                )
        return requests.Done()

    def _part(self, listed: Directory, number: int) -> Fragment:
        """Give a part of a directory: where it lies, if it lies here."""
        place = listed.places[number]
        mine = dict(place.holders).get(self.name)
        if mine is None:
            return known_in(listed, number)
        parts = self.catalogue.source(listed.name).parts
        found = parts[mine] if 0 <= mine < len(parts) else None
        if found is None or found.identity != place.part.identity:
            raise Retryable(f"{place.part.label!r} of {listed.name!r} changed after it was listed")
        return found

    def _receive(self, request: requests.Receive, tenant: Tenant, peer: Peer) -> Message:
        # Before it is opened: a query that there is no room for is refused where it begins.
        begun = self.visits.knows(tenant.name, query_in(request.message))
        with nullcontext() if begun else self.gate.admitted(tenant.name):
            return self._received(request, tenant, peer)

    def _received(self, request: requests.Receive, tenant: Tenant, peer: Peer) -> Message:
        hop = self._opened(request, tenant, peer, lists=request.stage <= 0)
        if isinstance(hop, requests.Lacks):
            return hop
        self._check_open(tenant)
        visit = self._begun(hop.continuation, tenant)
        with visit.lock:
            visit.carrier.open(self.name, request.stage, hop)
        return requests.Accepted()

    def _opened(
        self, request: requests.Receive | requests.Read, tenant: Tenant, peer: Peer, *, lists: bool
    ) -> Hop | requests.Lacks:
        """Open a sealed continuation of a dataset that the tenant may read; or say what it lacks.

        Parameters
        ----------
        lists : bool
            Whether the hop names chunks, so that the directory of the dataset has to be here.
        """
        try:
            hop = self._worker(request.key_id, peer).receive(request.message)
        except MissingPlan:
            return requests.Lacks(requests.PLAN, b"")
        except MissingBuild as lacking:
            return requests.Lacks(requests.BUILD, lacking.digest)
        self._check_readable(hop.plan.dataset, tenant)
        if lists and not self._of(tenant.name).knows(hop.plan):
            return requests.Lacks(requests.DIRECTORY, b"")
        return hop

    def _route(self, request: requests.Route, tenant: Tenant, peer: Peer) -> Message:
        del peer
        visit = self.visits.find(tenant.name, request.query, request.epoch)
        with visit.lock, self.gate.admitted(tenant.name, begun=True):
            routed = visit.carrier.route(commands.Route(self.name))
        return requests.Routed(tuple(runs_of([ref for share in routed.shares for ref in share])))

    def _read(self, request: requests.Read, tenant: Tenant, peer: Peer) -> Message:
        begun = self.visits.knows(tenant.name, query_in(request.message))
        with nullcontext() if begun else self.gate.admitted(tenant.name):
            return self._read_in(request, tenant, peer, begun=begun)

    def _read_in(
        self, request: requests.Read, tenant: Tenant, peer: Peer, *, begun: bool
    ) -> Message:
        hop = self._opened(request, tenant, peer, lists=True)
        if isinstance(hop, requests.Lacks):
            return hop
        refs = _chunks(request.chunks)
        visit = self._begun(hop.continuation, tenant)
        turn = self.gate.admitted
        with visit.lock, turn(tenant.name, begun=True) if begun else nullcontext():
            carrier = visit.carrier
            carrier.open(_ELSEWHERE, 0, hop)
            batches = []
            for ref in refs:
                carrier.read(commands.Read(self.name, _ELSEWHERE, request.chunk, (ref,)))
                batches.append(carrier.pieces.pop((_ROUTING, request.chunk)))
            nbytes = sum(piece_bytes(batch) for batch in batches)
            reading = carrier.readings.pop(request.chunk, None)
            if reading is not None and len(refs) == 1:
                nbytes = reading.media_bytes
            visit.keep((_ROUTING, request.chunk), several(batches))
        rows = sum(batch.num_rows for batch in batches)
        ticket = self._ticket(visit, (_ROUTING, request.chunk))
        return Made(rows, nbytes, ticket, reading if len(refs) == 1 else None)

    def _run(self, request: requests.Run, tenant: Tenant, peer: Peer) -> Message:
        del peer
        visit = self.visits.find(tenant.name, request.query, request.epoch)
        stage, chunk = request.stage, request.chunk
        refs = _chunks(request.chunks) if request.chunks else ()
        if not refs:
            _check_pieces(request.pieces, stage, chunk)
        # The lock first: requests that wait for it hold no slot.
        with visit.lock, self.gate.admitted(tenant.name, begun=True):
            carrier = visit.carrier
            for piece in request.pieces:
                visit.piece(piece)
            pieces = request.pieces
            if refs:
                pieces = ((_ROUTING, chunk),)
                carrier.pieces[pieces[0]] = Unread(self.name, refs)
            if request.reading is not None:
                carrier.readings[chunk] = request.reading
            before = len(carrier.ledger)
            team = self._timed.team(self.settings.team, tenant.bounds.time_s, tenant.name)
            evidence = carrier.run(commands.Run(self.name, stage, chunk, pieces), team)
            ledger = carrier.ledger[before:]
            del carrier.ledger[before:], carrier.evidence[:]
            if evidence.rows_out > tenant.bounds.rows:
                carrier.pieces.pop((stage, chunk), None)
                raise InputError(
                    f"stage {stage} made {evidence.rows_out} rows; possible for tenant "
                    f"{tenant.name!r}: {tenant.bounds.rows}"
                )
        spent = spent_of(
            evidence, tuple((e.referenced_bytes, e.copied_bytes, e.why) for e in ledger)
        )
        ticket = self._ticket(visit, (stage, chunk))
        return Made(evidence.rows_out, evidence.nbytes, ticket, None, spent)

    def _fetch(self, request: requests.Fetch, tenant: Tenant, peer: Peer) -> Message:
        del peer
        visit = self._begun(request, tenant)
        received = self._take(request.address, request.ticket)
        piece = as_piece(received.batches)
        with visit.lock:
            visit.keep(request.piece, piece)
        nbytes = piece_bytes(piece)
        referenced = max(0, nbytes - received.copied_bytes)
        moved = referenced, received.copied_bytes, received.why
        return Made(piece.num_rows, nbytes, self._ticket(visit, request.piece), moved=moved)

    def _give(self, request: requests.Give, tenant: Tenant, peer: Peer) -> Message:
        del peer
        visit = self._begun(request, tenant)
        what = f"piece {request.piece}"
        try:
            check_plain(pa.py_buffer(request.body), f"{what}: its rows")
            with pa.ipc.open_stream(pa.py_buffer(request.body)) as reader:
                batches = list(reader)
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise CorruptError(
                f"{what}: {len(request.body)} bytes are no rows: {problem}"
            ) from None
        for batch in batches:
            check_batch(batch, what)
        piece = as_piece(batches)
        with visit.lock:
            visit.keep(request.piece, piece)
        return Made(piece.num_rows, piece_bytes(piece), self._ticket(visit, request.piece))

    def _renew(self, request: requests.Renew, tenant: Tenant, peer: Peer) -> Message:
        del peer
        for query in request.queries:
            self.visits.renew(tenant.name, query)
        return requests.Done()

    def _release(self, request: requests.Release, tenant: Tenant, peer: Peer) -> Message:
        del peer
        self.visits.release(tenant.name, request.query)
        return requests.Done()

    def _health(self, _: requests.Health, tenant: Tenant, peer: Peer) -> Message:
        del peer
        visits = [visit for visit in self.visits if visit.tenant == tenant.name]
        load = self.gate.load(tenant.name)
        return requests.Healthy(
            life=self.life,
            clock_ns=time.time_ns(),
            busy=load.busy,
            taken=load.taken,
            running=load.running,
            waiting=load.waiting,
            wait_s=load.wait_ns / 1e9,
            queries=len(visits),
            pieces=sum(len(visit.carrier.pieces) for visit in visits),
            segment_bytes=self._of(tenant.name).pool.bytes_in_use,
            datasets=len(tenant.readable(self.catalogue.names)),
        )

    def _echo(self, request: requests.Echo, tenant: Tenant, peer: Peer) -> Message:
        del tenant, peer
        if not 0 <= request.nbytes <= requests.ECHO_BYTES_MAX:
            raise InputError(f"{request.nbytes} bytes back; possible: {requests.ECHO_BYTES_MAX}")
        return requests.Rows(bytes(request.nbytes))

    def _offer(self, request: requests.Offer, tenant: Tenant, peer: Peer) -> Message:
        del peer
        if not 0 < request.nbytes <= requests.OFFER_BYTES_MAX:
            raise InputError(f"{request.nbytes} bytes; possible: {requests.OFFER_BYTES_MAX}")
        rows = -(-request.nbytes // 8)
        room = self._of(tenant.name).pool.allocate(rows * 8)
        np.frombuffer(room, np.int64)[:] = 0
        zeros = pa.Array.from_buffers(pa.int64(), rows, [None, room])
        batch = pa.RecordBatch.from_arrays([zeros], ["zero"])
        visit = self.visits.begin(tenant.name, request.query, 0, lambda: Carrier({}, b""))
        with visit.lock:
            visit.keep((0, 0), batch)
        return Made(rows, rows * 8, self._ticket(visit, (0, 0)))

    # What is kept.

    def _of(self, tenant: str) -> Belongings:
        with self._lock:
            found = self._belongings.get(tenant)
            if found is None:
                bounds = self.settings.tenants().tenant(tenant).bounds
                found = self._belongings[tenant] = Belongings(SegmentPool(bounds.memory_bytes))
            return found

    def _worker(self, key_id: int, peer: Peer) -> Worker:
        key = self._sessions.find(key_id, peer, self.settings.clock())
        return self._working(peer.tenant, key.key)

    def _working(self, tenant: str, key: bytes) -> Worker:
        mine = self._of(tenant)
        return Worker(self.driver, mine, key, mine.pool, mine.plans, mine.builds)

    def _carrier(self, tenant: Tenant) -> Carrier:
        # It is given what was received: nothing is opened with its key.
        return Carrier({self.name: self._working(tenant.name, b"")}, b"")

    def _begun(self, said: Continuation | requests.Fetch | requests.Give, tenant: Tenant) -> Visit:
        """Give the visit of a query, whose rows may only come to be handed on from here."""
        query, epoch = said.query, said.epoch
        return self.visits.begin(tenant.name, query, epoch, lambda: self._carrier(tenant))

    def _ticket(self, visit: Visit, piece: requests.PieceId) -> bytes:
        now = self.settings.clock()
        until = now + 2 * self.visits.lease_ns
        said = Ticket(visit.query, visit.epoch, piece, visit.tenant, until)
        return seal_ticket(said, self._tickets, now)

    def _source(self, name: str, tenant: Tenant) -> Any:
        # What it may not read looks like what is not there, names of others included.
        tenant.dataset(name, dict.fromkeys(self.catalogue.names))
        return self.catalogue.source(name)

    def _check_readable(self, name: str, tenant: Tenant) -> None:
        if not tenant.may_read(name):
            tenant.dataset(name, dict.fromkeys(self.catalogue.names))

    def _check_open(self, tenant: Tenant) -> None:
        hops = sum(v.carrier.opened for v in self.visits if v.tenant == tenant.name)
        if hops >= tenant.bounds.open_hops:
            raise Retryable(
                f"tenant {tenant.name!r} has {hops} open continuations; possible: "
                f"{tenant.bounds.open_hops}"
            )


def _chunks(runs: requests.Chunks) -> tuple[ChunkRef, ...]:
    """Give the chunks that a request names, once it is known that they are not too many."""
    count = sum(run[4] for run in runs)
    if not 0 < count <= requests.CHUNKS_MAX:
        raise InputError(f"{count} chunks in one request; possible: 1 to {requests.CHUNKS_MAX}")
    return chunks_of(runs)


def _check_pieces(pieces: tuple[requests.PieceId, ...], stage: int, chunk: int) -> None:
    # Where chunks meet there may be none: then the answer is that of no rows.
    if len(set(pieces)) != len(pieces) or not (pieces or chunk == commands.ALL):
        raise InputError(
            f"stage {stage} over {len(pieces)} pieces, {len(set(pieces))} different; possible: "
            "one or more, each once, or chunks"
        )


_PLANNING: Final = (requests.Measure, requests.Unpack, requests.Sample, requests.Install)
"""What is asked before a query begins, and takes time."""
_ANSWERS: Final[dict[type[Message], Callable[..., Message]]] = {
    requests.Hello: Station._hello,
    requests.List: Station._list,
    requests.Measure: Station._measure,
    requests.Unpack: Station._unpack,
    requests.Sample: Station._sample,
    requests.Install: Station._install,
    requests.Receive: Station._receive,
    requests.Route: Station._route,
    requests.Read: Station._read,
    requests.Run: Station._run,
    requests.Fetch: Station._fetch,
    requests.Give: Station._give,
    requests.Renew: Station._renew,
    requests.Release: Station._release,
    requests.Health: Station._health,
    requests.Echo: Station._echo,
    requests.Offer: Station._offer,
}
