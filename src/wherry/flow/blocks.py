"""Blocks being filled: statements go to the block at hand until something ends it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from msgspec import Struct

from wherry.flow.nodes import (
    Block,
    Branch,
    Constant,
    End,
    Handler,
    Jump,
    Position,
    Slot,
    Statement,
    Value,
)
from wherry.flow.parse_values import ValueParser
from wherry.flow.types import WireType


class _Open(Struct):
    """A block being filled."""

    handlers: tuple[Handler, ...]
    statements: list[Statement] = []
    lines: list[int] = []
    end: End | None = None


class Loop(Struct, frozen=True):
    """Where `continue` and `break` go."""

    again: int
    after: int


class Parsed(Struct):
    """The blocks of a function; positions have no slots yet."""

    blocks: tuple[Block, ...]
    lines: tuple[tuple[int, ...], ...]
    positions: list[Position]
    variables: tuple[Slot, ...]


class BlockBuilder:
    """Blocks, the place at hand, and what surrounds it: loops and except-clauses."""

    def __init__(self, values: ValueParser) -> None:
        self.source = values.source
        self.values = values
        self.open: list[_Open] = []
        self.positions: list[Position] = []
        self.declared: dict[str, WireType] = {}
        self.handlers: tuple[Handler, ...] = ()
        self.loops: list[Loop] = []
        self.loop_count = 0
        self.at = -1

    def new(self) -> int:
        """Begin a block within the except-clauses at hand; give its number."""
        self.open.append(_Open(self.handlers))
        return len(self.open) - 1

    def add(self, statement: Statement, place: ast.AST) -> None:
        """Add a statement to the block at hand, if nothing ended it before."""
        block = self.open[self.at]
        if block.end is None:
            block.statements.append(self.values.put(statement, place))
            block.lines.append(getattr(place, "lineno", 0))

    def close(self, end: End, place: ast.AST) -> None:
        """End the block at hand, if nothing ended it before."""
        block = self.open[self.at]
        if block.end is None:
            block.end = self.values.put(end, place)
            block.lines.append(getattr(place, "lineno", 0))

    def closed(self) -> bool:
        """Tell whether the block at hand has its end."""
        return self.open[self.at].end is not None


def branch(test: Value, then: int, otherwise: int) -> End:
    """Give the way on from a test; a constant test leaves one way only."""
    if isinstance(test, Constant):
        return Jump(then if test.value else otherwise)
    return Branch(test, then, otherwise)


def inside(statements: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    """Give all nodes of statements."""
    for statement in statements:
        yield from ast.walk(statement)


def assigned_names(tree: ast.AsyncFunctionDef) -> set[str]:
    """Give the names that the function gives values, its parameters among them."""
    arguments = tree.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    names = {a.arg for a in every}
    for node in inside(tree.body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
    return names
