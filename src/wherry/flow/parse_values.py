"""Expressions of a movable as values of its program."""

from __future__ import annotations

import ast
import re
from typing import Any, Final, TypeVar

from wherry.flow import rules
from wherry.flow.constants import constant_type
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
from wherry.flow.outside import calls_itself, outside_of, resolved
from wherry.flow.source import MISSING, Source
from wherry.flow.value_types import BROKEN

T = TypeVar("T")
_BINARY: Final[dict[type, str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
_UNARY: Final[dict[type, str]] = {
    ast.USub: "-",
    ast.UAdd: "+",
    ast.Invert: "~",
    ast.Not: "not",
}
_COMPARE: Final[dict[type, str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}
_CONVERSIONS: Final = {-1: "", ord("s"): "s", ord("r"): "r"}
_SEQUENCES: Final = frozenset({"tuple", "sum", "min", "max", "len"})
"""What takes a range as a whole; elsewhere a range is a loop's."""
SPEC: Final = re.compile(
    r"[^{}]?[<>=^]?[-+ ]?#?0?\d{0,3}[,_]?(\.\d{1,2})?[bcdeEfFgGnosxX%]?", re.ASCII
)
"""Format specifications a program may hold: widths of up to three digits."""
INSTEAD: Final[dict[type, tuple[str, str]]] = {
    ast.List: ("a list", "use a tuple: (a, b); frozen values cannot change"),
    ast.Dict: ("a dict", "use a tuple, or a variable for each value"),
    ast.Set: ("a set", "use a tuple: x in (a, b)"),
    ast.ListComp: ("a comprehension", "write the loop: xs = (); for ...: xs = xs + (x,)"),
    ast.SetComp: ("a comprehension", "write the loop"),
    ast.DictComp: ("a comprehension", "write the loop"),
    ast.GeneratorExp: ("a generator", "write the loop: generators cannot be frozen"),
    ast.Lambda: ("a lambda", "lambdas stand in arguments of pipelines only"),
    ast.Yield: ("yield", "return the answer, or await respond(...)"),
    ast.YieldFrom: ("yield from", "return the answer, or await respond(...)"),
    ast.NamedExpr: (":= within an expression", "assign in a statement of its own before"),
    ast.Starred: ("*", "name the items one by one"),
    ast.Slice: ("a slice", "name the items: (t[0], t[1]); of texts use removeprefix, partition"),
    ast.Await: (
        "await within an expression",
        "assign it first: x = await ...; then use x",
    ),
}


class ValueParser:
    """Makes values of expressions; what cannot be one is refused, and stands as `BROKEN`.

    Attributes
    ----------
    variables : frozenset of str
        The names that the function itself gives values.
    errors : set of str
        Names bound by the except-clauses around the place at hand.
    places : dict
        By identity of a node: where it stood.
    """

    def __init__(self, source: Source, variables: frozenset[str]) -> None:
        self.source = source
        self.variables = variables
        self.errors: set[str] = set()
        self.places: dict[int, ast.AST] = {}
        self._kept: list[object] = []
        self._within: ast.expr | None = None

    def put(self, node: T, place: ast.AST) -> T:
        """Note where a node stood, and give it."""
        self.places[id(node)] = place
        self._kept.append(node)
        return node

    def moved(self, new: T, old: object) -> T:
        """Note that a node stands where another stood, and give it."""
        place = self.places.get(id(old))
        return new if place is None else self.put(new, place)

    def refuse(self, node: ast.AST, seen: str, instead: str) -> Value:
        """Note a reason; give what stands for a broken value."""
        self.source.refuse(node, seen, instead)
        return Get(BROKEN)

    def value(self, node: ast.expr) -> Value:
        """Give the value that an expression of the function is."""
        return self.put(self._value(node), node)

    def _value(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value):
                return self._constant(node, value)
            case ast.Name(name):
                return self._name(node, name)
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
                return self._constant(node, -value)
            case ast.UnaryOp(op, operand):
                return Unary(_UNARY[type(op)], self.value(operand))
            case ast.BinOp(left, op, right):
                if type(op) not in _BINARY:
                    return self.refuse(node, "@", "there are no matrices in a movable")
                return Binary(_BINARY[type(op)], self.value(left), self.value(right))
            case ast.BoolOp(op, values):
                return Either(
                    "and" if isinstance(op, ast.And) else "or", tuple(map(self.value, values))
                )
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp(test, then, otherwise):
                return Choice(self.value(test), self.value(then), self.value(otherwise))
            case ast.JoinedStr():
                return self._formatted(node)
            case ast.Tuple(items):
                return TupleOf(tuple(map(self.value, items)))
            case ast.Subscript(inner, index) if not isinstance(index, ast.Slice):
                return Index(self.value(inner), self.value(index))
            case ast.Subscript(_, index):
                return self.refuse(index, *INSTEAD[ast.Slice])
            case ast.Attribute():
                return self._attribute(node)
            case ast.Call():
                return self._call(node)
        seen, instead = INSTEAD.get(type(node), (type(node).__name__, "use a plain expression"))
        return self.refuse(node, f"{seen} has no place in a movable", instead)

    def _constant(self, node: ast.expr, value: object) -> Value:
        if constant_type(value) is None:
            return self.refuse(
                node,
                f"{value!r:.40} is a {type(value).__name__} that no frame can hold",
                "constants are 64-bit ints, floats, texts, bytes, dates, None, tuples of them",
            )
        return Constant(value)

    def _name(self, node: ast.Name, name: str) -> Value:
        if name in self.errors:
            return self.refuse(
                node,
                f"{name!r} is an error, which cannot travel",
                f"use its text: str({name}) or an f-string",
            )
        if name in self.variables:
            return Get(name)
        return self._from_outside(node)

    def _from_outside(self, node: ast.expr) -> Value:
        found = resolved(self.source, node, self.variables)
        if found is MISSING:
            return self.unknown(node)
        outside = outside_of(self.source, node, found)
        if outside is None:
            return Get(BROKEN)
        if outside.constant:
            return Constant(found)
        name = ast.unparse(node)
        if outside.mark is not None:
            return self.refuse(
                node, f"{name} is no value", f"await a call of it: x = await {name}(...)"
            )
        return self.refuse(node, f"{name} is a function, not a value", f"call it: {name}(...)")

    def unknown(self, node: ast.expr) -> Value:
        """Refuse a name that means nothing, with the reason why it does not."""
        name = ast.unparse(node)
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id == self.source.function.__name__:
            return self.refuse(node, *calls_itself(name))
        if isinstance(root, ast.Name) and root.id in self.source.unset:
            return self.refuse(
                node, f"{name} has no value yet when the movable is declared", "define it before"
            )
        return self.refuse(
            node, f"no name {name!r} here or in the module", "define it before the movable"
        )

    def _compare(self, node: ast.Compare) -> Value:
        ops = tuple(_COMPARE[type(op)] for op in node.ops)
        sides = (node.left, *node.comparators)
        for op, side in zip(ops, sides[1:], strict=True):
            alone = isinstance(side, ast.Constant) and (side.value is None or side.value in (0, 1))
            if op in rules.IDENTITY and not (alone and type(side.value) in (bool, type(None))):  # type: ignore[attr-defined]
                return self.refuse(
                    node,
                    f"{op!r} compares identities, which a frame does not keep",
                    "use == or !=; `is` only with None, True, False",
                )
        return Comparison(ops, tuple(map(self.value, sides)))

    def _formatted(self, node: ast.JoinedStr) -> Value:
        parts: list[str | Format] = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(str(part.value))
                continue
            assert isinstance(part, ast.FormattedValue)
            spec = self._spec(part.format_spec)
            if spec is None or part.conversion not in _CONVERSIONS:
                return self.refuse(
                    part.value,
                    f"the format of {ast.unparse(part.value)}",
                    "a constant format such as .2f, >10 or 05d; conversions !s and !r",
                )
            inner = self.maybe_error(part.value)
            parts.append(self.put(Format(inner, _CONVERSIONS[part.conversion], spec), part.value))
        return Formatted(tuple(parts))

    def _spec(self, node: ast.expr | None) -> str | None:
        match node:
            case None:
                return ""
            case ast.JoinedStr([]):
                return ""
            case ast.JoinedStr([ast.Constant(str(text))]) if SPEC.fullmatch(text):
                return text
        return None

    def maybe_error(self, node: ast.expr) -> Value:
        """Give the value of an expression that may name an error: then it is the error's text."""
        if isinstance(node, ast.Name) and node.id in self.errors:
            return Get(node.id)
        return self.value(node)

    def _attribute(self, node: ast.Attribute) -> Value:
        if resolved(self.source, node, self.variables) is not MISSING:
            return self._from_outside(node)
        if self._is_outside(node.value):
            return self.unknown(node)
        return Attribute(self.value(node.value), node.attr)

    def _is_outside(self, node: ast.expr) -> bool:
        """Tell whether an expression is a module or a class, or cannot be found."""
        while isinstance(node, ast.Attribute):
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.variables | self.errors:
            return False
        found = self.source.outside(node.id)
        return found is MISSING or constant_type(found) is None

    def _call(self, node: ast.Call) -> Value:
        if any(isinstance(a, ast.Starred) for a in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            return self.refuse(node, "* in a call", "name the arguments one by one")
        found = resolved(self.source, node.func, self.variables)
        if found is not MISSING:
            return self._function(node, found)
        if isinstance(node.func, ast.Attribute) and not self._is_outside(node.func.value):
            return self._method(node, node.func)
        if isinstance(node.func, ast.Name) and node.func.id in self.variables:
            return self.refuse(
                node, f"{node.func.id} is a variable", "call functions by their own names"
            )
        if isinstance(node.func, ast.Name | ast.Attribute):
            return self.unknown(node.func)
        return self.refuse(node, "a call of a computed function", "call functions by their names")

    def _function(self, node: ast.Call, found: Any) -> Value:
        outside = outside_of(self.source, node.func, found)
        name = ast.unparse(node.func)
        if outside is None:
            return Get(BROKEN)
        if outside.mark is not None:
            instead = f"assign it first: x = await {ast.unparse(node)}"
            return self.refuse(node, f"{name} is called without await", instead)
        if outside.constant:
            return self.refuse(node, f"{name} is a constant", "call functions only")
        return self._listed(node, outside.function)

    def _listed(self, node: ast.Call, name: str) -> Value:
        names = tuple(k.arg or "" for k in node.keywords)
        if name == "range" and node is not self._within:
            return self.refuse(
                node, "a range as a value", "tuple(range(...)), or `for i in range(...)`"
            )
        self._within = node.args[0] if node.args and name in _SEQUENCES else None
        if names and name not in rules.KEYWORDS:
            return self.refuse(node, f"{name} with named arguments", "give arguments by place")
        if name == "str" and len(node.args) == 1:
            arguments: tuple[Value, ...] = (self.maybe_error(node.args[0]),)
        else:
            arguments = tuple(map(self.value, (*node.args, *(k.value for k in node.keywords))))
        if not node.args and not names and name not in {"timedelta", "time"}:
            return self.refuse(node, f"{name}() without arguments", "write the constant")
        return FunctionCall(name, arguments, names)

    def _method(self, node: ast.Call, function: ast.Attribute) -> Value:
        if node.keywords:
            return self.refuse(
                node, f".{function.attr} with named arguments", "give arguments by place"
            )
        value = self.value(function.value)
        return MethodCall(value, function.attr, tuple(map(self.value, node.args)))
