"""What is shared in virtual time, first come first served: queues, channels, bandwidth, room.

simpy's own resources make an event for every request, granted at once or not; here only who has to
wait makes one, because most chunks do not.
"""

from __future__ import annotations

import heapq
from collections import deque

import simpy
from msgspec import Struct, field

from wherry.base.errors import InputError
from wherry.base.units import format_bytes

WHOLE = 1_000_000_000
"""A demand for all of a memory's bandwidth; smaller ones are parts of it."""


class Server(Struct, eq=False):
    """Units that are used one at a time, in the order in which they are asked for.

    Attributes
    ----------
    busy : int
        Units in use.
    """

    env: simpy.Environment
    units: int
    busy: int = 0
    _waiting: deque[simpy.Event] = field(default_factory=deque)

    def take(self) -> simpy.Event | None:
        """Take a unit: at once (None), or when the event given comes."""
        if self.busy < self.units:
            self.busy += 1
            return None
        turn = self.env.event()
        self._waiting.append(turn)
        return turn

    def give(self) -> None:
        """Give a unit back; whoever has waited longest has it now."""
        if self._waiting:
            self._waiting.popleft().succeed()
        else:
            self.busy -= 1


class Channels(Struct, eq=False):
    """Channels of media: each works off its requests one after another.

    How long a request takes is known when it comes, so the times at which channels are free say
    all. `free` is a heap of them.
    """

    free: list[int]

    def use(self, now: int, times: list[int]) -> tuple[int, int]:
        """Occupy the channels that are free first, one for each of `times`, the longest first.

        Returns
        -------
        tuple of int
            When the first of them begins, and when the last one ends.
        """
        begins = [max(now, heapq.heappop(self.free)) for _ in times]
        ends = [begin + took for begin, took in zip(begins, times, strict=True)]
        for end in ends:
            heapq.heappush(self.free, end)
        return begins[0], max(ends)


class Bandwidth(Struct, eq=False):
    """A memory's bandwidth, shared in proportion to what each of its users would take of it.

    A use that begins while more than all is asked for is stretched by as much; those that run on
    keep the time they were given, so that equal uses, one after another, share exactly.
    """

    asked: int = 0

    def share(self, alone_ns: int, memory_ns: int) -> tuple[int, int]:
        """Begin a use; give its part of the whole, to be ended with, and the time it takes.

        Parameters
        ----------
        alone_ns : int
            The time it takes if nobody else uses the memory.
        memory_ns : int
            The time of its bytes over the whole bandwidth, at most `alone_ns`.
        """
        part = memory_ns * WHOLE // alone_ns if alone_ns else 0
        self.asked += part
        return part, alone_ns if self.asked <= WHOLE else alone_ns * self.asked // WHOLE

    def end(self, part: int) -> None:
        """End a use."""
        self.asked -= part


class Room(Struct, eq=False):
    """The bytes that a device's memory holds, and who waits for some to go.

    Attributes
    ----------
    beyond : bool
        More may come than fits: then programs are slow, and nobody waits.
    """

    device: str
    env: simpy.Environment
    capacity: int
    beyond: bool
    held: int = 0
    _waiting: deque[tuple[int, simpy.Event]] = field(default_factory=deque)

    @property
    def overfull(self) -> bool:
        """Whether it holds more than fits."""
        return self.held > self.capacity

    @property
    def queue(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def reserve(self, nbytes: int) -> simpy.Event | None:
        """Have room for `nbytes`: at once (None), or when the event given comes.

        Raises
        ------
        InputError
            They would not even fit alone.
        """
        if self.beyond:
            self.held += nbytes
            return None
        if nbytes > self.capacity:
            raise InputError(
                f"{self.device} has {format_bytes(self.capacity)} of memory; a piece of "
                f"{format_bytes(nbytes)} does not fit"
            )
        if not self._waiting and self.held + nbytes <= self.capacity:
            self.held += nbytes
            return None
        turn = self.env.event()
        self._waiting.append((nbytes, turn))
        return turn

    def hold(self, nbytes: int) -> None:
        """Hold what a program has just made: that does not wait, what comes next does."""
        self.held += nbytes

    def release(self, nbytes: int) -> None:
        """Let bytes go; those who wait longest come in as far as they fit."""
        self.held -= nbytes
        while self._waiting and self.held + self._waiting[0][0] <= self.capacity:
            nbytes, turn = self._waiting.popleft()
            self.held += nbytes
            turn.succeed()
