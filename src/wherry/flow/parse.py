"""Statements of a movable as blocks of its program."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Final

from wherry.base.errors import InputError
from wherry.flow.annotations import wire_type
from wherry.flow.blocks import Parsed
from wherry.flow.nodes import (
    Await,
    Binary,
    Block,
    Constant,
    Evaluate,
    Get,
    Jump,
    Let,
    Position,
    Raise,
    Return,
    Slot,
    Unpack,
    Value,
)
from wherry.flow.parse_awaits import AwaitParser, Vocabulary
from wherry.flow.parse_control import ControlParser
from wherry.flow.parse_values import _BINARY, ValueParser
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


class StatementParser(ControlParser):
    """Fills blocks with the statements of a function."""

    def __init__(self, values: ValueParser, vocabulary: Vocabulary) -> None:
        super().__init__(values)
        self.awaits = AwaitParser(values, vocabulary)

    def parse(self) -> Parsed:
        """Give the blocks of the whole function."""
        self._declare()
        self.at = self.new()
        body = self.source.tree.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        self.body(body)
        self.close(Return(Constant(None)), self.source.tree)
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

    def body(self, statements: Sequence[ast.stmt]) -> None:
        """Fill blocks with statements, one after the other."""
        for statement in statements:
            if self.closed():
                # What follows return, break or continue is never reached, but checked.
                self.at = self.new()
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
                self.add(Evaluate(self.values.value(value)), node)
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
                self.if_(node)
            case ast.While():
                self.while_(node)
            case ast.For():
                self.for_(node)
            case ast.Break() | ast.Continue():
                loop = self.loops[-1]
                to = loop.after if isinstance(node, ast.Break) else loop.again
                self.close(Jump(to), node)
            case ast.Try():
                self.try_(node)
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
                names = self.names(items)
                if names is not None:
                    self._unpack(node, names, value)
            case target:
                self.refuse_target(target)

    def _set(self, node: ast.stmt, name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            self._await(value.value, name, node)
        else:
            self.add(Let(name, self.values.value(value)), node)

    def _unpack(self, node: ast.stmt, names: tuple[str, ...], value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            hidden = f"{len(self.positions) + 1}.result"
            self._await(value.value, hidden, node)
            self.add(Unpack(names, self.values.put(Get(hidden), value)), node)
        else:
            self.add(Unpack(names, self.values.value(value)), node)

    def _augmented(
        self, node: ast.AugAssign, target: ast.expr, op: ast.operator, value: ast.expr
    ) -> None:
        if not isinstance(target, ast.Name):
            self.refuse_target(target)
        elif isinstance(value, ast.Await):
            text = ast.unparse(value)
            instead = f"write y = {text}; {target.id} {_BINARY.get(type(op), '@')}= y"
            self.source.refuse(value, "await within an expression", instead)
        elif type(op) not in _BINARY:
            self.source.refuse(node, "@=", "there are no matrices in a movable")
        else:
            left = self.values.put(Get(target.id), target)
            made = Binary(_BINARY[type(op)], left, self.values.value(value))
            self.add(Let(target.id, self.values.put(made, node)), node)

    def _await(self, value: ast.expr, target: str | None, place: ast.stmt) -> None:
        declared = self.declared.get(target) if target is not None else None
        found = self.awaits.awaited(value, declared)
        if found is None:
            if target is not None:
                self.add(Let(target, Get("?")), place)
            return
        number = len(self.positions) + 1
        end = Await(number)
        self.close(end, place)
        after = self.new()
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
        self.close(Return(found), node)

    def _raise(self, node: ast.Raise) -> None:
        if node.cause is not None:
            self.source.refuse(node, "raise ... from", "put the text into the error's own")
        if node.exc is None:
            self.source.refuse(
                node, "raise without an error", "name the error: except E as e: raise E(str(e))"
            )
            return
        call = node.exc if isinstance(node.exc, ast.Call) else ast.Call(node.exc, [], [])
        name = self.error(call.func)
        if (
            call.keywords
            or len(call.args) > 1
            or any(isinstance(a, ast.Starred) for a in call.args)
        ):
            self.source.refuse(node.exc, "an error with several values", 'raise Error("one text")')
            return
        message = self.values.maybe_error(call.args[0]) if call.args else None
        if name is not None:
            self.close(Raise(name, message), node)
