"""Carry out machines in virtual time: real rows through real programs, modelled nanoseconds.

Each command becomes a task that does the work at once, on this host, and then lets the virtual time
pass that the profiles charge for it. Several machines may run on one system, so that
requests queue for each other's devices. What carries the work may also answer from counts that an
earlier run left (`wherry.sim.recorded`): the time is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, NamedTuple, Protocol

import simpy
from msgspec import Struct, field
from simpy.core import StopSimulation

from wherry.base.errors import InputError
from wherry.base.events import Span
from wherry.base.units import Modelled
from wherry.data.decoding import Packed
from wherry.devices.charge import install_ns, start_ns
from wherry.devices.demand import Demand, demand
from wherry.devices.system import System
from wherry.devices.work import Work, core_ns, load_reference
from wherry.ir.build import Known
from wherry.ir.work import keep_work
from wherry.plan.replan import Decision, Revision
from wherry.run.commands import (
    NOTHING,
    ROUTING,
    Accepted,
    Command,
    Deliver,
    Delivered,
    Finish,
    Install,
    Installed,
    Loaded,
    Missing,
    Move,
    Moved,
    PieceId,
    Read,
    Replan,
    Replanned,
    Route,
    Routed,
    RowCounts,
    Run,
    Send,
    ran,
)
from wherry.run.machine import Machine
from wherry.sim.clockwork import Clockwork, Steps, Use


class Counted(RowCounts, Protocol):
    """What a run of a program came to: all that its time follows from."""

    @property
    def work(self) -> Work:
        """What it is charged for."""

    @property
    def packed(self) -> tuple[Packed, ...]:
        """Of what was decoded, the part that is only compressed."""


class Bearer(Protocol):
    """Does the work of commands, or says what it came to."""

    def send(self, command: Send) -> Accepted | Missing:
        """Hand a message to its target."""

    def shipped(self, command: Install) -> tuple[int, Known | None]:
        """Give the bytes of a plan or build on its way, and what is known of the build."""

    def install(self, command: Install) -> Installed:
        """Hand a plan or a build to its target."""

    def route(self, command: Route) -> Routed:
        """Choose the chunks."""

    def read(self, command: Read) -> int:
        """Make a share of one chunk a piece; give its rows."""

    def nbytes(self, piece: PieceId) -> int:
        """Give the bytes of a piece as it lies or travels."""

    def run(self, command: Run) -> Counted:
        """Run a stage; its input pieces are let go, its result becomes a piece."""

    def replan(self, command: Replan) -> Decision:
        """Decide how the shares that are left go."""


class Held(NamedTuple):
    """A piece in the memory of a device: since when, and how large."""

    device: str
    since_ns: int
    nbytes: int


class Flight(Struct):
    """One machine on its way: what carries its work, what it recorded, and its answer.

    Attributes
    ----------
    spans : list of Span
        What the flight used, in the order the uses ended.
    begin, end : int
        Virtual nanoseconds of its start and of its answer's arrival; end is -1 before that.
    revisions : list of Revision
        When and how its chunks were sent elsewhere, or were not.
    """

    machine: Machine
    carrier: Bearer
    answer: tuple[PieceId, ...] = ()
    spans: list[Span] = field(default_factory=list)
    begin: int = 0
    end: int = -1
    held: dict[PieceId, Held] = field(default_factory=dict)
    kept: list[tuple[str, int]] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)

    @property
    def time(self) -> Modelled:
        """From the client's request to the last byte of its answer."""
        return Modelled(self.end - self.begin)


class _World(Struct):
    """What the tasks of all flights share: the resources, and demands by what they follow.

    `given` has the commands that nobody has begun yet, in order.
    """

    clockwork: Clockwork
    demands: dict[Any, Demand] = field(default_factory=dict)
    given: deque[tuple[Flight, Command, simpy.Event]] = field(default_factory=deque)

    def demand(self, device: str, counted: Counted) -> Demand:
        key = (device, counted.work, counted.rows_in, counted.packed)
        found = self.demands.get(key)
        if found is None:
            profile = self.clockwork.profile(device)
            found = demand(profile, counted.work, rows=counted.rows_in, packed=counted.packed)
            self.demands[key] = found
        return found


def simulate(
    system: System,
    flights: Sequence[Flight],
    *,
    in_flight: int = 1,
    arrivals: Sequence[int] = (),
    until_ns: int | None = None,
) -> bool:
    """Run every flight to its end, `in_flight` of them at a time, or when they arrive.

    Parameters
    ----------
    system : System
        Shared by all flights.
    flights : sequence of Flight
        Begun in order; the client asks the next when one of its `in_flight` is answered.
    arrivals : sequence of int, optional
        Virtual nanoseconds at which each flight begins, whatever the others do: an open loop.
    until_ns : int, optional
        Go no further than this; above 0.

    Returns
    -------
    bool
        Whether all flights ended, before `until_ns`.

    Raises
    ------
    InputError
        Pieces wait for room in a memory that nothing will leave, or one is larger than it.
    """
    world = _World(Clockwork(system))
    env = world.clockwork.env
    if arrivals:
        clients = [
            env.process(_visitor(world, flight, at))
            for flight, at in zip(flights, arrivals, strict=True)
        ]
    else:
        waiting = list(reversed(flights))
        clients = [
            env.process(_client(world, waiting)) for _ in range(min(in_flight, len(flights)))
        ]
    answered = env.all_of(clients)
    if until_ns is not None:
        env.timeout(until_ns).callbacks.append(StopSimulation.callback)
    try:
        env.run(answered)
    except RuntimeError:
        if answered.triggered or not world.clockwork.full:
            raise
    if not answered.triggered and env.peek() == inf and world.clockwork.full:
        raise InputError(
            f"{system.name}: pieces wait for room in the memory of "
            f"{', '.join(world.clockwork.full)}, and nothing there can be let go before they come"
        )
    return answered.triggered


def _client(world: _World, waiting: list[Flight]) -> Steps:
    while waiting:
        yield from _fly(world, waiting.pop())


def _visitor(world: _World, flight: Flight, at: int) -> Steps:
    yield world.clockwork.env.timeout(at)
    yield from _fly(world, flight)


def _fly(world: _World, flight: Flight) -> Steps:
    clockwork = world.clockwork
    flight.begin = clockwork.now
    done = clockwork.env.event()
    _obey(world, flight, flight.machine.start(), done)
    _begin(world)
    yield done
    flight.end = clockwork.now
    for device, nbytes in flight.kept:
        _release(clockwork, device, nbytes)
    _sweep(clockwork, flight)


def _sweep(clockwork: Clockwork, flight: Flight) -> None:
    """Free what a flight that has ended left in memories: pieces that it no longer wanted."""
    for held in flight.held.values():
        _release(clockwork, held.device, held.nbytes)
    flight.held.clear()


def _obey(world: _World, flight: Flight, commands: Sequence[Command], done: simpy.Event) -> None:
    for command in commands:
        if isinstance(command, Finish):
            flight.answer = command.pieces
            done.succeed()
        else:
            world.given.append((flight, command, done))


def _begin(world: _World) -> None:
    """Begin what was commanded, and what is commanded meanwhile: before time goes on."""
    given = world.given
    while given:
        flight, command, done = given.popleft()
        steps = _CARRIED[type(command)](world, flight, command)
        _Task(world, flight, done, steps.send).step()


class _Task:
    """A command that is being carried out.

    A simpy process makes an event when it begins and one when it ends; nobody waits for either.
    """

    __slots__ = ("_done", "_flight", "_next", "_world")

    def __init__(
        self, world: _World, flight: Flight, done: simpy.Event, following: Callable[[None], Any]
    ) -> None:
        self._world, self._flight, self._done, self._next = world, flight, done, following

    def resume(self, _: simpy.Event) -> None:
        """Go on, now that what the task waited for has come."""
        self.step()
        if self._world.given:
            _begin(self._world)

    def step(self) -> None:
        """Go on until the task waits again, or has ended: then the machine says what follows."""
        try:
            self._next(None).callbacks.append(self.resume)
        except StopIteration as end:
            world, flight, done = self._world, self._flight, self._done
            if not done.triggered:
                _obey(world, flight, flight.machine.handle(end.value), done)
            else:
                _sweep(world.clockwork, flight)


def _send(world: _World, flight: Flight, command: Send) -> Steps:
    use = Use("send", command.stage, nbytes=len(command.message))
    yield from world.clockwork.carry(flight.spans, command.source, command.target, use)
    yield from world.clockwork.receive(command.target)
    return flight.carrier.send(command)


def _install(world: _World, flight: Flight, command: Install) -> Steps:
    clockwork, target = world.clockwork, command.target
    profile = clockwork.profile(target)
    nbytes, build = flight.carrier.shipped(command)
    if build is None:
        use = Use("install", command.stage, nbytes=nbytes)
        took = install_ns(profile)
    else:
        use = Use("build", command.stage, nbytes=nbytes, rows=build.rows)
        took = core_ns(keep_work(build), profile, load_reference())
        turn = _reserve(clockwork, target, build.table_bytes)
        if turn is not None:
            yield turn
        flight.kept.append((target, build.table_bytes))
    # The device's refusal travels back first; then what it lacks comes.
    yield from clockwork.signal(target, command.source)
    yield from clockwork.carry(flight.spans, command.source, target, use)
    yield from clockwork.compute(flight.spans, target, use, took)
    return flight.carrier.install(command)


def _route(world: _World, flight: Flight, command: Route) -> Steps:
    profile = world.clockwork.profile(command.device)
    routed = flight.carrier.route(command)
    work = Work(filter_terms=len(routed.shares))
    took = start_ns(profile) + core_ns(work, profile, load_reference())
    use = Use("route", ROUTING)
    yield from world.clockwork.compute(flight.spans, command.device, use, took)
    return routed


def _read(world: _World, flight: Flight, command: Read) -> Steps:
    clockwork, device = world.clockwork, command.device
    rows, piece = flight.carrier.read(command), (-1, command.chunk)
    use = Use("read", 0, command.chunk, flight.carrier.nbytes(piece), rows)
    if command.target != device:
        yield from clockwork.signal(command.target, device)
    turn = _reserve(clockwork, device, use.nbytes)
    if turn is not None:
        yield turn
    yield from clockwork.read(flight.spans, device, use)
    flight.held[piece] = Held(device, clockwork.now, use.nbytes)
    return Loaded(command.chunk)


def _move(world: _World, flight: Flight, command: Move) -> Steps:
    clockwork, piece = world.clockwork, command.piece
    use = Use("move", command.stage, piece[1], _bytes(flight, piece))
    turn = _reserve(clockwork, command.target, use.nbytes)
    if turn is not None:
        yield turn
    yield from clockwork.carry(flight.spans, command.source, command.target, use)
    _let_go(clockwork, flight, piece, use.stage, use.nbytes)
    flight.held[piece] = Held(command.target, clockwork.now, use.nbytes)
    return Moved(piece, command.target, command.stage)


def _run(world: _World, flight: Flight, command: Run) -> Steps:
    clockwork, device, log = world.clockwork, command.device, flight.spans
    sizes = [_bytes(flight, piece) for piece in command.pieces]
    counted = flight.carrier.run(command)
    asked = world.demand(device, counted)
    use = Use("run", command.stage, command.chunk, sum(sizes), counted.rows_out)
    if asked.before:
        yield from clockwork.work_off(log, device, asked.before, use)
    cores = clockwork.cores(device)
    turn = cores.take()
    if turn is not None:
        yield turn
    made, room = (command.stage, command.chunk), clockwork.room(device)
    size = _bytes(flight, made)
    if room is not None:
        room.hold(size)
    start = clockwork.now
    yield from clockwork.run(device, asked)
    log.append(use.span(f"cores {device}", device, start, clockwork.now))
    cores.give()
    if asked.after:
        yield from clockwork.work_off(log, device, asked.after, use)
    for piece, held in zip(command.pieces, sizes, strict=True):
        _let_go(clockwork, flight, piece, command.stage, held)
    flight.held[made] = Held(device, clockwork.now, size)
    return ran(command, counted)


def _replan(world: _World, flight: Flight, command: Replan) -> Steps:
    clockwork, device = world.clockwork, command.device
    decision = flight.carrier.replan(command)
    # Like choosing chunks: a look at each of those that are left.
    work = Work(filter_terms=sum(len(shares) for _, shares in command.left))
    profile = clockwork.profile(device)
    took = start_ns(profile) + core_ns(work, profile, load_reference())
    yield from clockwork.compute(flight.spans, device, Use("replan", ROUTING), took)
    if flight.end < 0:
        at = Modelled(clockwork.now - flight.begin)
        flight.revisions.append(Revision(at, decision))
    return Replanned(command.seen, decision.ways)


def _deliver(world: _World, flight: Flight, command: Deliver) -> Steps:
    stage, chunk = command.piece
    use = Use("deliver", stage, chunk, _bytes(flight, command.piece))
    yield from world.clockwork.carry(flight.spans, command.source, command.target, use)
    _let_go(world.clockwork, flight, command.piece, use.stage, use.nbytes)
    return Delivered(command.piece)


_CARRIED: Mapping[type, Callable[[_World, Flight, Any], Steps]] = {
    Send: _send,
    Install: _install,
    Route: _route,
    Read: _read,
    Move: _move,
    Run: _run,
    Replan: _replan,
    Deliver: _deliver,
}


def _bytes(flight: Flight, piece: PieceId) -> int:
    return 0 if piece == NOTHING else flight.carrier.nbytes(piece)


def _reserve(clockwork: Clockwork, node: str, nbytes: int) -> simpy.Event | None:
    """Have room for so many bytes in the memory of a node: at once (None), or with an event."""
    room = clockwork.room(node)
    return None if room is None else room.reserve(nbytes)


def _release(clockwork: Clockwork, node: str, nbytes: int) -> None:
    room = clockwork.room(node)
    if room is not None:
        room.release(nbytes)


def _let_go(clockwork: Clockwork, flight: Flight, piece: PieceId, stage: int, nbytes: int) -> None:
    """Free a piece's memory where it lies, for the stage whose use of it ends now."""
    held = flight.held.pop(piece, None)
    if held is None:  # an empty answer, or a flight that ended meanwhile
        return
    device, since_ns, _ = held
    _release(clockwork, device, held.nbytes)
    flight.spans.append(
        Span("hold", f"memory {device}", device, since_ns, clockwork.now, stage, piece[1], nbytes)
    )
