"""Values of programs as Python expressions; every variable has a name of the compiler's own."""

from __future__ import annotations

import ast
from typing import Any, Final

from wherry.flow.nodes import (
    Attribute,
    Binary,
    Choice,
    Comparison,
    Constant,
    Either,
    Format,
    Formatted,
    FunctionCall,
    Get,
    Index,
    MethodCall,
    TupleOf,
    Unary,
    Value,
)

_BINARY: Final[dict[str, type[ast.operator]]] = {
    "+": ast.Add,
    "-": ast.Sub,
    "*": ast.Mult,
    "/": ast.Div,
    "//": ast.FloorDiv,
    "%": ast.Mod,
    "&": ast.BitAnd,
    "|": ast.BitOr,
    "^": ast.BitXor,
    ">>": ast.RShift,
}
_GUARDED: Final = {"**": "power", "<<": "shifted", "*": "times"}
"""Operators whose result may be far larger than their operands: functions that bound it first."""
_UNARY: Final[dict[str, type[ast.unaryop]]] = {
    "-": ast.USub,
    "+": ast.UAdd,
    "~": ast.Invert,
    "not": ast.Not,
}
_COMPARE: Final[dict[str, type[ast.cmpop]]] = {
    "==": ast.Eq,
    "!=": ast.NotEq,
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "in": ast.In,
    "not in": ast.NotIn,
    "is": ast.Is,
    "is not": ast.IsNot,
}
_BOUNDED_METHODS: Final = frozenset({"replace", "zfill", "ljust", "rjust", "join"})
_BOUNDED_FUNCTIONS: Final = frozenset({"range", "Decimal"})
_CONVERSIONS: Final = {"": -1, "s": ord("s"), "r": ord("r")}


def load(name: str) -> ast.Name:
    """Give the reading of a name of the compiler's own."""
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    """Give the writing of a name of the compiler's own."""
    return ast.Name(name, ast.Store())


class ValueMaker:
    """Makes expressions of values.

    Attributes
    ----------
    names : dict
        By variable of the program: what it is called in the functions.
    constants : dict
        By name: constants that no syntax tree can hold, such as dates.
    """

    def __init__(self, names: dict[str, str], constants: dict[str, Any]) -> None:
        self.names = names
        self.constants = constants

    def name(self, variable: str) -> str:
        """Give what a variable is called."""
        return self.names.setdefault(variable, f"v{len(self.names)}")

    def load(self, variable: str) -> ast.Name:
        """Give the reading of a variable."""
        return load(self.name(variable))

    def store(self, variable: str) -> ast.Name:
        """Give the writing of a variable."""
        return store(self.name(variable))

    def make(self, node: Value) -> ast.expr:
        """Give the expression of a value."""
        match node:
            case Constant(value):
                return self._constant(value)
            case Get(name):
                return self.load(name)
            case Unary(op, value):
                return ast.UnaryOp(_UNARY[op](), self.make(value))
            case Binary(op, left, right):
                return self._binary(op, self.make(left), self.make(right), right)
            case Comparison(ops, values):
                first, *rest = map(self.make, values)
                return ast.Compare(first, [_COMPARE[op]() for op in ops], rest)
            case Either(op, values):
                kind = ast.And() if op == "and" else ast.Or()
                return ast.BoolOp(kind, [self.make(v) for v in values])
            case Choice(test, then, otherwise):
                return ast.IfExp(self.make(test), self.make(then), self.make(otherwise))
            case TupleOf(items):
                return ast.Tuple([self.make(i) for i in items], ast.Load())
        return self._access(node)

    def _access(self, node: Value) -> ast.expr:
        match node:
            case Formatted(parts):
                return ast.JoinedStr([self._part(p) for p in parts])
            case Index(value, index):
                return ast.Subscript(self.make(value), self.make(index), ast.Load())
            case Attribute(value, name):
                return ast.Attribute(self.make(value), name, ast.Load())
            case MethodCall(value, name, arguments):
                given = [self.make(a) for a in arguments]
                if name in _BOUNDED_METHODS:
                    return ast.Call(load(f"str_{name}"), [self.make(value), *given], [])
                return ast.Call(ast.Attribute(self.make(value), name, ast.Load()), given, [])
            case FunctionCall(name, arguments, names):
                return self._call(name, [self.make(a) for a in arguments], names)
        raise TypeError(f"not a value: {type(node).__name__}")

    def _constant(self, value: object) -> ast.expr:
        if value is None or type(value) in (bool, int, float, str, bytes):
            return ast.Constant(value)  # type: ignore[arg-type]
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return load(name)

    def _binary(self, op: str, left: ast.expr, right: ast.expr, node: Value) -> ast.expr:
        small = isinstance(node, Constant) and type(node.value) in (int, float)
        if op in _GUARDED and not (op == "*" and small and _is_small(node)):
            return ast.Call(load(_GUARDED[op]), [left, right], [])
        return ast.BinOp(left, _BINARY[op](), right)

    def _part(self, part: str | Format) -> ast.expr:
        if isinstance(part, str):
            return ast.Constant(part)
        spec = ast.JoinedStr([ast.Constant(part.spec)]) if part.spec else None
        return ast.FormattedValue(self.make(part.value), _CONVERSIONS[part.conversion], spec)

    def _call(self, name: str, arguments: list[ast.expr], names: tuple[str, ...]) -> ast.expr:
        by_place = len(arguments) - len(names)
        keywords = [ast.keyword(n, a) for n, a in zip(names, arguments[by_place:], strict=True)]
        function = f"bounded_{name}" if name in _BOUNDED_FUNCTIONS else name
        return ast.Call(load(function), arguments[:by_place], keywords)


def _is_small(node: Value) -> bool:
    return isinstance(node, Constant) and abs(node.value) <= 1000  # type: ignore[arg-type]
