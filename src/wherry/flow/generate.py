"""Programs as Python functions: syntax trees are built from verified nodes, and compiled.

Every position becomes one function that runs from there to the next await: `p3(values, result)`.
It holds the blocks that can be reached without an await. A block with one way in stands where it
is reached; others are arms of a loop that goes on at the block with number `b`. Variables are
called v0, v1, ...; what the functions can name is listed in `support.NAMES`, and nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from wherry.flow.generate_values import ValueMaker, load, store
from wherry.flow.infer import Inferred
from wherry.flow.liveness import assigned, successors
from wherry.flow.nodes import (
    Await,
    BeginItems,
    BeginRange,
    Binary,
    Branch,
    End,
    Evaluate,
    Formatted,
    FunctionCall,
    Handler,
    Jump,
    Let,
    MethodCall,
    NextItem,
    NextNumber,
    Position,
    Program,
    Raise,
    Return,
    Statement,
    Unary,
    Unpack,
    Value,
)
from wherry.flow.outside import error_class
from wherry.flow.source import compiled_files
from wherry.flow.types import (
    DATETIME,
    FLOAT,
    INT,
    TIME,
    Reference,
    Scalar,
)
from wherry.flow.wire import REFERENCES, SCALAR_TYPES, check_value

_NESTED_MOST: Final = 12
"""Blocks within blocks; deeper ones become arms of the loop, so that compiling never nests deep."""


class Generator:
    """Makes the functions of one program."""

    def __init__(self, program: Program, inferred: Inferred) -> None:
        self.program = program
        self.inferred = inferred
        self.names: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.values = ValueMaker(self.names, self.constants)
        self.starts = self._line_starts()
        self.waits = {
            block.end.position: number
            for number, block in enumerate(program.blocks)
            if isinstance(block.end, Await)
        }

    def module(self) -> ast.Module:
        """Give the functions `p0`, `p1`, ..., and `t1`, ... where errors that arrive are caught."""
        made: list[ast.stmt] = []
        for number in range(len(self.program.positions)):
            made.append(self._position(number))
            if number and self.program.blocks[self.waits[number]].handlers:
                made.append(self._thrown(number))
        module = ast.Module(made, [])
        return ast.fix_missing_locations(module)

    def _line_starts(self) -> list[int]:
        starts, at = [], 0
        for block in self.program.blocks:
            starts.append(at)
            at += len(block.statements) + 1
        return starts

    def _line(self, block: int, statement: int) -> int:
        lines = self.program.places.lines
        at = self.starts[block] + statement
        return lines[at] if at < len(lines) else self.program.places.line or 1

    def _position(self, number: int) -> ast.stmt:
        position = self.program.positions[number]
        body: list[ast.stmt] = []
        slots = [slot.name for slot in position.slots]
        if slots:
            targets = ast.Tuple([self.values.store(n) for n in slots], ast.Store())
            body.append(ast.Assign([targets], load("values")))
        if position.target is not None:
            body.append(self._check_result(number, position))
            body.append(ast.Assign([self.values.store(position.target)], load("result")))
        body += _Segment(self, position.block).statements()
        return self._function(f"p{number}", "result", body, position.line)

    def _check_result(self, number: int, position: Position) -> ast.stmt:
        """Give the check that what arrived is of the position's type."""
        key = f"check{number}"
        what = f"the result of {position.text or 'an await'} in {self.program.name}"
        self.constants[key] = lambda value: check_value(position.type, value, what)
        checked = ast.Assign([store("result")], ast.Call(load(key), [load("result")], []))
        if not isinstance(position.type, Scalar | Reference) or position.type == FLOAT:
            return checked
        kind = f"k_{position.type.kind}"
        self.constants[kind] = (
            SCALAR_TYPES[position.type.kind]
            if isinstance(position.type, Scalar)
            else REFERENCES[position.type.kind]
        )
        other: ast.expr = ast.Compare(
            ast.Call(load("type"), [load("result")], []), [ast.IsNot()], [load(kind)]
        )
        if position.type == INT:
            within = ast.Compare(
                load("INT_LEAST"), [ast.LtE(), ast.LtE()], [load("result"), load("INT_MOST")]
            )
            other = ast.BoolOp(ast.Or(), [other, ast.UnaryOp(ast.Not(), within)])
        elif position.type in {DATETIME, TIME}:
            return checked
        return ast.If(other, [checked], [])

    def _thrown(self, number: int) -> ast.stmt:
        position = self.program.positions[number]
        block = self.program.blocks[self.waits[number]]
        body: list[ast.stmt] = []
        slots = [slot.name for slot in position.slots]
        if slots:
            targets = ast.Tuple([self.values.store(n) for n in slots], ast.Store())
            body.append(ast.Assign([targets], load("values")))
        body += _Segment(self, None, block.handlers).statements()
        return self._function(f"t{number}", "error", body, position.line)

    def _function(self, name: str, last: str, body: list[ast.stmt], line: int) -> ast.stmt:
        arguments = ast.arguments([], [ast.arg("values"), ast.arg(last)], None, [], [], None, [])
        function = ast.FunctionDef(name, arguments, body, [], None, None)
        return _at(function, line or 1)


def _at(node: Any, line: int) -> Any:
    """Give a tree whose nodes without a line stand at this one."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.stmt | ast.expr | ast.excepthandler) and not hasattr(
            inner, "lineno"
        ):
            inner.lineno = inner.end_lineno = line
            inner.col_offset = inner.end_col_offset = 0
    return node


class _Segment:
    """What runs from a block, or from an error that arrives, to the next awaits."""

    def __init__(
        self, generator: Generator, first: int | None, handlers: tuple[Handler, ...] = ()
    ) -> None:
        self.g = generator
        self.blocks = generator.program.blocks
        self.first = first
        self.handlers = handlers
        self.arms = self._arms()
        self.within_loop = False

    def _arms(self) -> set[int]:
        """Give the blocks that are entered from more than one place, or out of a try."""
        arms = {handler.block for handler in self.handlers}
        waiting = [*arms] if self.first is None else [self.first]
        seen: set[int] = set()
        entered: dict[int, int] = {}
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            block = self.blocks[number]
            after = [] if isinstance(block.end, Await) else list(successors(block.end, ()))
            for other in after:
                entered[other] = entered.get(other, 0) + 1
                if block.handlers:
                    arms.add(other)
            caught = [handler.block for handler in block.handlers]
            arms.update(caught)
            waiting += [*after, *caught]
        if self.first is not None and entered.get(self.first):
            arms.add(self.first)
        arms |= {number for number, ways in entered.items() if ways > 1}
        return arms

    def statements(self) -> list[ast.stmt]:
        """Give the body of the function."""
        if self.first is None:
            # Clauses of a try whose only statement raises what arrived.
            begin = [self._try([ast.Raise(load("error"), None)], self.handlers)]
        elif self.first in self.arms:
            begin = [self._go(self.first)]
        else:
            begin = self._block(self.first, 0)
        if not self.arms:
            return begin
        self.within_loop = True
        return [*begin, self._no_turns(), self._loop()]

    def _no_turns(self) -> ast.stmt:
        return ast.Assign([store("turns")], ast.Constant(0))

    def _loop(self) -> ast.stmt:
        # A turn that no await ends is counted, so that every step comes to an end.
        count = ast.BinOp(load("turns"), ast.Add(), ast.Constant(1))
        over = ast.Compare(load("turns"), [ast.Gt()], [load("TURNS_MOST")])
        endless = ast.Raise(ast.Call(load("endless"), [], []), None)
        made: list[ast.stmt] = [
            ast.Assign([store("turns")], count),
            ast.If(over, [endless], []),
        ]
        done: set[int] = set()
        bodies: list[tuple[int, list[ast.stmt]]] = []
        # Making an arm may find that what is nested too deep has to be one as well.
        while self.arms - done:
            number = min(self.arms - done)
            done.add(number)
            bodies.append((number, self._block(number, 0)))
        for number, body in bodies:
            test = ast.Compare(load("b"), [ast.Eq()], [ast.Constant(number)])
            made.append(ast.If(test, body, []))
        return ast.While(ast.Constant(value=True), made, [])

    def _go(self, number: int) -> ast.stmt:
        return ast.Assign([store("b")], ast.Constant(number))

    def _goto(self, number: int, depth: int) -> list[ast.stmt]:
        if number not in self.arms and depth > _NESTED_MOST:
            self.arms.add(number)
        if number in self.arms:
            # Before the loop, what sets `b` is the last statement on its way into the loop.
            return [self._go(number), *self._again()]
        return self._block(number, depth)

    def _again(self) -> list[ast.stmt]:
        return [ast.Continue()] if self.within_loop else []

    def _block(self, number: int, depth: int) -> list[ast.stmt]:
        block = self.blocks[number]
        made: list[ast.stmt] = []
        for n, statement in enumerate(block.statements):
            made += [_at(s, self.g._line(number, n)) for s in self._statement(number, statement)]
        line = self.g._line(number, len(block.statements))
        made += [_at(s, line) for s in self._end(block.end, depth)]
        if block.handlers:
            return [self._try(made, block.handlers)]
        return made

    def _try(self, body: list[ast.stmt], handlers: Sequence[Handler]) -> ast.stmt:
        clauses = []
        for handler in handlers:
            kinds = ast.Tuple([load(self._error(e)) for e in handler.errors], ast.Load())
            then: list[ast.stmt] = []
            if handler.name is not None:
                text = ast.Call(load("error_text"), [load("e")], [])
                then.append(ast.Assign([self.g.values.store(handler.name)], text))
            then += [self._go(handler.block), *self._again()]
            clauses.append(ast.ExceptHandler(kinds, "e", then))
        return ast.Try(body, clauses, [], [])

    def _error(self, name: str) -> str:
        key = f"E_{name}"
        self.g.constants[key] = error_class(name)
        return key

    def _statement(self, number: int, statement: Statement) -> list[ast.stmt]:
        values = self.g.values
        match statement:
            case Let(target, value):
                made: list[ast.stmt] = [ast.Assign([values.store(target)], values.make(value))]
                return made + self._checked(number, (target,), value)
            case Unpack(targets, value):
                names = ast.Tuple([values.store(t) for t in targets], ast.Store())
                made = [ast.Assign([names], values.make(value))]
                return made + self._checked(number, targets, value)
            case Evaluate(value):
                return [ast.Expr(values.make(value))]
            case BeginRange(loop, start, stop):
                counter, last = f"{loop}.i", f"{loop}.stop"
                return [
                    ast.Assign([values.store(counter)], values.make(start)),
                    ast.Assign([values.store(last)], values.make(stop)),
                    *self._checked(number, (counter,), start),
                    *self._checked(number, (last,), stop),
                ]
            case BeginItems(loop, items):
                kept = f"{loop}.items"
                return [
                    ast.Assign([values.store(kept)], values.make(items)),
                    ast.Assign([values.store(f"{loop}.i")], ast.Constant(0)),
                    *self._checked(number, (kept,), items),
                ]

    def _checked(self, number: int, targets: tuple[str, ...], value: Value) -> list[ast.stmt]:
        """Give the checks that variables that may have grown are still what a frame can hold.

        Every variable passes one when it gets a computed value, so what moves between variables
        needs none.
        """
        if not grows(value):
            return []
        return [check for target in targets for check in self._check(number, target)]

    def _check(self, number: int, target: str) -> list[ast.stmt]:
        name = self.g.values.load(target)
        # Of a variable with several types within a block, the one at its end says nothing.
        several = sum(target in assigned(s) for s in self.blocks[number].statements) > 1
        match self.g.inferred.ends[number].get(target):
            case _ if several:
                pass
            case Scalar("int"):
                within = ast.Compare(
                    load("INT_LEAST"), [ast.LtE(), ast.LtE()], [name, load("INT_MOST")]
                )
                too_large = ast.Raise(ast.Call(load("too_large"), [name], []), None)
                return [ast.If(ast.UnaryOp(ast.Not(), within), [too_large], [])]
            case Scalar():
                return []
        return [ast.Expr(ast.Call(load("check_size"), [name], []))]

    def _end(self, end: End, depth: int) -> list[ast.stmt]:
        values = self.g.values
        match end:
            case Jump(block):
                return self._goto(block, depth)
            case Branch(test, then, otherwise):
                ways = [self._goto(way, depth + 1) for way in (then, otherwise)]
                return [ast.If(values.make(test), *ways)]
            case Return(value):
                made = ast.Tuple(
                    [ast.Constant(-1), values.make(value), ast.Constant(None)], ast.Load()
                )
                return [ast.Return(made)]
            case Raise(error, message):
                given = [] if message is None else [values.make(message)]
                return [ast.Raise(ast.Call(load(self._error(error)), given, []), None)]
            case NextNumber():
                return self._next_number(end, depth)
            case NextItem():
                return self._next_item(end, depth)
            case Await(position):
                return [self._await(position)]

    def _next_number(self, end: NextNumber, depth: int) -> list[ast.stmt]:
        values = self.g.values
        counter = f"{end.loop}.i"
        compare: ast.cmpop = ast.Lt() if end.step > 0 else ast.Gt()
        test = ast.Compare(values.load(counter), [compare], [values.make(end.stop)])
        step = ast.BinOp(values.load(counter), ast.Add(), ast.Constant(end.step))
        body: list[ast.stmt] = [
            ast.Assign([values.store(end.target)], values.load(counter)),
            ast.Assign([values.store(counter)], step),
            *self._goto(end.body, depth + 1),
        ]
        return [ast.If(test, body, self._goto(end.done, depth + 1))]

    def _next_item(self, end: NextItem, depth: int) -> list[ast.stmt]:
        values = self.g.values
        counter = f"{end.loop}.i"
        items = values.make(end.items)
        test = ast.Compare(values.load(counter), [ast.Lt()], [ast.Call(load("len"), [items], [])])
        item = ast.Subscript(values.make(end.items), values.load(counter), ast.Load())
        body: list[ast.stmt] = [
            ast.Assign([values.store(end.target)], item),
            ast.Assign(
                [values.store(counter)],
                ast.BinOp(values.load(counter), ast.Add(), ast.Constant(1)),
            ),
            *self._goto(end.body, depth + 1),
        ]
        return [ast.If(test, body, self._goto(end.done, depth + 1))]

    def _await(self, number: int) -> ast.stmt:
        values = self.g.values
        position = self.g.program.positions[number]
        slots = ast.Tuple([values.load(slot.name) for slot in position.slots], ast.Load())
        operands = ast.Tuple([values.make(o) for o in position.operands], ast.Load())
        # Operands first: they are evaluated before anything is frozen, and may raise.
        step = ast.Tuple([ast.Constant(number), slots, operands], ast.Load())
        return ast.Return(step)


_GROWING: Final = (Binary, Unary, Formatted, FunctionCall, MethodCall)


def grows(value: object) -> bool:
    """Tell whether a value is computed, not only moved: then it may be larger than its parts."""
    if isinstance(value, _GROWING):
        return True
    if isinstance(value, tuple):
        return any(map(grows, value))
    return isinstance(value, Struct) and any(
        grows(getattr(value, f)) for f in value.__struct_fields__
    )


def code_of(program: Program, inferred: Inferred) -> tuple[Any, dict[str, Any]]:
    """Give the compiled module of a program, and the constants that it names."""
    generator = Generator(program, inferred)
    tree = generator.module()
    # A file's name that came in a message is not believed: tracebacks would show that file's lines.
    known = program.places.file in compiled_files()
    file = program.places.file if known else f"<movable {program.name}>"
    return compile(tree, file, "exec", dont_inherit=True), generator.constants
