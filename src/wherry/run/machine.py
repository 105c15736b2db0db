"""Carrying a query out, without doing anything: events in, commands out.

The machine knows the placement and what has happened; it says what to do next and never does it. It
has no clock, no thread, no randomness and no I/O, so the executor, the simulator and a test carry
out the same commands in the same order. `wherry.run.commands` has all that is said.

A run may be one leg of several. A leg that stops carries out the chunkwise stages alone, over the
first chunks that are left, and its pieces go to the client; the next one names to the router what
is done, and begins with a piece that lies with the client: (stage, -2), what came of those chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import Retryable
from wherry.data.chunk import ChunkRef
from wherry.plan.placement import GATE, HOME, Way, dealt, resolved
from wherry.plan.watch import Seen, Watch, decided, saw
from wherry.run.commands import (
    ALL,
    BEFORE,
    NOTHING,
    ROUTING,
    Accepted,
    Command,
    Deliver,
    Delivered,
    Event,
    Finish,
    Install,
    Installed,
    Loaded,
    Missing,
    Move,
    Moved,
    Orders,
    PieceId,
    Ran,
    Read,
    Replan,
    Replanned,
    Route,
    Routed,
    Run,
    Send,
    Share,
)
from wherry.run.continuation import freeze


class Machine(Struct, dict=True):
    """The state of one run; `start` it once, then `handle` every event."""

    orders: Orders
    _shares: tuple[Share, ...] = ()
    _ways: dict[int, Way] = field(default_factory=dict)
    _named: dict[str, set[int]] = field(default_factory=dict)
    _planned: tuple[Way, ...] = ()
    _watch: Watch | None = None
    _thinking: bool = False
    _before: set[int] = field(default_factory=set)
    _wanted: int = 0
    _hops: int = 0
    _asked: set[tuple[str, int]] = field(default_factory=set)
    _accepted: set[tuple[str, int]] = field(default_factory=set)
    _waiting: dict[tuple[str, int], list[Callable[[], list[Command]]]] = field(default_factory=dict)
    _senders: dict[tuple[str, int], str] = field(default_factory=dict)
    _unread: dict[str, deque[int]] = field(default_factory=dict)
    _flying: dict[str, int] = field(default_factory=dict)
    _rows: dict[int, int] = field(default_factory=dict)
    _gathered: set[int] = field(default_factory=set)
    _merged: bool = False
    _delivered: set[int] = field(default_factory=set)
    _installed: set[tuple[str, int, bytes]] = field(default_factory=set)
    _finished: bool = False

    def start(self) -> list[Command]:
        """Send the continuation to the device that routes."""
        return self._send(self.orders.client, self._router, ROUTING)

    def handle(self, event: Event) -> list[Command]:
        """Give what to do next, now that `event` has happened; nothing once the answer is whole.

        Raises
        ------
        Retryable
            If a device lacks a plan that was installed there for this very message.
        """
        if self._finished:
            return []
        commands = self._after(event)
        self._finished = any(isinstance(command, Finish) for command in commands)
        return commands

    def _after(self, event: Event) -> list[Command]:
        match event:
            case Missing(device, stage, build):
                return self._on_missing(device, stage, build)
            case Installed(device, stage):
                return self._send(self._senders[device, stage], device, stage)
            case Accepted(device, stage):
                return self._on_accepted(device, stage)
            case Routed(shares):
                return self._on_routed(shares)
            case Loaded(chunk):
                return self._advance((-1, chunk), self._home(chunk))
            case Moved(piece, device, stage):
                return self._enter(piece, device, stage)
            case Ran():
                return self._on_ran(event.stage, event.chunk, event.rows) + self._observe(event)
            case Replanned(seen, ways):
                return self._on_replanned(seen, ways)
            case Delivered(piece):
                return self._on_delivered(piece)

    def ready_to_give(self, given: int) -> list[PieceId]:
        """Give the pieces of the answer that are delivered and in turn, after the first `given`.

        A merged answer is one piece, which `Finish` names.
        """
        stage = len(self.orders.stages) - 1
        if self._merge is not None:
            return []
        ready = []
        while given in self._delivered:
            ready.append((stage, given))
            given += 1
        return ready

    @property
    def through(self) -> tuple[ChunkRef, ...]:
        """The chunks that the finished run took, in stored order."""
        return tuple(ref for share in self._shares[: self._wanted] for ref in share)

    # Where things are.

    @property
    def _router(self) -> str:
        return self.orders.continuation.sites[0]

    @cached_property
    def _merge(self) -> int | None:
        """The index of the stage that needs all chunks, if there is one."""
        stages = enumerate(self.orders.stages)
        return next((index for index, stage in stages if not stage.chunkwise), None)

    def _home(self, chunk: int) -> str:
        return self.orders.homes[self._shares[chunk][0].fragment]

    def _device(self, stage: int, chunk: int) -> str:
        return device_of(self.orders, self._shares[chunk], self._ways[chunk], stage)

    # Continuations on their way.

    def _send(self, source: str, device: str, stage: int) -> list[Command]:
        self._asked.add((device, stage))
        self._senders[device, stage] = source
        segments = (0, 0) if stage == ROUTING else self._segments(stage)
        chunks = self._name(device) if stage == 0 else ()
        if stage == ROUTING:
            chunks = self.orders.done
        continuation = replace(
            self.orders.continuation,
            hop=self._hops,
            first=segments[0],
            last=segments[1],
            chunks=chunks,
        )
        self._hops += 1
        return [Send(source, device, stage, freeze(continuation, self.orders.key))]

    def _segments(self, stage: int) -> tuple[int, int]:
        return self.orders.stages[stage].first, self.orders.stages[stage].last

    def _name(self, device: str) -> tuple[ChunkRef, ...]:
        """Give the chunks that a device is told of; it reads no others."""
        mine = [i for i in range(len(self._shares)) if self._device(0, i) == device]
        self._named[device] = set(mine)
        return tuple(ref for i in mine for ref in self._shares[i])

    def _on_missing(self, device: str, stage: int, build: bytes) -> list[Command]:
        if (device, stage, build) in self._installed:
            what = f"rows {build.hex()}" if build else "plan"
            raise Retryable(f"{device} lost the {what} of stage {stage} as soon as it had them")
        self._installed.add((device, stage, build))
        # Whoever sends a continuation has the plan; the rows of a build are with the client.
        source = self.orders.client if build else self._senders[device, stage]
        return [Install(source, device, stage, build)]

    def _when_accepted(
        self, source: str, device: str, stage: int, then: Callable[[], list[Command]]
    ) -> list[Command]:
        """Do `then` once `device` has the continuation of `stage`; send it if nobody has."""
        if (device, stage) in self._accepted:
            return then()
        self._waiting.setdefault((device, stage), []).append(then)
        return [] if (device, stage) in self._asked else self._send(source, device, stage)

    def _on_accepted(self, device: str, stage: int) -> list[Command]:
        if stage == ROUTING:
            return [Route(device)]
        self._accepted.add((device, stage))
        waiting = self._waiting.pop((device, stage), [])
        return [command for then in waiting for command in then()]

    # Chunks on their way.

    def _on_routed(self, shares: tuple[Share, ...]) -> list[Command]:
        shares = self._taken(shares)
        self._shares, self._wanted = shares, len(shares)
        self._watch, self._planned = self.orders.watch, self.orders.ways
        self._deal(range(len(shares)))
        commands = self._fetch()
        if not shares:
            return commands + self._gather_if_whole(self._router)
        for chunk in range(len(shares)):
            self._unread.setdefault(self._device(0, chunk), deque()).append(chunk)
        for device in list(self._unread):
            commands += self._when_accepted(self._router, device, 0, self._pumper(device))
        return commands

    def _taken(self, shares: tuple[Share, ...]) -> tuple[Share, ...]:
        """Give the shares that this leg takes: none if the rows before it are enough."""
        enough, stop = self.orders.enough, self.orders.stop
        if enough is not None and (self.orders.held or 0) >= enough:
            return ()
        return shares if stop is None else first_chunks(shares, stop)

    def _fetch(self) -> list[Command]:
        """Have what came of earlier chunks brought where chunks meet."""
        merge = self._merge
        if merge is None or self.orders.held is None:
            return []
        client, site = self.orders.client, self.orders.stages[merge].site
        move = Move(client, site, (merge - 1, BEFORE), merge)
        return self._when_accepted(client, site, merge, lambda: [move])

    def _deal(self, chunks: Sequence[int]) -> None:
        """Let shares go the planned ways, those of each home by their weights."""
        of_home: dict[str, list[int]] = {}
        for chunk in chunks:
            of_home.setdefault(self._home(chunk), []).append(chunk)
        for mine in of_home.values():
            ways = dealt([way.weight for way in self._planned], len(mine))
            for chunk, way in zip(mine, ways, strict=True):
                self._ways[chunk] = self._planned[way]

    # How the rest of them go, once what passes is not what was planned with.

    def _observe(self, ran: Ran) -> list[Command]:
        """Count what passed; ask how to go on if it is worth it and shares wait to be begun."""
        if ran.stage or ran.chunk == ALL or self._watch is None:
            return []
        made = ran.selected if self._watch.selects else ran.rows
        late = ran.chunk in self._before or self._thinking
        self._watch, seen = saw(self._watch, ran.given, made, late=late)
        left = self._left() if seen else []
        if seen is None or not left:
            return []
        self._thinking = True
        through = {*left, *self._rows}
        begun = [chunk for chunk in range(len(self._shares)) if chunk not in through]
        return [Replan(self._router, seen, self._by_way(left), self._by_way(begun))]

    def _by_way(self, chunks: Sequence[int]) -> tuple[tuple[Way, tuple[Share, ...]], ...]:
        found: dict[tuple[str, ...], list[Share]] = {}
        for chunk in chunks:
            found.setdefault(self._ways[chunk].sites, []).append(self._shares[chunk])
        return tuple((Way(sites, len(each)), tuple(each)) for sites, each in found.items())

    def _left(self) -> list[int]:
        """Give the shares that nobody has begun to read, in stored order."""
        return sorted(c for unread in self._unread.values() for c in unread if c < self._wanted)

    def _on_replanned(self, seen: Seen, ways: tuple[Way, ...] | None) -> list[Command]:
        """Let the shares not yet begun go other ways."""
        self._thinking = False
        assert self._watch is not None
        self._watch = decided(self._watch, seen, switched=ways is not None)
        if ways is None:
            return []
        self._planned, left = ways, self._left()
        self._before = set(range(len(self._shares))).difference(left)
        self._deal(left)
        for unread in self._unread.values():
            unread.clear()
        unnamed: dict[str, list[int]] = {}
        for chunk in left:
            device = self._device(0, chunk)
            if chunk in self._named.get(device, ()):
                self._unread[device].append(chunk)
            else:
                unnamed.setdefault(device, []).append(chunk)
        commands: list[Command] = []
        for device in self._unread:
            if (device, 0) in self._accepted:
                commands += self._pump(device)
        for device, chunks in unnamed.items():
            commands += self._tell(device, chunks)
        return commands

    def _tell(self, device: str, chunks: list[int]) -> list[Command]:
        """Name shares to a device that did not have them to read, then let it begin them."""
        told = (device, 0)
        waiting = self._waiting.setdefault(told, [])
        if told in self._asked and told not in self._accepted:
            # What it is being told now names others: one message after the other.
            waiting.append(lambda: self._tell(device, chunks))
            return []
        waiting.append(lambda: self._add(device, chunks))
        self._accepted.discard(told)
        return self._send(self._router, device, 0)

    def _add(self, device: str, chunks: list[int]) -> list[Command]:
        """Give a device more to read, in stored order."""
        self._unread[device] = deque(sorted((*self._unread.get(device, ()), *chunks)))
        return self._pump(device)

    def _pumper(self, device: str) -> Callable[[], list[Command]]:
        return lambda: self._pump(device)

    def _pump(self, device: str) -> list[Command]:
        """Begin as many shares as the device's window has room for."""
        commands: list[Command] = []
        unread = self._unread[device]
        while unread and self._flying.get(device, 0) < self.orders.windows[device]:
            chunk = unread.popleft()
            if chunk >= self._wanted:
                continue
            self._flying[device] = self._flying.get(device, 0) + 1
            commands.append(Read(self._home(chunk), device, chunk, self._shares[chunk]))
        return commands

    def _advance(self, piece: PieceId, device: str) -> list[Command]:
        """Take a piece that is at `device` to its next stage, or to the client."""
        made, chunk = piece
        stage = made + 1
        if stage == len(self.orders.stages):
            return self._respond(piece, device)
        merge = self._merge
        merged = merge is not None and stage >= merge
        target = self.orders.stages[stage].site if merged else self._device(stage, chunk)
        if target == device:
            return self._when_accepted(
                device, device, stage, lambda: self._enter(piece, device, stage)
            )
        move = Move(device, target, piece, stage)
        return self._when_accepted(device, target, stage, lambda: [move])

    def _enter(self, piece: PieceId, device: str, stage: int) -> list[Command]:
        """Use a piece that has arrived where its next stage runs."""
        if stage == len(self.orders.stages):
            return [Deliver(device, self.orders.client, piece)]
        if stage == self._merge:
            self._gathered.add(piece[1])
            return self._gather_if_whole(device)
        return [Run(device, stage, piece[1], (piece,))]

    def _on_ran(self, stage: int, chunk: int, rows: int) -> list[Command]:
        if chunk == ALL:
            return self._advance((stage, ALL), self.orders.stages[stage].site)
        device = self._device(stage, chunk)
        commands: list[Command] = []
        if self._is_last_chunkwise(stage):
            self._rows[chunk] = rows
            commands += self._stop_if_enough()
        if stage == 0:
            self._flying[device] -= 1
            commands += self._pump(device)
        if chunk >= self._wanted:
            return commands
        return commands + self._advance((stage, chunk), device)

    def _is_last_chunkwise(self, stage: int) -> bool:
        return stage + 1 == (len(self.orders.stages) if self._merge is None else self._merge)

    def _stop_if_enough(self) -> list[Command]:
        """Want no more shares than the first ones that hold enough rows."""
        if self.orders.enough is None:
            return []
        rows = self.orders.held or 0
        for chunk in range(self._wanted):
            if chunk not in self._rows:
                return []
            rows += self._rows[chunk]
            if rows >= self.orders.enough:
                self._wanted = chunk + 1
                merge = self._merge
                return (
                    [] if merge is None else self._gather_if_whole(self.orders.stages[merge].site)
                )
        return []

    # Where chunks meet, and the answer.

    def _gather_if_whole(self, device: str) -> list[Command]:
        stage = self._merge
        if stage is None:
            # No chunk can hold an answer: the client is told so.
            return [] if self._shares else [Deliver(device, self.orders.client, NOTHING)]
        site = self.orders.stages[stage].site
        before = () if self.orders.held is None else (BEFORE,)
        here = self._gathered.issuperset(before)
        if self._merged or not here or not _holds(self._gathered, range(self._wanted)):
            return []
        self._merged = True
        pieces = tuple((stage - 1, number) for number in (*before, *range(self._wanted)))
        run = Run(site, stage, ALL, pieces)
        return self._when_accepted(device, site, stage, lambda: [run])

    def _respond(self, piece: PieceId, device: str) -> list[Command]:
        chunk = piece[1]
        sites = self.orders.continuation.sites if chunk == ALL else self._ways[chunk].sites
        site = sites[-1]
        if site in {HOME, GATE, device}:
            return [Deliver(device, self.orders.client, piece)]
        return [Move(device, site, piece, len(self.orders.stages))]

    def _on_delivered(self, piece: PieceId) -> list[Command]:
        if piece == NOTHING:
            return [Finish(())]
        self._delivered.add(piece[1])
        chunks = (ALL,) if self._merge is not None else range(self._wanted)
        if not _holds(self._delivered, chunks):
            return []
        stage = len(self.orders.stages) - 1
        return [Finish(tuple((stage, chunk) for chunk in chunks))]


def device_of(orders: Orders, share: Share, way: Way, stage: int) -> str:
    """Give the device that runs chunkwise stage `stage` over a share that goes `way`."""
    site = way.sites[orders.stages[stage].first]
    return resolved(site, orders.homes[share[0].fragment], orders.gates)


def first_chunks(shares: Sequence[Share], count: int) -> tuple[Share, ...]:
    """Give shares of the first `count` chunks; a share is cut where they end.

    >>> first_chunks((("a", "b"), ("c",), ("d", "e")), 4)
    (('a', 'b'), ('c',), ('d',))
    """
    found: list[Share] = []
    for share in shares:
        if count <= 0:
            break
        found.append(share[:count])
        count -= len(share)
    return tuple(found)


def _holds(found: set[int], wanted: Sequence[int]) -> bool:
    """Tell whether all wanted numbers are there; quick while too few are."""
    return len(found) >= len(wanted) and found.issuperset(wanted)
