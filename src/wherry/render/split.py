"""What of an expression is lowered, what becomes a lookup, and what is left to pyarrow, and why.

A *residual* is a subexpression that no block function computes: the reference evaluates it over the
chunk into a column of its own before the pass, which then reads that column. A *lookup* is a
subexpression that reads one dictionary column and nothing else: it is evaluated once on the
dictionary, and the pass reads the result by code. So coverage decides speed, never the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.data.types import type_class
from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Cast,
    Code,
    Column,
    Compare,
    DatePart,
    Field,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Match,
    Member,
    Negate,
    Node,
    Not,
    Parameter,
    Shard,
    When,
    map_children,
    transform,
    walk,
)
from wherry.ir.resolve import type_of
from wherry.ir.text import to_text
from wherry.ir.types import is_moment, type_range
from wherry.render.intervals import (
    Bounds,
    exact_as_float,
    interval,
    moment_cast,
    rescale,
    within,
)
from wherry.render.loop import OWN
from wherry.render.shards import refuse_shard

_MOST_VALUES: Final = 64
_MOST_TEXTS: Final = 16
_EXACT: Final = {"integer", "decimal"}


class Lookup(Node, frozen=True):
    """The value of `node` found by the code of a dictionary column; `number` names its table.

    `codes` is the type of the codes as they are stored.
    """

    number: int
    column: str
    codes: pa.DataType
    type: pa.DataType


class RowNumber(Node, frozen=True):
    """The number of the row in its chunk, as int64."""

    type: pa.DataType = field(default_factory=pa.int64)


class Split(Struct):
    """Collects what the expressions of one pass leave to be prepared before it.

    Parameters
    ----------
    bounds : mapping
        What statistics say of the pass's input columns.
    """

    bounds: Bounds
    fields: dict[Node, Column] = field(default_factory=dict)
    residuals: dict[Node, Column] = field(default_factory=dict)
    lookups: dict[Node, Lookup] = field(default_factory=dict)
    reasons: dict[Node, str] = field(default_factory=dict)

    def extracted(self, node: Node) -> Node:
        """Give `node` with fields of structs as columns: their buffers are read like a column's."""
        if not isinstance(node, Field):
            return map_children(node, self.extracted)
        if node not in self.fields:
            name, taken = f"{OWN}{to_text(node)}", {column.name for column in self.fields.values()}
            while name in taken:
                name += "'"
            self.fields[node] = Column(name, node.type)
        return self.fields[node]

    def value(self, node: Node) -> Node:
        """Give `node`, whose fields are extracted, in terms that block functions know."""
        if isinstance(node, Column | Parameter) and is_fixed(type_of(node)):
            return node
        column = dictionary_column(node)
        if column is not None and is_fixed(type_of(node)):
            codes = next(n for n in walk(node) if isinstance(n, Column)).type.index_type  # type: ignore[union-attr]
            made = Lookup(len(self.lookups), column, codes, type_of(node))
            return self.lookups.setdefault(node, made)
        if isinstance(node, Member):
            return replace(node, keys=tuple(map(self.value, node.keys)))
        if isinstance(node, Code):
            return self.residual(node, "texts are looked up by pyarrow among those of the build")
        rest = node if tests_text(node) else map_children(node, self.value)
        reason = refusal(rest, self.bounds)
        return rest if reason is None else self.residual(node, reason)

    def residual(self, node: Node, reason: str) -> Column:
        """Leave `node` to the reference; give the column that will hold it."""
        stored: dict[Node, Node] = {column: found for found, column in self.fields.items()}
        node = transform(node, lambda n: stored.get(n, n))
        self.reasons.setdefault(node, f"{to_text(node)}: {reason}")
        return self.residuals.setdefault(node, Column(f"{OWN}{len(self.residuals)}", type_of(node)))

    def used(self, roots: tuple[Node, ...]) -> tuple[dict[Node, Column], dict[Node, Lookup]]:
        """Give the residuals and lookups that `roots` really read."""
        seen = {n for root in roots for n in walk(root)}
        residuals = {n: c for n, c in self.residuals.items() if c in seen}
        return residuals, {n: c for n, c in self.lookups.items() if c in seen}

    def used_fields(self, roots: Iterable[Node]) -> dict[Node, Column]:
        """Give the fields of structs that `roots` read."""
        seen = {n for root in roots for n in walk(root)}
        return {n: column for n, column in self.fields.items() if column in seen}


def is_fixed(t: pa.DataType) -> bool:
    """Tell whether block functions compute with values of type `t`."""
    return type_class(t) not in {"string", "binary", "dictionary", "struct"}


def dictionary_column(node: Node) -> str | None:
    """Give the dictionary column that is all that `node` reads, if so and it is not that column."""
    if isinstance(node, Column):
        return None
    found = None
    for column in (n for n in walk(node) if isinstance(n, Column)):
        if not pa.types.is_dictionary(type_of(column)) or found not in {None, column}:
            return None
        found = column
    return None if found is None else found.name


def tests_text(node: Node) -> bool:
    """Tell whether `node` asks something of a text, whose operand is no value of its own."""
    return isinstance(node, Compare | Match | IsIn | IsNull) and not is_fixed(
        type_of(node.left if isinstance(node, Compare) else node.operand)
    )


def refusal(node: Node, bounds: Bounds) -> str | None:
    """Give why `node` itself has no native form, its operands having one, or None if it has."""
    match node:
        case Logic() | Not() | Negate() | DatePart() | IsNull() | Lookup():
            return _refuse_simple(node)
        case Literal(value, t):
            return None if value is None and is_fixed(t) else "a constant that was not lifted"
        case Cast():
            return _refuse_cast(node, bounds)
        case Arithmetic():
            return _refuse_arithmetic(node, bounds)
        case Compare() | Match() | IsIn():
            return _refuse_test(node)
        case When(_, otherwise):
            return None if is_fixed(type_of(otherwise)) else "a choice between texts"
        case Apply():
            return None
        case Shard():
            return refuse_shard(node)
    return "text has no native form here"


def _refuse_simple(node: Node) -> str | None:
    if isinstance(node, DatePart):
        t = type_of(node.operand)
        zoned = pa.types.is_timestamp(t) and t.tz is not None
        return "parts of a moment in a time zone need its rules" if zoned else None
    if isinstance(node, IsNull) and tests_text(node):
        return None if isinstance(node.operand, Column) else "a text that is not a column"
    return None


def _refuse_arithmetic(node: Arithmetic, bounds: Bounds) -> str | None:
    t = type_of(node)
    if pa.types.is_decimal(t) and not within(interval(node, bounds), type_range(t)):
        return f"may need more than {t.precision} digits"
    return None


def _refuse_cast(node: Cast, bounds: Bounds) -> str | None:
    source, target = type_of(node.operand), node.type
    if not (is_fixed(source) and is_fixed(target)):
        return "a cast from or to text"
    if is_moment(source) or is_moment(target):
        return _refuse_moment(node, bounds)
    one, other = type_class(source), type_class(target)
    if one in _EXACT and other in _EXACT:
        step = rescale(source, target)
        proven = step is not None and step >= 0
        fits = proven and within(_cast_interval(node, bounds), type_range(target))
        return None if fits else "a cast that may fail"
    if other == "float" and pa.types.is_float64(target):
        exact = one != "decimal" or exact_as_float(interval(node.operand, bounds), source.scale)
        return None if exact else "a decimal of more than 53 bits to a float"
    if (one, other) == ("boolean", "integer"):
        return None
    return "a cast that may fail or round"


def _refuse_moment(node: Cast, bounds: Bounds) -> str | None:
    source, target = type_of(node.operand), node.type
    local = pa.types.is_timestamp(source) and source.tz is not None
    if local and not pa.types.is_timestamp(target) and not pa.types.is_integer(target):
        return "a day or time of a moment in a time zone needs its rules"
    low, high = moment_cast(interval(node.operand, bounds), source, target)
    fits = within((low, high), type_range(target))
    return None if fits else f"a moment that may not fit in {target.bit_width} bits"


def _cast_interval(node: Cast, bounds: Bounds) -> tuple[int, int]:
    low, high = interval(node.operand, bounds)
    step = 10 ** (rescale(type_of(node.operand), node.type) or 0)
    return low * step, high * step


def _refuse_test(node: Compare | Match | IsIn) -> str | None:
    if not tests_text(node):
        if isinstance(node, IsIn):
            return _refuse_values(node.operand, node.values, _MOST_VALUES)
        return None
    operand = node.left if isinstance(node, Compare) else node.operand
    if not isinstance(operand, Column) or pa.types.is_dictionary(type_of(operand)):
        return "a text that is not a plain column"
    if isinstance(node, Match):
        assert isinstance(node.pattern, Literal)
        special = "\0_\\" if node.kind == "like" else "\0"
        return (
            "a pattern with _, \\ or NUL" if set(special) & set(str(node.pattern.value)) else None
        )
    values = (node.right,) if isinstance(node, Compare) else node.values
    return _refuse_values(operand, values, _MOST_TEXTS)


def _refuse_values(operand: Node, values: tuple[Node, ...], most: int) -> str | None:
    if not all(isinstance(v, Parameter) for v in values):
        return "compares with something that is not a constant"
    if len(values) > most:
        return f"more than {most} values"
    return "a list of truth values" if pa.types.is_boolean(type_of(operand)) else None
