"""Frames of an older program made frames of a newer one of the same name, by rules that are said.

What a frame needs at the position where it goes on is declared there: slots by name and type, and
what is awaited. A frame fits a newer program if all of that can be had from it:

    same program     nothing is to be done                                             keep
    declared         `@wherry.migrate` says which position, and where slots come from  migrate
    same awaits      the programs await the same, one after the other, and the slots
                     at this position are there by name and type                       migrate
    only one         no other await of either program is like this one, and its slots
                     are there by name and type                                        migrate

Any other stays with its old program, which the journal keeps for as long as a frame names it: pin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError, unknown_name
from wherry.flow.nodes import CallMovable, Position, Program, Slot, identity
from wherry.flow.types import fits, type_name
from wherry.flow.wire import check_value
from wherry.movables.declare import Movable

KEEP: Final = "keep"
MIGRATE: Final = "migrate"
PIN: Final = "pin"

Values = tuple[Any, ...]
Picks = Callable[[Values], Values]
"""Gives the values of the new position's slots from those of the old one's."""


class Migration(Struct, frozen=True):
    """How frames of an older program become frames of a newer one.

    Attributes
    ----------
    old : str
        What the older program's digest begins with, in hexadecimal.
    positions : mapping of int to int
        Old to new.
    slots : mapping of str to str
        New names to old ones; a name that is not here stays.
    given : mapping of str to object
        Values of slots that the older frame lacks.
    """

    old: str
    positions: Mapping[int, int]
    slots: Mapping[str, str]
    given: Mapping[str, object]


_DECLARED: Final[dict[bytes, list[Migration]]] = {}
"""By the digest of the newer program."""


def migrate(
    *,
    old: str | Movable,
    positions: Mapping[int, int],
    slots: Mapping[str, str] | None = None,
    given: Mapping[str, object] | None = None,
) -> Callable[[Movable], Movable]:
    """Say how what sleeps in an older version of a movable goes on in this one.

    `@wh.migrate(old="3fa9c2", positions={1: 1, 2: 3}, given={"limit": 100})` above `@wh.movable`.

    Parameters
    ----------
    old : str or Movable
        The older version: the first digits of its program's digest (`wherry show`), or itself.
    positions : mapping of int to int
        Old positions to new ones, as `wherry explain` numbers them.
    slots : mapping of str to str
        New names of variables to old ones, where they differ.
    given : mapping of str to object
        Values of variables that the older version did not have.

    Raises
    ------
    InputError
        If the newer version has no such position or variable, or a value is of another type.
    """
    prefix = old if isinstance(old, str) else identity(old.program).hex()

    def declared(movable: Movable) -> Movable:
        program = movable.program
        values = _checked(program, positions, slots or {}, given or {})
        made = Migration(prefix.lower(), dict(positions), dict(slots or {}), values)
        _DECLARED.setdefault(identity(program), []).append(made)
        return movable

    return declared


class Way(Struct, frozen=True):
    """How frames of one position of an older program go on.

    Attributes
    ----------
    kind : str
        `KEEP`, `MIGRATE` or `PIN`.
    why : str
        The rule, or the reason why there is none.
    position : int
        The new one.
    picks : callable or None
        Makes the new slots; None: they are the same.
    """

    kind: str
    why: str
    position: int = 0
    picks: Picks | None = None


class Ways:
    """The ways from one older program to a newer one, found once a position.

    Attributes
    ----------
    old, new : Program
        Of the same name.
    digest : bytes
        Of the newer one.
    """

    def __init__(self, old: Program, new: Program) -> None:
        self.old = old
        self.new = new
        self.digest = identity(new)  # which takes as long as some hundred frames
        self._ways: dict[int, Way] = {}
        self._callees: dict[tuple[int, int], Ways] = {}

    def way(self, position: int) -> Way:
        """Give the way of a position; what it called is not looked at."""
        found = self._ways.get(position)
        if found is None:
            found = self._ways[position] = self._found(position)
        return found

    def moved(self, position: int, values: Values) -> tuple[Way, Values]:
        """Give the way of a frame, and its values in the newer program."""
        way = self.way(position)
        if way.kind != MIGRATE:
            return way, values
        awaits = self.old.positions[position].awaits
        if not isinstance(awaits, CallMovable):
            return way, way.picks(values) if way.picks else values
        target = self.new.positions[way.position].awaits
        assert isinstance(target, CallMovable)  # a way goes to an await of the same kind
        slots = way.picks(values[:-1]) if way.picks else values[:-1]
        inner, inside = self._callee(awaits.callee, target.callee).moved(*values[-1])
        if inner.kind == PIN:
            callee = self.old.callees[awaits.callee].name
            return Way(PIN, f"in {callee}, which it called: {inner.why}"), values
        at = values[-1][0] if inner.kind == KEEP else inner.position
        return way, (*slots, (at, inside))

    def _callee(self, old: int, new: int) -> Ways:
        found = self._callees.get((old, new))
        if found is None:
            found = self._callees[old, new] = Ways(self.old.callees[old], self.new.callees[new])
        return found

    def _found(self, position: int) -> Way:
        old = identity(self.old)
        if old == self.digest:
            return Way(KEEP, "same program", position)
        digest = old.hex()
        for one in reversed(_DECLARED.get(self.digest, [])):
            if digest.startswith(one.old) and position in one.positions:
                return self._to(position, one.positions[position], one, "declared")
        none = Migration("", {}, {}, {})
        if self._same_awaits(position):
            return self._to(position, position, none, "same awaits")
        mine = _sign(self.old, position)
        alike = [n for n in range(len(self.new.positions)) if _sign(self.new, n) == mine]
        again = [n for n in range(len(self.old.positions)) if _sign(self.old, n) == mine]
        if len(alike) == len(again) == 1:
            return self._to(position, alike[0], none, "only one like it")
        seen = "none" if not alike else f"{len(alike)}: positions {', '.join(map(str, alike))}"
        return Way(
            PIN,
            f"awaits of the new program like this one: {seen}; {_advice(digest, position, '?')}",
        )

    def _same_awaits(self, position: int) -> bool:
        old, new = self.old.positions, self.new.positions
        return (
            len(old) == len(new)
            and all(type(a.awaits) is type(b.awaits) for a, b in zip(old, new, strict=True))
            and _sign(self.old, position) == _sign(self.new, position)
        )

    def _to(self, position: int, to: int, rule: Migration, why: str) -> Way:
        """Give the way to a position of the newer program, if all that it needs can be had."""
        old, new = self.old.positions[position], self.new.positions[to]
        digest = identity(self.old).hex()
        if type(old.awaits) is not type(new.awaits):
            return Way(
                PIN,
                f"position {position} awaits {_kind(old)}, and position {to} of the new program "
                f"{_kind(new)}: what it waits for would not come",
            )
        had = {slot.name: (place, slot) for place, slot in enumerate(old.slots)}
        sources: list[tuple[int, object]] = []
        for slot in new.slots:
            if slot.name in rule.given:
                sources.append((-1, rule.given[slot.name]))
                continue
            name = rule.slots.get(slot.name, slot.name)
            if name not in had:
                advice = _advice(digest, position, to, f', given={{"{slot.name}": ...}}')
                return Way(PIN, f"its frame has no {_named(slot)}; {advice}")
            place, before = had[name]
            if not fits(before.type, slot.type):
                advice = _advice(digest, position, to, f', given={{"{slot.name}": ...}}')
                seen = type_name(before.type)
                return Way(PIN, f"{name!r} is {seen}, and should be {_named(slot)}; {advice}")
            sources.append((place, None))
        return Way(MIGRATE, why, to, _picks(sources, len(old.slots)))


def _sign(program: Program, number: int) -> tuple[object, ...]:
    """Give what a position awaits, with what operands, and which variable takes the result."""
    position = program.positions[number]
    awaits: object = position.awaits
    if isinstance(awaits, CallMovable):
        awaits = program.callees[awaits.callee].name
    return awaits, position.operands, position.target, position.type


def _picks(sources: list[tuple[int, object]], slots: int) -> Picks | None:
    if [place for place, _ in sources] == list(range(slots)):
        return None
    return lambda values: tuple(value if place < 0 else values[place] for place, value in sources)


def _advice(digest: str, position: int, to: object, more: str = "") -> str:
    return f'@wherry.migrate(old="{digest[:8]}", positions={{{position}: {to}}}{more}) says how'


def _kind(position: Position) -> str:
    return "nothing" if position.awaits is None else type(position.awaits).__name__


def _named(slot: Slot) -> str:
    return f"{slot.name}: {type_name(slot.type)}"


def _checked(
    program: Program,
    positions: Mapping[int, int],
    slots: Mapping[str, str],
    given: Mapping[str, object],
) -> dict[str, object]:
    """Give the values that are given as their slots have them; refuse what cannot be."""
    last = len(program.positions) - 1
    for to in positions.values():
        if not 1 <= to <= last:
            raise InputError(
                f"migrate: {program.name} has no position {to}; its awaits are 1 to {last}"
            )
    live = {s.name: s for to in positions.values() for s in program.positions[to].slots}
    for name in (*slots, *given):
        if name not in live:
            raise unknown_name(f"variable that is live there in {program.name}", name, live)
    return {
        name: check_value(live[name].type, value, f"migrate: given {name}")
        for name, value in given.items()
    }
