"""Carry out machines in virtual time: real rows through real programs, modelled nanoseconds.

Each command becomes a simpy process that does the work at once, on this host, and then lets the
virtual time pass that the profiles charge for it. Several machines may run on one system, so that
requests queue for each other's devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import simpy

from wherry.base.events import Span
from wherry.base.units import Modelled
from wherry.devices.charge import install_ns, start_ns
from wherry.devices.system import System
from wherry.devices.work import Work, core_ns, load_reference
from wherry.ir.work import keep_work
from wherry.run.carrier import Carrier
from wherry.run.machine import (
    NOTHING,
    ROUTING,
    Command,
    Deliver,
    Delivered,
    Finish,
    Install,
    Loaded,
    Machine,
    Move,
    Moved,
    PieceId,
    Ran,
    Read,
    Route,
    Run,
    Send,
)
from wherry.sim.clockwork import Clockwork, Steps, Use


@dataclass
class Flight:
    """One machine on its way: what carries its work, what it recorded, and its answer.

    Attributes
    ----------
    spans : list of Span
        What the flight used, in the order the uses ended.
    begin, end : int
        Virtual nanoseconds of its start and of its answer's arrival; end is -1 before that.
    """

    machine: Machine
    carrier: Carrier
    answer: tuple[PieceId, ...] = ()
    spans: list[Span] = field(default_factory=list)
    begin: int = 0
    end: int = -1
    arrived: dict[PieceId, int] = field(default_factory=dict)

    @property
    def time(self) -> Modelled:
        """From the client's request to the last byte of its answer."""
        return Modelled(self.end - self.begin)


def simulate(system: System, flights: Sequence[Flight], *, in_flight: int = 1) -> None:
    """Run every flight to its end, `in_flight` of them at a time.

    Parameters
    ----------
    system : System
        Shared by all flights.
    flights : sequence of Flight
        Begun in order; the client asks the next when one of its `in_flight` is answered.
    """
    clockwork = Clockwork(system)
    waiting = list(reversed(flights))
    clients = [
        clockwork.env.process(_client(clockwork, waiting))
        for _ in range(min(in_flight, len(flights)))
    ]
    clockwork.env.run(clockwork.env.all_of(clients))


def _client(clockwork: Clockwork, waiting: list[Flight]) -> Steps:
    while waiting:
        flight = waiting.pop()
        flight.begin = clockwork.now
        done = clockwork.env.event()
        _obey(clockwork, flight, flight.machine.start(), done)
        yield done
        flight.end = clockwork.now


def _obey(
    clockwork: Clockwork, flight: Flight, commands: Sequence[Command], done: simpy.Event
) -> None:
    for command in commands:
        if isinstance(command, Finish):
            flight.answer = command.pieces
            done.succeed()
        else:
            clockwork.env.process(_carried(clockwork, flight, command, done))


def _carried(clockwork: Clockwork, flight: Flight, command: Command, done: simpy.Event) -> Steps:
    event = yield from _carry(clockwork, flight, command)
    if flight.end < 0 and not done.triggered:
        _obey(clockwork, flight, flight.machine.handle(event), done)


def _carry(clockwork: Clockwork, flight: Flight, command: Command) -> Steps:
    match command:
        case Send():
            return (yield from _send(clockwork, flight, command))
        case Install():
            return (yield from _install(clockwork, flight, command))
        case Route():
            return (yield from _route(clockwork, flight, command))
        case Read():
            return (yield from _read(clockwork, flight, command))
        case Move():
            return (yield from _move(clockwork, flight, command))
        case Run():
            return (yield from _run(clockwork, flight, command))
        case Deliver():
            return (yield from _deliver(clockwork, flight, command))
    raise TypeError(f"not a command: {command}")


def _send(clockwork: Clockwork, flight: Flight, command: Send) -> Steps:
    use = Use("send", command.stage, nbytes=len(command.message))
    yield from clockwork.carry(flight.spans, command.source, command.target, use)
    yield from clockwork.receive(command.target)
    return flight.carrier.send(command)


def _install(clockwork: Clockwork, flight: Flight, command: Install) -> Steps:
    profile = clockwork.profile(command.target)
    if command.build:
        build = flight.carrier.builds[command.build]
        use = Use("build", command.stage, nbytes=len(build.message), rows=build.known.rows)
        took = core_ns(keep_work(build.known), profile, load_reference())
    else:
        use = Use("install", command.stage, nbytes=len(flight.carrier.plan_bytes))
        took = install_ns(profile)
    # The device's refusal travels back first; then what it lacks comes.
    yield from clockwork.signal(command.target, command.source)
    yield from clockwork.carry(flight.spans, command.source, command.target, use)
    yield from _on_core(clockwork, flight, command.target, use, took)
    return flight.carrier.install(command)


def _route(clockwork: Clockwork, flight: Flight, command: Route) -> Steps:
    profile = clockwork.profile(command.device)
    routed = flight.carrier.route(command)
    work = Work(filter_terms=len(routed.shares))
    took = start_ns(profile) + core_ns(work, profile, load_reference())
    yield from _on_core(clockwork, flight, command.device, Use("route", ROUTING), took)
    return routed


def _on_core(clockwork: Clockwork, flight: Flight, device: str, use: Use, took: int) -> Steps:
    with clockwork.cores(device).request() as turn:
        yield turn
        start = clockwork.now
        yield clockwork.env.timeout(took)
        flight.spans.append(use.span(f"cores {device}", device, start, clockwork.now))


def _read(clockwork: Clockwork, flight: Flight, command: Read) -> Steps:
    batch = flight.carrier.read(command)
    if command.target != command.device:
        yield from clockwork.signal(command.target, command.device)
    use = Use("read", 0, command.chunk, flight.carrier.nbytes((-1, command.chunk)), batch.num_rows)
    yield from clockwork.read(flight.spans, command.device, use)
    flight.arrived[-1, command.chunk] = clockwork.now
    return Loaded(command.chunk)


def _bytes(flight: Flight, piece: PieceId) -> int:
    return 0 if piece == NOTHING else flight.carrier.nbytes(piece)


def _move(clockwork: Clockwork, flight: Flight, command: Move) -> Steps:
    use = Use("move", command.stage, command.piece[1], _bytes(flight, command.piece))
    yield from clockwork.carry(flight.spans, command.source, command.target, use)
    _hold(clockwork, flight, command.piece, command.source, use)
    return Moved(command.piece, command.target, command.stage)


def _hold(clockwork: Clockwork, flight: Flight, piece: PieceId, device: str, use: Use) -> None:
    """Record how long a piece lay in a device's memory, for the stage whose use of it ends now.

    The next device's stay begins.
    """
    since = flight.arrived.get(piece, clockwork.now)
    held = Use("hold", use.stage, piece[1], use.nbytes)
    flight.spans.append(held.span(f"memory {device}", device, since, clockwork.now))
    flight.arrived[piece] = clockwork.now


def _run(clockwork: Clockwork, flight: Flight, command: Run) -> Steps:
    device = command.device
    sizes = [(piece, _bytes(flight, piece)) for piece in command.pieces]
    with clockwork.cores(device).request() as turn:
        yield turn
        start = clockwork.now
        evidence = flight.carrier.run(command)
        memory_bytes = evidence.work.memory_bytes
        took = clockwork.stretched(device, evidence.time.ns, memory_bytes)
        yield clockwork.env.timeout(took)
        nbytes = sum(size for _, size in sizes)
        use = Use("run", command.stage, command.chunk, nbytes, evidence.rows_out)
        flight.spans.append(use.span(f"cores {device}", device, start, clockwork.now))
    for piece, size in sizes:
        _hold(clockwork, flight, piece, device, replace(use, nbytes=size))
    flight.arrived[command.stage, command.chunk] = clockwork.now
    return Ran(command.stage, command.chunk, evidence.rows_out)


def _deliver(clockwork: Clockwork, flight: Flight, command: Deliver) -> Steps:
    stage, chunk = command.piece
    use = Use("deliver", stage, chunk, _bytes(flight, command.piece))
    yield from clockwork.carry(flight.spans, command.source, command.target, use)
    _hold(clockwork, flight, command.piece, command.source, use)
    return Delivered(command.piece)
