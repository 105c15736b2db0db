"""Branches, loops and tries of a movable as blocks."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Sequence

from wherry.flow.blocks import BlockBuilder, Loop, assigned_names, branch, inside
from wherry.flow.nodes import (
    BeginItems,
    BeginRange,
    Constant,
    Get,
    Handler,
    Jump,
    Let,
    NextItem,
    NextNumber,
    Unpack,
    Value,
)
from wherry.flow.outside import error_name, resolved
from wherry.flow.source import MISSING


class ControlParser(BlockBuilder):
    """Makes blocks of the statements that hold statements."""

    @abstractmethod
    def body(self, statements: Sequence[ast.stmt]) -> None:
        """Fill blocks with statements, one after the other."""

    def if_(self, node: ast.If) -> None:
        """Make a branch."""
        test = self.values.value(node.test)
        begin = self.at
        then = self.new()
        ends = []
        self.at = then
        self.body(node.body)
        ends.append(self.at)
        otherwise = self.new()
        self.at = otherwise
        self.body(node.orelse)
        ends.append(self.at)
        self.at = begin
        self.close(branch(test, then, otherwise), node)
        self._join(ends, node)

    def _join(self, ends: Sequence[int], place: ast.AST) -> None:
        """Go on in a new block behind those that did not end otherwise."""
        after = self.new()
        for end in ends:
            self.at = end
            self.close(Jump(after), place)
        self.at = after

    def while_(self, node: ast.While) -> None:
        """Make a loop that awaits."""
        if not any(isinstance(n, ast.Await) for n in inside(node.body)):
            self.source.refuse(
                node,
                "a while loop without await may never end",
                "write `for i in range(n)` with break, or await within it",
            )
        head = self.new()
        self.close(Jump(head), node)
        self.at = head
        test = self.values.value(node.test)
        body, done, after = self.new(), self.new(), self.new()
        self.close(branch(test, body, done), node)
        self._loop(node, body, Loop(head, after), done)

    def _loop(self, node: ast.While | ast.For, body: int, loop: Loop, done: int) -> None:
        self.loops.append(loop)
        self.at = body
        self.body(node.body)
        self.close(Jump(loop.again), node)
        self.loops.pop()
        self.at = done
        self.body(node.orelse)
        self.close(Jump(loop.after), node)
        self.at = loop.after

    def for_(self, node: ast.For) -> None:
        """Make a loop over numbers or items."""
        number = self.loop_count
        self.loop_count += 1
        target, names = self._loop_target(node, number)
        begun = self._begin(node, number)
        if begun is None or target is None:
            # The body is still checked, as if it ran once.
            self.add(Let(target or "?", Get("?")), node)
            begun = BeginItems(number, Constant(())), Constant(()), 0
        statement, bound, step = begun
        self.add(statement, node)
        head = self.new()
        self.close(Jump(head), node)
        body, done, after = self.new(), self.new(), self.new()
        self.at = head
        hidden = target or "?"
        if isinstance(statement, BeginRange):
            self.close(NextNumber(number, bound, step, hidden, body, done), node)
        else:
            self.close(NextItem(number, bound, hidden, body, done), node.iter)
        if names is not None:
            self.at = body
            self.add(Unpack(names, self.values.put(Get(hidden), node.target)), node.target)
        self._loop(node, body, Loop(head, after), done)

    def _loop_target(self, node: ast.For, number: int) -> tuple[str | None, tuple[str, ...] | None]:
        match node.target:
            case ast.Name(name):
                return name, None
            case ast.Tuple(items):
                return f"{number}.item", self.names(items)
        self.refuse_target(node.target)
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

    def try_(self, node: ast.Try) -> None:
        """Make a try with its except-clauses."""
        if node.finalbody:
            self.source.refuse(
                node.finalbody[0],
                "finally",
                "write it after the try, and in every except-clause",
            )
        clauses = [(clause, self.new()) for clause in node.handlers]
        outer = self.handlers
        found = tuple(self._handler(clause, block) for clause, block in clauses)
        self.handlers = (*(h for h in found if h is not None), *outer)
        first = self.new()
        self.close(Jump(first), node)
        self.at = first
        self.body(node.body)
        self.handlers = outer
        if node.orelse:
            after = self.new()
            self.close(Jump(after), node)
            self.at = after
            self.body(node.orelse)
        ends = [self.at]
        for clause, block in clauses:
            self.at = block
            named = {clause.name} - self.values.errors if clause.name else set()
            self.values.errors |= named
            self.body(clause.body)
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
        errors = [self.error(kind) for kind in kinds]
        name = clause.name
        if name is not None and name in assigned_names(self.source.tree):
            self.source.refuse(
                clause, f"{name!r} is also a variable", "call the error by a name of its own"
            )
            return None
        if None in errors:
            return None
        return Handler(tuple(e for e in errors if e is not None), name, block)

    def error(self, node: ast.expr) -> str | None:
        """Give the name of a class of errors; None if it was refused."""
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

    def names(self, items: list[ast.expr]) -> tuple[str, ...] | None:
        """Give the names that a tuple of targets holds; None if it was refused."""
        names = []
        for item in items:
            if not isinstance(item, ast.Name):
                self.refuse_target(item)
                return None
            names.append(item.id)
        if len(set(names)) != len(names):
            self.source.refuse(items[0], "one name twice", "use a name for each item")
            return None
        return tuple(names)

    def refuse_target(self, target: ast.expr) -> None:
        """Refuse what is no plain name."""
        if isinstance(target, ast.Subscript):
            instead = "make a new tuple: tuples cannot change"
        elif isinstance(target, ast.Attribute):
            instead = "assign a variable: frozen values cannot change"
        else:
            instead = "assign plain names"
        self.source.refuse(target, f"{ast.unparse(target)} cannot be assigned", instead)
