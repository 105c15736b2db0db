"""The grammar of expressions: typed scalar trees, the only thing lowered to every device.

    Node    = Column(name, type) | Literal(value, type) | Parameter(index, type, digits)
            | Cast(operand, type)                   value kept, type changed; or an error
            | Arithmetic(op, left, right, type)     op in + - * /
            | Negate(operand)
            | Compare(op, left, right)              op in == != < <= > >=
            | Logic(op, operands)                   op in and or; SQL's three values
            | Not(operand)
            | IsNull(operand)
            | IsIn(operand, values, type)           null is in nothing: null gives null
            | When(cases, otherwise, type)          cases = ((condition, value), ...)
            | Match(kind, operand, pattern)         kind in starts_with ends_with contains like
            | DatePart(part, operand)               part in year month day
            | Field(operand, name, type)            a field of a struct; of a null struct null
            | Apply(name, digest, types, arguments, type, operations)   a user's function
            | Shard(operand, by, count, bounds)     the int32 shard of a key; by in hash range
            | Member(keys, build)                   keys stand in a build; false if one is null
            | Code(operand, build, key)             the int32 number of a text in a build, or null
    Call    = Call(kind, argument)                  kind in sum mean min max count count_distinct
                                                    first last var std var_pop std_pop moments

A node is a value: equal if its fields are. The tree a user writes has `type` None wherever a schema
must supply it; `resolve` returns the tree with every type known and every conversion written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal as Literal_
from typing import TypeVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace


class Node(Struct, frozen=True):
    """Base of all expression nodes."""


class Column(Node, frozen=True):
    """The value of a column in the row at hand."""

    name: str
    type: pa.DataType | None = None


class Literal(Node, frozen=True, eq=False):
    """A constant; value None is the null of its type.

    Equal if type and written value are: -0.0 is not 0.0, because a division tells them apart.
    """

    value: object
    type: pa.DataType | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return self.type == other.type and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash((Literal, self.type, repr(self.value)))


class Parameter(Node, frozen=True):
    """A constant that travels in the frame, not in the program: position `index` of its values.

    `digits` bounds its unscaled integer below 10**digits (0: no integer); programs choose their
    width by it.
    """

    index: int
    type: pa.DataType
    digits: int = 0


class Cast(Node, frozen=True):
    """The operand's value in another type; a value that has none there is an error."""

    operand: Node
    type: pa.DataType


class Arithmetic(Node, frozen=True):
    """Two numbers make one. Decimal operands keep their own scales for `*`, share one for `+ -`."""

    op: str
    left: Node
    right: Node
    type: pa.DataType | None = None


class Negate(Node, frozen=True):
    """The number with the other sign."""

    operand: Node


class Compare(Node, frozen=True):
    """Two values of one type compared; null if either is."""

    op: str
    left: Node
    right: Node


class Logic(Node, frozen=True):
    """All (and) or any (or) of the operands, with SQL's three values."""

    op: str
    operands: tuple[Node, ...]


class Not(Node, frozen=True):
    """The opposite truth; null stays null."""

    operand: Node


class IsNull(Node, frozen=True):
    """Whether the operand is null; never null itself."""

    operand: Node


class IsIn(Node, frozen=True):
    """Whether the operand equals one of the values; null if the operand is null."""

    operand: Node
    values: tuple[Node, ...]


class When(Node, frozen=True):
    """The value of the first case whose condition is true, otherwise `otherwise`."""

    cases: tuple[tuple[Node, Node], ...]
    otherwise: Node


class Match(Node, frozen=True):
    """Whether text matches a pattern; `like` knows % and _ and the escape backslash."""

    kind: str
    operand: Node
    pattern: Node


class DatePart(Node, frozen=True):
    """A part of a date or timestamp as int64."""

    part: str
    operand: Node


class Field(Node, frozen=True):
    """The field `name` of a struct; null if the struct is null."""

    operand: Node
    name: str
    type: pa.DataType | None = None


class Apply(Node, frozen=True):
    """The value of a user's function (`wherry.ir.user`); null if an argument is.

    `digest` says which function, `types` of what its arguments are, and `operations` how many at
    most make one value.
    """

    name: str
    digest: bytes
    types: tuple[pa.DataType, ...]
    arguments: tuple[Node, ...]
    type: pa.DataType
    operations: int


class Shard(Node, frozen=True):
    """The shard of a key, as `wherry.data.sharding` defines it."""

    operand: Node
    by: Literal_["hash", "range"]
    count: int
    bounds: tuple[object, ...] = ()


class Member(Node, frozen=True):
    """Whether a row of a build has these keys; false, not null, where a key is null.

    `build` is a constant whose value is `wherry.ir.build.Build`; keys are never texts, but codes.
    """

    keys: tuple[Node, ...]
    build: Node


class Code(Node, frozen=True):
    """The number of a text among the texts of key `key` of a build, as int32; null if not there."""

    operand: Node
    build: Node
    key: int


class Call(Struct, frozen=True):
    """An aggregate over rows; `argument` None counts rows.

    Nulls do not take part, except in first and last: those give the value of one row, null or not.
    """

    kind: str
    argument: Node | None


N = TypeVar("N", bound=Node)


def _children_of(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _children_of(item)


def children(node: Node) -> Iterator[Node]:
    """Give the direct operands of `node`, in field order."""
    for field in node.__struct_fields__:
        yield from _children_of(getattr(node, field))


def walk(node: Node) -> Iterator[Node]:
    """Give `node` and everything below it, parents first."""
    # No recursion: a node would be handed up through every level above it.
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        waiting += reversed([*children(here)])


def _mapped(value: object, change: Callable[[Node], Node]) -> object:
    if isinstance(value, Node):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(item, change) for item in value)
    return value


def map_children(node: N, change: Callable[[Node], Node]) -> N:
    """Give `node` with `change` applied to each direct operand."""
    changed = {f: _mapped(getattr(node, f), change) for f in node.__struct_fields__}
    return replace(node, **changed)


def transform(node: Node, change: Callable[[Node], Node]) -> Node:
    """Give the tree with `change` applied to every node, leaves first."""
    return change(map_children(node, lambda child: transform(child, change)))


def columns_of(node: Node) -> frozenset[str]:
    """Give the names of the columns the expression reads."""
    return frozenset(n.name for n in walk(node) if isinstance(n, Column))


def conjuncts(node: Node) -> tuple[Node, ...]:
    """Give the terms that must all hold: the operands of nested `and`s, flattened."""
    if isinstance(node, Logic) and node.op == "and":
        return tuple(term for operand in node.operands for term in conjuncts(operand))
    return (node,)


def all_of(terms: tuple[Node, ...]) -> Node:
    """Give the one predicate that holds if all terms do; `terms` is not empty."""
    return terms[0] if len(terms) == 1 else Logic("and", terms)
