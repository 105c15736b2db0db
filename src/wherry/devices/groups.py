"""Writes out what a system file says once for many: entries with a `count`, and groups of them.

Entry `csd{m}` with count 4 stands for csd0 to csd3. A group of count 16 stands for 16 of each of
its entries, with `{n}` for the member. What comes of it is what a longer file would have said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec
from msgspec import Struct

from wherry.devices.routes import Link
from wherry.devices.topology import Dataset

_BRACES = re.compile(r"\{[^{}]*\}")


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of a system file."""


class Switch(_Table, frozen=True):
    """A node that only connects."""

    name: str
    count: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that count and group fill in."""
        return (self.name,)


class DeviceEntry(_Table, frozen=True):
    """A device, the profile that says what it is, and where its agent listens, if it has one."""

    name: str
    profile: str
    agent: str | None = None
    count: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that count and group fill in."""
        return (self.name,)


class LinkEntry(Link, frozen=True, forbid_unknown_fields=True):
    """A link of the file: with a count it is that many."""

    count: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that count and group fill in."""
        return self.ends


class Group(_Table, frozen=True):
    """Entries that stand for `count` of each of them."""

    count: int
    device: tuple[DeviceEntry, ...] = ()
    switch: tuple[Switch, ...] = ()
    link: tuple[LinkEntry, ...] = ()


Entry = TypeVar("Entry", DeviceEntry, Switch, LinkEntry)


class Written(Struct, frozen=True):
    """One device, switch or link that an entry stands for.

    `where` is the header of the entry and its place in the file, the same for all it stands for;
    `member` and `index` are the values of `{n}` and `{m}`.
    """

    where: str
    member: int
    index: int
    names: tuple[str, ...]


def devices_of(
    entries: tuple[DeviceEntry, ...], groups: tuple[Group, ...]
) -> list[tuple[Written, DeviceEntry]]:
    """Give every device: those outside groups first, then member by member."""
    return _all("device", entries, groups, lambda group: group.device)


def switches_of(
    entries: tuple[Switch, ...], groups: tuple[Group, ...]
) -> list[tuple[Written, Switch]]:
    """Give every switch, in the same order."""
    return _all("switch", entries, groups, lambda group: group.switch)


def links_of(
    entries: tuple[LinkEntry, ...], groups: tuple[Group, ...]
) -> list[tuple[Written, LinkEntry]]:
    """Give every link, in the same order."""
    return _all("link", entries, groups, lambda group: group.link)


def as_link(written: Written, entry: LinkEntry) -> Link:
    """Give the link that an entry stands for."""
    a, b = written.names
    return Link(
        ends=(a, b),
        bandwidth_gb_per_s=entry.bandwidth_gb_per_s,
        latency_us=entry.latency_us,
        duplex=entry.duplex,
        both_ways_share=entry.both_ways_share,
    )


def brace_problems(written: list[Written]) -> list[str]:
    """Give what is in braces and stands for nothing: `{n}` outside a group, or another word."""
    found: dict[str, None] = {}
    for one in written:
        for name in one.names:
            for word in _BRACES.findall(name):
                found[f"{one.where}: nothing stands for {word} in {name!r}; {_MEANINGS}"] = None
    return list(found)


_MEANINGS = "{n} is the member of a group, {m} the place in the count of an entry"


def dealt(dataset: Dataset, devices: list[Written]) -> tuple[Dataset, list[str]]:
    """Give a dataset with the devices that its globs match, and the globs that match none.

    A glob gives the first device of every member of a group before the second of any, so that
    files that follow each other lie in different members.
    """
    by_turn = sorted(devices, key=lambda one: (one.index, one.member))
    found: dict[str, None] = {}
    none = []
    for pattern in dataset.devices:
        if not set(pattern) & set("*?["):
            found[pattern] = None
            continue
        matches = [one.names[0] for one in by_turn if fnmatchcase(one.names[0], pattern)]
        found.update(dict.fromkeys(matches))
        if not matches:
            none.append(pattern)
    return msgspec.structs.replace(dataset, devices=tuple(found)), none


def _all(
    header: str,
    entries: tuple[Entry, ...],
    groups: tuple[Group, ...],
    of: Callable[[Group], tuple[Entry, ...]],
) -> list[tuple[Written, Entry]]:
    found = [
        pair
        for place, entry in enumerate(entries, 1)
        for pair in _repeated(entry, f"[[{header}]] {place}", 0, {})
    ]
    for number, group in enumerate(groups, 1):
        found += [
            pair
            for member in range(group.count)
            for place, entry in enumerate(of(group), 1)
            for pair in _repeated(
                entry, f"[[group]] {number} [[{header}]] {place}", member, {"{n}": str(member)}
            )
        ]
    return found


def _repeated(
    entry: Entry, where: str, member: int, words: dict[str, str]
) -> Iterator[tuple[Written, Entry]]:
    for index in range(entry.count or 1):
        if entry.count is not None:
            words = {**words, "{m}": str(index)}
        yield (
            Written(where, member, index, tuple(_filled(name, words) for name in entry.names)),
            entry,
        )


def _filled(name: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        name = name.replace(word, value)
    return name
