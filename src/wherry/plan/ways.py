"""The ways of chunks through a system: where they meet, and which of them are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct

Way = dict[str, int]
"""Where one chunk spends its nanoseconds: resources by name, "alone" for latencies."""


class OnWay(Struct, frozen=True):
    """One chunk's way from one home.

    Attributes
    ----------
    number : int
        Of the placement's way that it is.
    devices : tuple of str
        That run programs on it, in order.
    times : int
        How many chunks go it.
    inside : int
        Nanoseconds of it until the first program has run: so long the chunk is in its window.
    again : frozenset of str
        Resources that it comes to more than once.
    """

    way: Way
    number: int
    devices: tuple[str, ...]
    times: int
    inside: int
    again: frozenset[str]

    @property
    def ns(self) -> int:
        """The time of the chunk if nothing else runs."""
        return sum(self.way.values())


def on_way(
    legs: Iterable[Way], number: int, devices: tuple[str, ...], times: int, inside: int
) -> OnWay:
    """Give the way that legs make one after the other."""
    way: Way = {}
    again: set[str] = set()
    for leg in legs:
        again.update(name for name in leg if name in way and name != "alone")
        spend(way, leg)
    return OnWay(way, number, devices, times, inside, frozenset(again))


def spend(way: Way, more: Way) -> None:
    """Add what is spent further along a way."""
    for resource, ns in more.items():
        way[resource] = way.get(resource, 0) + ns


class Shape(Struct, frozen=True):
    """A way that stands for all that differ from it in names only.

    Attributes
    ----------
    number : int
        Of the way, the last of those that are alike: who waits for builds waits longest.
    chunks : int
        How many chunks its first device works on.
    bursts : dict of str to int
        For each resource, how long the last chunk waits beyond it.
    users : dict of str to tuple of int
        For each resource, the ways it is on.
    """

    one: OnWay
    number: int
    chunks: int
    bursts: dict[str, int]
    users: dict[str, tuple[int, ...]]


def shapes_of(
    ways: Sequence[OnWay], busy: Mapping[str, int], rounds: Mapping[str, tuple[int, int]]
) -> list[Shape]:
    """Give the shapes of ways.

    Parameters
    ----------
    busy : mapping of str to int
        Nanoseconds each resource is busy.
    rounds : mapping of str to (int, int)
        How many programs cores run at once, and the longest run of one.
    """
    users: dict[str, list[int]] = {}
    chunks: Counter[str] = Counter()
    for number, one in enumerate(ways):
        chunks[one.devices[0]] += one.times
        for name in one.way:
            users.setdefault(name, []).append(number)
    alike: dict[object, int] = {}
    for number, one in enumerate(ways):
        spent = tuple((ns, busy.get(name, 0), len(users[name])) for name, ns in one.way.items())
        alike[spent, one.times, one.inside, chunks[one.devices[0]]] = number
    found = []
    for number in alike.values():
        one = ways[number]
        mine = {name: tuple(users[name]) for name in one.way}
        same = {n for n, other in enumerate(ways) if other.number == one.number}
        bursts = {name: _burst(name, one, mine, same, rounds) for name in one.way}
        found.append(Shape(one, number, chunks[one.devices[0]], bursts, mine))
    return found


def _burst(
    name: str,
    one: OnWay,
    users: Mapping[str, tuple[int, ...]],
    same: AbstractSet[int],
    rounds: Mapping[str, tuple[int, int]],
) -> int:
    """Give how long the last chunk waits where it meets the last ones of other homes.

    They leave what keeps each of the homes busy at the same time, and take turns after it. The
    longest turn decides: whoever waited for it has no more to wait for shorter ones. Of the ways of
    a home one is the last, so that the chunks of other ways (not in `same`) come at other times.
    """
    longest, after, own = 0, False, set(users[name])
    for other, ns in one.way.items():
        if after and other != "alone":
            others = len(same & set(users[other]) - own)
            if others >= rounds.get(other, (1, 0))[0]:
                longest = max(longest, others * ns)
        after = after or other == name
    return longest
