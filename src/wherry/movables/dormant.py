"""Every continuation that sleeps in a journal, thawed against newer programs; and rewritten.

A check reads and changes nothing. A rewrite goes page by page: the frames of a page become those of
the newer program in one durable batch, sealed anew, and are then read back and thawed again. Who
stops it half way has some of either, and both run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import CorruptError, WherryError
from wherry.flow.frame import freeze_frame, thaw_frame
from wherry.flow.nodes import Program
from wherry.movables import programs
from wherry.movables.carrying import program_of
from wherry.movables.migration import KEEP, MIGRATE, PIN, Way, Ways
from wherry.run.journal import Journal
from wherry.run.message import Message, freeze, thaw
from wherry.run.records import PARKED, STATES, Code, Held, Record

_PAGE: Final = 4096
"""Continuations that are read, and rewritten, together."""


class Group(Struct, frozen=True):
    """Continuations that fare alike.

    Attributes
    ----------
    name, program : str
        Of the movable; digest of the program they are in now.
    position, line : int
        Where they wait, and its line in that program's file.
    kind, why : str
        `keep`, `migrate` or `pin`; by which rule, or why not.
    """

    name: str
    program: str
    position: int
    line: int
    kind: str
    why: str


class Found(Struct):
    """What a check or a rewrite came to.

    Attributes
    ----------
    groups : Counter of Group
        How many of each.
    others : int
        Continuations of movables that the file does not define.
    rewritten : int
        How many are of the newer program now, and were thawed again.
    """

    groups: Counter[Group] = field(default_factory=Counter)
    others: int = 0
    rewritten: int = 0

    def count(self, kind: str) -> int:
        """Give how many are kept, migrate or are pinned."""
        return sum(number for group, number in self.groups.items() if group.kind == kind)


Moved = tuple[Message, bytes, int, bytes]
"""The message as it is; the newer program, the position in it, and the frame."""


class Fitting(Struct):
    """Fits what is in a journal to newer programs, by name.

    Attributes
    ----------
    key : bytes
        Of the journal's seals.
    """

    journal: Journal
    key: bytes
    newer: Mapping[str, Program]
    found: Found = field(default_factory=Found)
    _ways: dict[bytes, Ways | None] = field(default_factory=dict)
    _groups: dict[tuple[bytes, int, str, str], Group] = field(default_factory=dict)

    def check(self) -> Found:
        """Thaw every frame against the newer programs; change nothing."""
        for page in self._pages():
            for held in page:
                self._fitted(held)
        return self.found

    def rewrite(self) -> Found:
        """Make every frame one of the newer programs that can be, and thaw it again.

        Raises
        ------
        WherryError
            If one that was written is not what it should be; it was durable before.
        """
        codes: dict[bytes, Code] = {}
        for page in self._pages():
            records: list[Record] = []
            written: list[Held] = []
            for held in page:
                moved = self._fitted(held)
                if moved is not None:
                    made = _rewritten(held, moved, self.key)
                    self._needs(codes, held.program, made.program, records)
                    written.append(made)
            if written:
                self.journal.write([*records, *written])
            for made in written:
                self._thawed_again(made)
            self.found.rewritten += len(written)
        return self.found

    def _pages(self) -> Iterator[list[Held]]:
        after = b""
        while page := self.journal.listed(limit=_PAGE, after=after):
            yield page
            after = page[-1].id

    def _fitted(self, held: Held) -> Moved | None:
        """Count a continuation, and give its state in the newer program if it migrates."""
        ways = self._ways_from(held.program)
        if ways is None:
            self.found.others += 1
            return None
        try:
            way, made = self._tried(held, ways)
        except CorruptError as problem:
            way, made = Way(PIN, f"it cannot be read: {problem}"), None
        self.found.groups[self._group(held, ways, way)] += 1
        return made

    def _tried(self, held: Held, ways: Ways) -> tuple[Way, Moved | None]:
        way = ways.way(held.position)
        if way.kind == KEEP:
            thaw_frame(ways.old, held.position, thaw(held.message, self.key).frame)
            return way, None
        if held.state != PARKED:
            under_way = f"it is {STATES[held.state]}, not dormant: it ends in its old program"
            return Way(PIN, under_way), None
        message = thaw(held.message, self.key)
        values = thaw_frame(ways.old, message.position, message.frame)
        way, values = ways.moved(message.position, values)
        if way.kind != MIGRATE:
            return way, None
        frame = freeze_frame(ways.new, way.position, values)
        if thaw_frame(ways.new, way.position, frame) != values:
            return Way(PIN, "its values do not survive in the new frame"), None
        return way, (message, ways.digest, way.position, frame)

    def _ways_from(self, digest: bytes) -> Ways | None:
        if digest not in self._ways:
            old = program_of(self.journal, digest)
            new = self.newer.get(old.name)
            self._ways[digest] = None if new is None else Ways(old, new)
        return self._ways[digest]

    def _group(self, held: Held, ways: Ways, way: Way) -> Group:
        key = (held.program, held.position, way.kind, way.why)
        found = self._groups.get(key)
        if found is None:
            line = ways.old.positions[held.position].line
            found = self._groups[key] = Group(
                ways.old.name, held.program.hex(), held.position, line, way.kind, way.why
            )
        return found

    def _needs(
        self, codes: dict[bytes, Code], old: bytes, new: bytes, records: list[Record]
    ) -> None:
        """Have the journal keep the newer program, and with it the one that it came from.

        A continuation whose rows are lost goes back to a state of the older one.
        """
        code = codes.get(new)
        if code is None:
            ways = (one for one in self._ways.values() if one is not None)
            program = next(one.new for one in ways if one.digest == new)
            code = self.journal.code(new) or programs.register(program)
        if new not in codes or old not in code.names:
            codes[new] = replace(code, names=tuple({*code.names, old}))
            records.append(codes[new])

    def _thawed_again(self, made: Held) -> None:
        kept = self.journal.held(made.id)
        if kept != made:
            raise WherryError(f"{made.id.hex()} is not in the journal as it was rewritten")
        message = thaw(kept.message, self.key)
        program = program_of(self.journal, kept.program)
        thaw_frame(program, message.position, message.frame)


def _rewritten(held: Held, to: Moved, key: bytes) -> Held:
    """Give a continuation in another program, a hop later: no older state is taken for it."""
    message, program, position, frame = to
    hop = message.hop + 1
    moved = replace(message, hop=hop, program=program, position=position, frame=frame)
    sealed = freeze(moved, key)
    return replace(held, hop=hop, program=program, position=position, message=sealed)
