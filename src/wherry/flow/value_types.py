"""The type of every value in a program, by the types of the variables where it is evaluated."""

from __future__ import annotations

from collections.abc import Callable

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
    Program,
    TupleOf,
    Unary,
    Value,
)
from wherry.flow.types import (
    BOOL,
    INT,
    NONE,
    STR,
    Fixed,
    Local,
    Many,
    Maybe,
    Reference,
    Scalar,
    Sized,
    WireType,
    fits,
    item_type,
    joined,
    leaves,
    type_name,
)

Report = Callable[[object, str, str], None]
"""Takes the node, what was seen, and the form to use instead."""
State = dict[str, WireType]
UNKNOWN = Local("?")
"""Stands for a type after a reported problem, so that one mistake gives one reason."""


LEAVES_MOST = 4096
"""Scalars that one type names: so much is looked at wherever it meets another."""
BROKEN = "?"
"""Names what the parser has already refused; no verified program holds it."""


def mixed(a: WireType, b: WireType) -> WireType:
    """Give what stands for a variable of two types; reading it is a problem."""
    return Local(f"?{type_name(a)} on one way and {type_name(b)} on another")


def is_unknown(t: WireType) -> bool:
    """Tell whether the type is not known, or not one."""
    return isinstance(t, Local) and t.name.startswith("?")


def facts(test: Value, state: State, *, holds: bool) -> State:
    """Give the variables that a test tells to be None, or not to be, if it holds or does not."""
    match test:
        case Unary("not", value):
            return facts(value, state, holds=not holds)
        case Comparison(("is" | "is not" as op,), (Get(name), Constant(None))):
            t = state.get(name)
            if isinstance(t, Maybe):
                return {name: NONE if (op == "is") == holds else t.item}
        case Get(name) if holds:
            t = state.get(name)
            if isinstance(t, Maybe):
                return {name: t.item}
        case Either(op, values) if (op == "and") == holds:
            found: State = {}
            for value in values:
                found |= facts(value, {**state, **found}, holds=holds)
            return found
    return {}


class Values:
    """Types of values; what has none is reported, once for every place."""

    def __init__(self, program: Program, report: Report) -> None:
        self.program = program
        self.report = report
        self._said: set[str] = set()

    def _refuse(self, node: object, seen: str, instead: str) -> WireType:
        self.report(node, seen, instead)
        return UNKNOWN

    def expect(self, value: Value, state: State, wanted: WireType, what: str) -> None:
        """Report a value that is not of the wanted type."""
        t = self.of(value, state)
        if not is_unknown(t) and not fits(t, wanted):
            self._refuse(
                value, f"{what} is {type_name(t)}", f"give {type_name(wanted)}: convert it before"
            )

    def of(self, node: Value, state: State) -> WireType:
        """Give the type of a value where the variables have these types."""
        match node:
            case Constant(value):
                t = constant_type(value)
                return t if t is not None else UNKNOWN
            case Get(name):
                return self._variable(node, name, state)
            case Unary(op, value):
                return self._unary(node, op, self.of(value, state))
            case Binary():
                return self._binary(node, state)
            case Comparison():
                return self._comparison(node, state)
            case Either(op, values):
                return self._either(node, op, values, state)
            case Choice(test, then, otherwise):
                self.of(test, state)
                ways = (
                    self.of(then, {**state, **facts(test, state, holds=True)}),
                    self.of(otherwise, {**state, **facts(test, state, holds=False)}),
                )
                return self._one(node, ways)
            case TupleOf(items):
                return self._tuple(node, [self.of(item, state) for item in items])
        return self._access(node, state)

    def _access(self, node: Value, state: State) -> WireType:
        match node:
            case Formatted(parts):
                for part in parts:
                    if isinstance(part, Format):
                        self._formatted(part, state)
                return STR
            case Index(value, index):
                return self._index(node, self.of(value, state), index, state)
            case Attribute(value, name):
                return self._attribute(node, self.of(value, state), name)
            case MethodCall(value, name, arguments):
                of, types = self.of(value, state), [self.of(a, state) for a in arguments]
                return self._method(node, of, name, tuple(types))
            case FunctionCall(name, arguments, names):
                types = [self.of(a, state) for a in arguments]
                return self._call(node, name, tuple(types), names)
        raise TypeError(f"not a value: {type(node).__name__}")

    def _variable(self, node: Get, name: str, state: State) -> WireType:
        if name == BROKEN:
            return UNKNOWN
        t = state.get(name)
        if (t is None or is_unknown(t)) and name in self._said:
            return UNKNOWN
        if t is None:
            self._said.add(name)
            return self._refuse(
                node,
                f"{name!r} may have no value here",
                f"give {name!r} a value on every way that leads here",
            )
        if is_unknown(t) and t != UNKNOWN:
            assert isinstance(t, Local)
            self._said.add(name)
            return self._refuse(
                node,
                f"{name!r} is {t.name[1:]}",
                "use one name a type, or convert on one of the ways",
            )
        return t

    def _unary(self, node: Unary, op: str, t: WireType) -> WireType:
        if is_unknown(t):
            return UNKNOWN
        found = rules.unary(op, t)
        if found is None:
            return self._refuse(node, f"{op!r} of {type_name(t)}", _operand_hint(t))
        return found

    def _binary(self, node: Binary, state: State) -> WireType:
        a, b = self.of(node.left, state), self.of(node.right, state)
        if is_unknown(a) or is_unknown(b):
            return UNKNOWN
        if node.op == "**" and a in {INT, BOOL} and b in {INT, BOOL}:
            match node.right:
                case Constant(int(n)) if n >= 0:
                    return INT
            return self._refuse(
                node,
                "a power of ints with an exponent that may be negative, which gives a float",
                "write float(x) ** n, or a constant exponent",
            )
        found = rules.binary(node.op, a, b)
        if found is None:
            optional = next((t for t in (a, b) if isinstance(t, Maybe)), None)
            instead = _operand_hint(a if optional is None else optional)
            seen = f"{type_name(a)} {node.op} {type_name(b)}"
            return self._refuse(node, f"{seen} has no type", instead)
        return found

    def _comparison(self, node: Comparison, state: State) -> WireType:
        types = [self.of(value, state) for value in node.values]
        for op, a, b in zip(node.ops, types, types[1:], strict=False):
            if is_unknown(a) or is_unknown(b) or rules.comparable(op, a, b):
                continue
            return self._refuse(
                node,
                f"{type_name(a)} {op} {type_name(b)} cannot be compared",
                _operand_hint(a if isinstance(a, Maybe) else b),
            )
        return BOOL

    def _either(self, node: Either, op: str, values: tuple[Value, ...], state: State) -> WireType:
        known = dict(state)
        ways = []
        for n, value in enumerate(values):
            t = self.of(value, known)
            last = n == len(values) - 1
            # `x or y` gives x only if x is true, so that it is not None then.
            ways.append(t.item if isinstance(t, Maybe) and op == "or" and not last else t)
            known |= facts(value, known, holds=op == "and")
        if BOOL in ways and not all(t == BOOL or is_unknown(t) for t in ways):
            return self._refuse(
                node,
                f"{op!r} of {' and '.join(map(type_name, ways))} gives one or the other",
                "compare each part, so that all are bool",
            )
        return self._one(node, tuple(ways))

    def _one(self, node: Value, types: tuple[WireType, ...]) -> WireType:
        found = types[0]
        for t in types[1:]:
            if is_unknown(t) or is_unknown(found):
                return UNKNOWN
            both = joined(found, t)
            if both is None:
                return self._refuse(
                    node,
                    f"it is {type_name(found)} on one way and {type_name(t)} on another",
                    "give both ways one type",
                )
            found = both
        return found

    def _tuple(self, node: Value, items: list[WireType]) -> WireType:
        if any(map(is_unknown, items)):
            return UNKNOWN
        if any(isinstance(t, Local) for t in items):
            return self._refuse(
                node, "a tuple that holds a Home value", "pass it to the effect by itself"
            )
        if len(items) > rules.FIXED_MOST or sum(map(leaves, items)) > LEAVES_MOST:
            return self._refuse(
                node, f"a tuple of {len(items)} items", "keep so many values in rows"
            )
        return Fixed(tuple(items))

    def _formatted(self, part: Format, state: State) -> None:
        t = self.of(part.value, state)
        if is_unknown(t):
            return
        inner = t.item if isinstance(t, Maybe) else t
        scalar = isinstance(inner, Scalar) or rules.kind_of(inner) in {"str", "decimal"}
        if not scalar:
            self._refuse(part, f"a {type_name(t)} within an f-string", "format its scalars")
        elif part.spec and (isinstance(t, Maybe) or not _spec_fits(part.spec, t)):
            self._refuse(
                part, f"the format {part.spec!r} of {type_name(t)}", "format a number or a text"
            )

    def _index(self, node: Index, t: WireType, index: Value, state: State) -> WireType:
        if is_unknown(t):
            return UNKNOWN
        self.expect(index, state, INT, "an index")
        match t, index:
            case Fixed(items), Constant(int(n)):
                if -len(items) <= n < len(items):
                    return items[n]
                return self._refuse(node, f"item {n} of {len(items)}", f"0 to {len(items) - 1}")
            case ((Fixed() | Many()), _):
                found = item_type(t)
                return found or self._refuse(
                    node,
                    f"an item of {type_name(t)} by a variable index",
                    "use a constant index: the items have different types",
                )
            case Sized("str"), _:
                return STR
            case Sized("bytes"), _:
                return INT
        return self._refuse(node, f"an item of {type_name(t)}", "only tuples and texts have items")

    def _attribute(self, node: Attribute, t: WireType, name: str) -> WireType:
        if is_unknown(t):
            return UNKNOWN
        listed = rules.ATTRIBUTES.get(rules.kind_of(t), {})
        if name not in listed:
            possible = ", ".join(listed) or "none"
            return self._refuse(
                node,
                f"{type_name(t)} has no attribute {name!r} here",
                f"its attributes: {possible}" + _none_hint(t),
            )
        return listed[name]

    def _method(
        self, node: MethodCall, t: WireType, name: str, types: tuple[WireType, ...]
    ) -> WireType:
        if is_unknown(t) or any(map(is_unknown, types)):
            return UNKNOWN
        listed = rules.METHODS.get(rules.kind_of(t), {})
        if name not in listed:
            possible = ", ".join(sorted(listed)) or "none"
            return self._refuse(
                node,
                f"{type_name(t)} has no method {name!r} here",
                f"its methods: {possible}" + _none_hint(t),
            )
        found = rules.method(t, name, types)
        if found is None:
            return self._refuse(
                node, f"{type_name(t)}.{name}({_names(types)})", _signature(name, listed[name])
            )
        return found

    def _call(
        self, node: FunctionCall, name: str, types: tuple[WireType, ...], names: tuple[str, ...]
    ) -> WireType:
        if any(map(is_unknown, types)):
            return UNKNOWN
        found = rules.call(name, types, names)
        if found is None:
            return self._refuse(
                node,
                f"{name}({_names(types)}) has no type",
                f"give {name} values it has a result for; numbers of one kind, no None",
            )
        return found


def _spec_fits(spec: str, t: WireType) -> bool:
    sample = {
        "int": 1, "float": 1.0, "bool": True, "str": "", "decimal": 1.0,
    }.get(rules.kind_of(t))  # fmt: skip
    if sample is None:
        return False
    try:
        format(sample, spec)
    except ValueError:
        return False
    return True


def _names(types: tuple[WireType, ...]) -> str:
    return ", ".join(map(type_name, types))


def _signature(name: str, method: tuple[tuple[tuple[WireType, ...], ...], int, WireType]) -> str:
    wanted = ", ".join(" or ".join(map(type_name, possible)) for possible in method[0])
    return f"{name}({wanted})"


def _none_hint(t: WireType) -> str:
    return "; test `is not None` before" if isinstance(t, Maybe) else ""


def _operand_hint(t: WireType) -> str:
    if isinstance(t, Maybe):
        return "test `is not None` before: the value may be None"
    if isinstance(t, Reference):
        return "await a pipeline over it, or use num_rows, num_columns, nbytes"
    return "convert one side: int(...), float(...), str(...), Decimal(...)"
