"""Statements of a movable as blocks of its program."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from wherry.base.errors import InputError
from wherry.flow.annotations import wire_type
from wherry.flow.nodes import (
    Await,
    BeginItems,
    BeginRange,
    Binary,
    Block,
    Branch,
    Constant,
    End,
    Evaluate,
    Get,
    Handler,
    Jump,
    Let,
    NextItem,
    NextNumber,
    Position,
    Raise,
    Return,
    Slot,
    Statement,
    Unpack,
    Value,
)
from wherry.flow.outside import error_name, resolved
from wherry.flow.parse_awaits import AwaitParser, Vocabulary
from wherry.flow.parse_values import _BINARY, ValueParser
from wherry.flow.source import MISSING, Source
from wherry.flow.types import WireType

_REFUSED: Final[dict[type, tuple[str, str]]] = {
    ast.With: ("with", "call an @wherry.effect that opens, uses and closes it"),
    ast.AsyncWith: ("async with", "call an @wherry.effect that opens, uses and closes it"),
    ast.AsyncFor: ("async for", "await a pipeline; devices iterate over rows"),
    ast.FunctionDef: (
        "a nested function",
        "declare it outside as @wherry.movable, or write it here",
    ),
    ast.AsyncFunctionDef: ("a nested function", "declare it outside as @wherry.movable"),
    ast.ClassDef: ("a class", "declare it outside; frames hold scalars and tuples"),
    ast.Global: ("global", "return the value: what moves has no globals"),
    ast.Nonlocal: ("nonlocal", "return the value: what moves has no enclosing variables"),
    ast.Import: ("import", "import outside; movables name constants and marked functions only"),
    ast.ImportFrom: ("import", "import outside; movables name constants and marked functions only"),
    ast.Delete: ("del", "leave it out: a frame holds only what is still read"),
    ast.Assert: ("assert", 'write `if not ...: raise ValueError("...")`'),
    ast.Match: ("match", "write if and elif"),
    ast.TryStar: ("except*", "write except"),
}


@dataclass(slots=True)
class _Open:
    """A block being filled."""

    handlers: tuple[Handler, ...]
    statements: list[Statement] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    end: End | None = None


@dataclass(frozen=True, slots=True)
class _Loop:
    again: int
    after: int


@dataclass(slots=True)
class Parsed:
    """The blocks of a function; positions have no slots yet."""

    blocks: tuple[Block, ...]
    lines: tuple[tuple[int, ...], ...]
    positions: list[Position]
    variables: tuple[Slot, ...]


class StatementParser:
    """Fills blocks with the statements of a function."""

    def __init__(self, source: Source, values: ValueParser, vocabulary: Vocabulary) -> None:
        self.source = source
        self.values = values
        self.awaits = AwaitParser(values, vocabulary)
        self.open: list[_Open] = []
        self.positions: list[Position] = []
        self.declared: dict[str, WireType] = {}
        self.handlers: tuple[Handler, ...] = ()
        self.loops: list[_Loop] = []
        self.loop_count = 0
        self.at = -1

    def parse(self) -> Parsed:
        """Give the blocks of the whole function."""
        self._declare()
        self.at = self._new()
        body = self.source.tree.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        self._body(body)
        self._close(Return(Constant(None)), self.source.tree)
        blocks, lines = [], []
        for block in self.open:
            assert block.end is not None
            blocks.append(Block(tuple(block.statements), block.end, block.handlers))
            lines.append(tuple(block.lines))
        variables = tuple(Slot(name, t) for name, t in self.declared.items())
        return Parsed(tuple(blocks), tuple(lines), self.positions, variables)

    def _declare(self) -> None:
        """Read the annotations of all variables first: they hold for the whole function."""
        parameters = {a.arg for a in self.source.tree.args.args}
        again: set[str] = set()
        for node in ast.walk(self.source.tree):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            t = self._annotation(node.annotation)
            name = node.target.id
            known = self.declared.get(name)
            if name in parameters or (known is not None and t is not None and known != t):
                self.source.refuse(
                    node, f"{name!r} is annotated again", "annotate it once, or use another name"
                )
                again.add(name)
            elif t is not None:
                self.declared[name] = t
        for name in again:
            self.declared.pop(name, None)

    def _annotation(self, node: ast.expr) -> WireType | None:
        try:
            found = self.source.evaluate(node, {})
            if isinstance(found, str):
                found = self.source.evaluate(ast.parse(found, mode="eval").body, {})
            return wire_type(found)
        except InputError as problem:
            seen, _, instead = str(problem).partition("; ")
            self.source.refuse(node, seen, instead)
        except Exception as problem:  # noqa: BLE001 - whatever evaluating an annotation may raise
            text = ast.unparse(node)
            self.source.refuse(node, f"the annotation {text}: {problem}", "name a wire type")
        return None

    def _new(self) -> int:
        self.open.append(_Open(self.handlers))
        return len(self.open) - 1

    def _add(self, statement: Statement, place: ast.AST) -> None:
        block = self.open[self.at]
        if block.end is None:
            block.statements.append(self.values.put(statement, place))
            block.lines.append(getattr(place, "lineno", 0))

    def _close(self, end: End, place: ast.AST) -> None:
        """End the block at hand, if nothing ended it before."""
        block = self.open[self.at]
        if block.end is None:
            block.end = self.values.put(end, place)
            block.lines.append(getattr(place, "lineno", 0))

    def _closed(self) -> bool:
        return self.open[self.at].end is not None

    def _body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self._closed():
                # What follows return, break or continue is never reached, and is checked all the same.
                self.at = self._new()
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Pass():
                return
            case ast.Expr(ast.Constant()):
                return
            case ast.Expr(ast.Await(value)):
                self._await(value, None, node)
            case ast.Expr(value):
                self._add(Evaluate(self.values.value(value)), node)
            case ast.Assign(targets, value):
                self._assign(node, targets, value)
            case ast.AnnAssign(ast.Name(name), _, None):
                return
            case ast.AnnAssign(ast.Name(name), _, value) if value is not None:
                self._set(node, name, value)
            case ast.AugAssign(target, op, value):
                self._augmented(node, target, op, value)
            case ast.Return(value):
                self._return(node, value)
            case ast.Raise():
                self._raise(node)
            case ast.If():
                self._if(node)
            case ast.While():
                self._while(node)
            case ast.For():
                self._for(node)
            case ast.Break() | ast.Continue():
                loop = self.loops[-1]
                to = loop.after if isinstance(node, ast.Break) else loop.again
                self._close(Jump(to), node)
            case ast.Try():
                self._try(node)
            case _:
                seen, instead = _REFUSED.get(type(node), (type(node).__name__, "leave it out"))
                self.source.refuse(node, f"{seen} has no place in a movable", instead)

    def _assign(self, node: ast.Assign, targets: list[ast.expr], value: ast.expr) -> None:
        if len(targets) > 1:
            self.source.refuse(node, "several targets", "assign one after the other: a = x; b = x")
            return
        match targets[0]:
            case ast.Name(name):
                self._set(node, name, value)
            case ast.Tuple(items) | ast.List(items):
                names = self._names(items)
                if names is not None:
                    self._unpack(node, names, value)
            case target:
                self._refuse_target(target)

    def _refuse_target(self, target: ast.expr) -> None:
        if isinstance(target, ast.Subscript):
            instead = "make a new tuple: tuples cannot change"
        elif isinstance(target, ast.Attribute):
            instead = "assign a variable: frozen values cannot change"
        else:
            instead = "assign plain names"
        self.source.refuse(target, f"{ast.unparse(target)} cannot be assigned", instead)

    def _names(self, items: list[ast.expr]) -> tuple[str, ...] | None:
        names = []
        for item in items:
            if not isinstance(item, ast.Name):
                self._refuse_target(item)
                return None
            names.append(item.id)
        if len(set(names)) != len(names):
            self.source.refuse(items[0], "one name twice", "use a name for each item")
            return None
        return tuple(names)

    def _set(self, node: ast.stmt, name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            self._await(value.value, name, node)
        else:
            self._add(Let(name, self.values.value(value)), node)

    def _unpack(self, node: ast.stmt, names: tuple[str, ...], value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            hidden = f"{len(self.positions) + 1}.result"
            self._await(value.value, hidden, node)
            self._add(Unpack(names, self.values.put(Get(hidden), value)), node)
        else:
            self._add(Unpack(names, self.values.value(value)), node)

    def _augmented(
        self, node: ast.AugAssign, target: ast.expr, op: ast.operator, value: ast.expr
    ) -> None:
        if not isinstance(target, ast.Name):
            self._refuse_target(target)
        elif isinstance(value, ast.Await):
            text = ast.unparse(value)
            instead = f"write y = {text}; {target.id} {_BINARY.get(type(op), '@')}= y"
            self.source.refuse(value, "await within an expression", instead)
        elif type(op) not in _BINARY:
            self.source.refuse(node, "@=", "there are no matrices in a movable")
        else:
            left = self.values.put(Get(target.id), target)
            made = Binary(_BINARY[type(op)], left, self.values.value(value))
            self._add(Let(target.id, self.values.put(made, node)), node)

    def _await(self, value: ast.expr, target: str | None, place: ast.stmt) -> None:
        declared = self.declared.get(target) if target is not None else None
        found = self.awaits.awaited(value, declared)
        if found is None:
            if target is not None:
                self._add(Let(target, Get("?")), place)
            return
        number = len(self.positions) + 1
        end = Await(number)
        self._close(end, place)
        after = self._new()
        text = self.source.lines.get(place.lineno, "").strip()
        position = Position(
            after, target, found.type, found.awaits, found.operands, (), place.lineno, text
        )
        self.positions.append(self.values.put(position, place))
        self.at = after

    def _return(self, node: ast.Return, value: ast.expr | None) -> None:
        if isinstance(value, ast.Await):
            hidden = f"{len(self.positions) + 1}.result"
            self._await(value.value, hidden, node)
            found: Value = self.values.put(Get(hidden), value)
        else:
            found = Constant(None) if value is None else self.values.value(value)
        self._close(Return(found), node)

    def _raise(self, node: ast.Raise) -> None:
        if node.cause is not None:
            self.source.refuse(node, "raise ... from", "put the text into the error's own")
        if node.exc is None:
            self.source.refuse(
                node, "raise without an error", "name the error: except E as e: raise E(str(e))"
            )
            return
        call = node.exc if isinstance(node.exc, ast.Call) else ast.Call(node.exc, [], [])
        name = self._error(call.func)
        if (
            call.keywords
            or len(call.args) > 1
            or any(isinstance(a, ast.Starred) for a in call.args)
        ):
            self.source.refuse(node.exc, "an error with several values", 'raise Error("one text")')
            return
        message = self.values._maybe_error(call.args[0]) if call.args else None
        if name is not None:
            self._close(Raise(name, message), node)

    def _error(self, node: ast.expr) -> str | None:
        found = resolved(self.source, node, self.values.variables)
        name = None if found is MISSING else error_name(found)
        if name is None:
            self.source.refuse(
                node,
                f"{ast.unparse(node)} is no error that a movable declares",
                "ArithmeticError, ZeroDivisionError, OverflowError, ValueError, KeyError, "
                "IndexError, LookupError, or an error of Wherry",
            )
        return name

    def _if(self, node: ast.If) -> None:
        test = self.values.value(node.test)
        begin = self.at
        then = self._new()
        ends = []
        self.at = then
        self._body(node.body)
        ends.append(self.at)
        otherwise = self._new()
        self.at = otherwise
        self._body(node.orelse)
        ends.append(self.at)
        self.at = begin
        self._close(_branch(test, then, otherwise), node)
        self._join(ends, node)

    def _join(self, ends: Sequence[int], place: ast.AST) -> None:
        """Go on in a new block behind those that did not end otherwise."""
        after = self._new()
        for end in ends:
            self.at = end
            self._close(Jump(after), place)
        self.at = after

    def _while(self, node: ast.While) -> None:
        if not any(isinstance(n, ast.Await) for n in _inside(node.body)):
            self.source.refuse(
                node,
                "a while loop without await may never end",
                "write `for i in range(n)` with break, or await within it",
            )
        head = self._new()
        self._close(Jump(head), node)
        self.at = head
        test = self.values.value(node.test)
        body, done, after = self._new(), self._new(), self._new()
        self._close(_branch(test, body, done), node)
        self._loop(node, body, _Loop(head, after), done)

    def _loop(self, node: ast.While | ast.For, body: int, loop: _Loop, done: int) -> None:
        self.loops.append(loop)
        self.at = body
        self._body(node.body)
        self._close(Jump(loop.again), node)
        self.loops.pop()
        self.at = done
        self._body(node.orelse)
        self._close(Jump(loop.after), node)
        self.at = loop.after

    def _for(self, node: ast.For) -> None:
        number = self.loop_count
        self.loop_count += 1
        target, names = self._loop_target(node, number)
        begun = self._begin(node, number)
        if begun is None or target is None:
            # The body is still checked, as if it ran once.
            self._add(Let(target or "?", Get("?")), node)
            begun = BeginItems(number, Constant(())), Constant(()), 0
        statement, bound, step = begun
        self._add(statement, node)
        head = self._new()
        self._close(Jump(head), node)
        body, done, after = self._new(), self._new(), self._new()
        self.at = head
        hidden = target or "?"
        if isinstance(statement, BeginRange):
            self._close(NextNumber(number, bound, step, hidden, body, done), node)
        else:
            self._close(NextItem(number, bound, hidden, body, done), node.iter)
        if names is not None:
            self.at = body
            self._add(Unpack(names, self.values.put(Get(hidden), node.target)), node.target)
        self._loop(node, body, _Loop(head, after), done)

    def _loop_target(self, node: ast.For, number: int) -> tuple[str | None, tuple[str, ...] | None]:
        match node.target:
            case ast.Name(name):
                return name, None
            case ast.Tuple(items):
                return f"{number}.item", self._names(items)
        self._refuse_target(node.target)
        return None, None

    def _begin(
        self, node: ast.For, number: int
    ) -> tuple[BeginRange | BeginItems, Value, int] | None:
        loop = node.iter
        if (
            isinstance(loop, ast.Call)
            and resolved(self.source, loop.func, self.values.variables) is range
        ):
            return self._begin_range(loop, number)
        if isinstance(loop, ast.Await):
            instead = "assign it first: xs = await ...; for x in xs"
            self.source.refuse(loop, "await within an expression", instead)
            return None
        items = self.values.value(loop)
        if isinstance(items, Constant):
            return BeginItems(number, items), items, 1
        hidden = self.values.put(Get(f"{number}.items"), loop)
        return BeginItems(number, items), hidden, 1

    def _begin_range(self, node: ast.Call, number: int) -> tuple[BeginRange, Value, int] | None:
        if node.keywords or not 1 <= len(node.args) <= 3:
            self.source.refuse(node, "range", "range(stop), range(start, stop) or with a step")
            return None
        bounds = [self.values.value(a) for a in node.args]
        step = 1
        if len(bounds) == 3:
            match bounds[2]:
                case Constant(int(found)) if found and type(found) is int:
                    step = found
                case _:
                    self.source.refuse(
                        node.args[2],
                        "the step of range is no constant other than 0",
                        "write a constant step such as 2 or -1",
                    )
                    return None
        start, stop = (Constant(0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        bound = stop if isinstance(stop, Constant) else self.values.put(Get(f"{number}.stop"), node)
        return BeginRange(number, start, stop), bound, step

    def _try(self, node: ast.Try) -> None:
        if node.finalbody:
            self.source.refuse(
                node.finalbody[0],
                "finally",
                "write it after the try, and in every except-clause",
            )
        clauses = [(clause, self._new()) for clause in node.handlers]
        outer = self.handlers
        found = tuple(self._handler(clause, block) for clause, block in clauses)
        self.handlers = (*(h for h in found if h is not None), *outer)
        first = self._new()
        self._close(Jump(first), node)
        self.at = first
        self._body(node.body)
        self.handlers = outer
        if node.orelse:
            after = self._new()
            self._close(Jump(after), node)
            self.at = after
            self._body(node.orelse)
        ends = [self.at]
        for clause, block in clauses:
            self.at = block
            named = {clause.name} - self.values.errors if clause.name else set()
            self.values.errors |= named
            self._body(clause.body)
            self.values.errors -= named
            ends.append(self.at)
        self._join(ends, node)

    def _handler(self, clause: ast.ExceptHandler, block: int) -> Handler | None:
        if clause.type is None:
            self.source.refuse(
                clause, "except without an error", "name the errors: except ValueError:"
            )
            return None
        kinds = clause.type.elts if isinstance(clause.type, ast.Tuple) else [clause.type]
        errors = [self._error(kind) for kind in kinds]
        name = clause.name
        if name is not None and name in self._assigned():
            self.source.refuse(
                clause, f"{name!r} is also a variable", "call the error by a name of its own"
            )
            return None
        if None in errors:
            return None
        return Handler(tuple(e for e in errors if e is not None), name, block)

    def _assigned(self) -> set[str]:
        return assigned_names(self.source.tree)


def _branch(test: Value, then: int, otherwise: int) -> End:
    """Give the way on from a test; a constant test leaves one way only."""
    if isinstance(test, Constant):
        return Jump(then if test.value else otherwise)
    return Branch(test, then, otherwise)


def _inside(statements: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def assigned_names(tree: ast.AsyncFunctionDef) -> set[str]:
    """Give the names that the function gives values, its parameters among them."""
    arguments = tree.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    names = {a.arg for a in every}
    for node in _inside(tree.body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
    return names
