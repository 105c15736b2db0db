"""Types of variables at every place of a program, by following all ways through its blocks.

Nothing is guessed at run time: a variable has one type (or that and None) wherever it is read, and
surely has a value there. `is None` narrows what may be None on the ways behind a branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from wherry.flow.nodes import (
    Await,
    BeginItems,
    BeginRange,
    Block,
    Branch,
    End,
    Evaluate,
    Get,
    Jump,
    Let,
    NextItem,
    NextNumber,
    Position,
    Program,
    Raise,
    Return,
    Statement,
    Unpack,
)
from wherry.flow.operands import check_operands
from wherry.flow.types import (
    INT,
    LEVELS,
    MOST_BYTES,
    Fixed,
    Many,
    Sized,
    WireType,
    fits,
    is_wire,
    item_type,
    joined,
    levels,
    narrowed,
    type_name,
)
from wherry.flow.value_types import UNKNOWN, State, Values, facts, is_unknown, mixed

Report = Callable[[object, str, str], None]
"""Takes the node, what was seen, and the form to use instead."""
ERROR_TEXT = Sized("str", MOST_BYTES)


class Inferred(Struct):
    """What is known of a program's variables.

    Attributes
    ----------
    entries : dict
        By block: types of the variables that surely have a value where it begins.
    ends : dict
        By block: the same where its end begins.
    result : WireType or None
        Of the values returned; None if nothing returns.
    """

    entries: dict[int, State] = {}
    ends: dict[int, State] = {}
    result: WireType | None = None


def infer(program: Program, report: Report) -> Inferred:
    """Find the types of all variables; what does not fit is reported."""
    quiet = _Pass(program, lambda *_: None)
    quiet.run()
    # Once the types stand still, one more round over them says what is wrong with them.
    loud = _Pass(program, report, quiet.found.entries)
    loud.once()
    return loud.found


class _Pass:
    def __init__(
        self, program: Program, report: Report, entries: dict[int, State] | None = None
    ) -> None:
        self.program = program
        self.report = report
        self.values = Values(program, report)
        self.pins = {slot.name: slot.type for slot in (*program.parameters, *program.variables)}
        self.found = Inferred(entries if entries is not None else {})
        self.waiting: list[int] = []
        self.settled = entries is not None

    def run(self) -> None:
        entry = self.program.positions[0].block
        self._reach(entry, {p.name: p.type for p in self.program.parameters})
        while self.waiting:
            # In the order of the source, so that messages name the ways in it.
            self.waiting.sort(reverse=True)
            self._block(self.waiting.pop())

    def once(self) -> None:
        for number in sorted(self.found.entries):
            self._block(number)

    def _reach(self, block: int, state: State) -> None:
        if self.settled:
            return
        known = self.found.entries.get(block)
        merged = dict(state) if known is None else _merged(known, state)
        if merged != known:
            self.found.entries[block] = merged
            if block not in self.waiting:
                self.waiting.append(block)

    def _block(self, number: int) -> None:
        block = self.program.blocks[number]
        state = dict(self.found.entries[number])
        self._may_fail(block, state)
        for statement in block.statements:
            self._statement(statement, state)
            self._may_fail(block, state)
        self.found.ends[number] = dict(state)
        for target, after in self._end(block.end, state):
            self._reach(target, after)

    def _may_fail(self, block: Block, state: State) -> None:
        for handler in block.handlers:
            after = state if handler.name is None else {**state, handler.name: ERROR_TEXT}
            self._reach(handler.block, after)

    def _statement(self, statement: Statement, state: State) -> None:
        match statement:
            case Let(target, value):
                self._assign(statement, target, self.values.of(value, state), state)
            case Unpack(targets, value):
                self._unpack(statement, targets, self.values.of(value, state), state)
            case Evaluate(value):
                self.values.of(value, state)
            case BeginRange(loop, start, stop):
                for bound in (start, stop):
                    self.values.expect(bound, state, INT, "a bound of range")
                state[f"{loop}.i"] = INT
                state[f"{loop}.stop"] = INT
            case BeginItems(loop, items):
                state[f"{loop}.i"] = INT
                self._assign(statement, f"{loop}.items", self.values.of(items, state), state)

    def _assign(self, node: object, target: str, t: WireType, state: State) -> None:
        declared = self.pins.get(target)
        if declared is not None and not is_unknown(t):
            if not fits(t, declared):
                wanted = type_name(declared)
                self.report(
                    node,
                    f"{target!r} is declared as {wanted} and gets {type_name(t)}",
                    f"give it a value of type {wanted}, or use another name",
                )
                t = declared
            t = narrowed(t, declared)
        if levels(t) > LEVELS:
            self.report(
                node,
                f"{target!r} would be nested deeper than {LEVELS} levels: {type_name(t)}",
                "keep scalars in variables of their own",
            )
            t = UNKNOWN
        state[target] = t

    def _unpack(self, node: object, targets: tuple[str, ...], t: WireType, state: State) -> None:
        items: tuple[WireType, ...] = (UNKNOWN,) * len(targets)
        match t:
            case Fixed(found) if len(found) == len(targets):
                items = found
            case Many(item):
                items = (item,) * len(targets)
            case Fixed(found):
                self.report(
                    node,
                    f"{len(targets)} names get a tuple of {len(found)}",
                    f"write {len(found)} names",
                )
            case _ if is_unknown(t):
                pass
            case _:
                self.report(
                    node,
                    f"a {type_name(t)} is no tuple",
                    "unpack tuples only; take characters by index",
                )
        for target, item in zip(targets, items, strict=True):
            self._assign(node, target, item, state)

    def _end(self, end: End, state: State) -> Iterator[tuple[int, State]]:
        match end:
            case Jump(block):
                yield block, state
            case Branch(test, then, otherwise):
                self.values.of(test, state)
                yield then, {**state, **facts(test, state, holds=True)}
                yield otherwise, {**state, **facts(test, state, holds=False)}
            case Return(value):
                self._return(end, self.values.of(value, state))
            case Raise(_, message):
                if message is not None:
                    self.values.expect(message, state, Sized("str", MOST_BYTES), "an error's text")
            case NextNumber(loop, stop, _, target, body, done):
                for value in (Get(f"{loop}.i"), stop):
                    self.values.expect(value, state, INT, "a counter of range")
                yield body, {**state, f"{loop}.i": INT, target: INT}
                yield done, state
            case NextItem(loop, items, target, body, done):
                self.values.expect(Get(f"{loop}.i"), state, INT, "a counter")
                yield body, {**state, target: self._item(end, self.values.of(items, state))}
                yield done, state
            case Await(number):
                yield from self._await(self.program.positions[number], state)

    def _await(self, position: Position, state: State) -> Iterator[tuple[int, State]]:
        check_operands(self.values, position, state)
        after = dict(state)
        if position.target is not None:
            after[position.target] = position.type
        yield position.block, after

    def _return(self, node: Return, t: WireType) -> None:
        if is_unknown(t):
            return
        if not is_wire(t):
            self.report(
                node,
                f"a {type_name(t)} is bound to its place and cannot be the result",
                "return what is to be known of it",
            )
            return
        both = t if self.found.result is None else joined(self.found.result, t)
        if both is None and self.found.result is not None:
            self.report(
                node,
                f"it returns {type_name(t)} here and {type_name(self.found.result)} before",
                "return one type, or that and None",
            )
            return
        self.found.result = both

    def _item(self, node: object, t: WireType) -> WireType:
        if is_unknown(t):
            return UNKNOWN
        if isinstance(t, Many):
            return t.item
        if not isinstance(t, Fixed):
            self.report(
                node,
                f"a loop over a {type_name(t)}",
                "loop over range(...) or a tuple; characters by index: s[i]",
            )
            return UNKNOWN
        item = item_type(t)
        if item is None and t.items:
            self.report(
                node,
                f"the items of {type_name(t)} have different types",
                "write the statements once an item",
            )
        return UNKNOWN if item is None else item


def _merged(a: State, b: State) -> State:
    """Give what is known behind both ways: of a variable set on one of them only, nothing."""
    return {name: _either(a[name], b[name]) for name in a.keys() & b.keys()}


def _either(a: WireType, b: WireType) -> WireType:
    if is_unknown(a) or is_unknown(b):
        return a if is_unknown(a) else b
    both = joined(a, b)
    return mixed(a, b) if both is None else both
