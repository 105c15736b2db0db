"""What users write expressions with: `col("a") * 2 > lit(5)`.

An `Expr` wraps a node and overloads Python's operators; it has no truth value, no length and no
iteration, and says what to write instead when one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.ir.expr import (
    Arithmetic,
    Call,
    Cast,
    Column,
    Compare,
    DatePart,
    Field,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Match,
    Negate,
    Node,
    Not,
    When,
)
from wherry.ir.text import call_text, to_text

Value = object
"""Anything an expression accepts: an Expr, or a Python value that becomes a literal."""


class Expr:
    """A scalar expression in the making.

    >>> (col("price") * 2 > 5) & col("day").is_not_null()
    <Expr ((price * 2) > 5) and (not (day is null))>
    """

    __slots__ = ("name", "node")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node: Node, name: str | None = None) -> None:
        self.node = node
        self.name = name

    def __repr__(self) -> str:
        return f"<Expr {to_text(self.node)}>"

    def alias(self, name: str) -> Expr:
        """Give the expression the name its column will have."""
        return Expr(self.node, name)

    def __eq__(self, other: Value) -> Expr:  # type: ignore[override]
        return _compare("==", self, other)

    def __ne__(self, other: Value) -> Expr:  # type: ignore[override]
        return _compare("!=", self, other)

    def __lt__(self, other: Value) -> Expr:
        return _compare("<", self, other)

    def __le__(self, other: Value) -> Expr:
        return _compare("<=", self, other)

    def __gt__(self, other: Value) -> Expr:
        return _compare(">", self, other)

    def __ge__(self, other: Value) -> Expr:
        return _compare(">=", self, other)

    def __add__(self, other: Value) -> Expr:
        return _arithmetic("+", self, other)

    def __radd__(self, other: Value) -> Expr:
        return _arithmetic("+", other, self)

    def __sub__(self, other: Value) -> Expr:
        return _arithmetic("-", self, other)

    def __rsub__(self, other: Value) -> Expr:
        return _arithmetic("-", other, self)

    def __mul__(self, other: Value) -> Expr:
        return _arithmetic("*", self, other)

    def __rmul__(self, other: Value) -> Expr:
        return _arithmetic("*", other, self)

    def __truediv__(self, other: Value) -> Expr:
        return _arithmetic("/", self, other)

    def __rtruediv__(self, other: Value) -> Expr:
        return _arithmetic("/", other, self)

    def __neg__(self) -> Expr:
        return Expr(Negate(self.node))

    def __and__(self, other: Value) -> Expr:
        return _logic("and", self, other)

    def __rand__(self, other: Value) -> Expr:
        return _logic("and", other, self)

    def __or__(self, other: Value) -> Expr:
        return _logic("or", self, other)

    def __ror__(self, other: Value) -> Expr:
        return _logic("or", other, self)

    def __invert__(self) -> Expr:
        return Expr(Not(self.node))

    def is_null(self) -> Expr:
        """Tell whether the value is null."""
        return Expr(IsNull(self.node))

    def is_not_null(self) -> Expr:
        """Tell whether the value is not null."""
        return Expr(Not(IsNull(self.node)))

    def is_in(self, values: Iterable[Value]) -> Expr:
        """Tell whether the value equals one of `values`; null if it is null."""
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise InputError(f"is_in takes several values, such as [1, 2]; got {values!r}")
        return Expr(IsIn(self.node, tuple(_constant(v) for v in values)))

    def is_between(self, low: Value, high: Value) -> Expr:
        """Tell whether low <= value <= high."""
        return (self >= low) & (self <= high)

    def cast(self, to: pa.DataType) -> Expr:
        """Give the value in type `to`; a value that has none there makes the run fail."""
        if not isinstance(to, pa.DataType):
            raise InputError(f"cast needs a pyarrow type such as pa.int64(); got {to!r}")
        return Expr(Cast(self.node, to), self.name)

    @property
    def str(self) -> TextMethods:
        """Text: `.starts_with .ends_with .contains .like`."""
        return TextMethods(self.node)

    @property
    def dt(self) -> TimeMethods:
        """Dates and timestamps: `.year() .month() .day()`."""
        return TimeMethods(self.node)

    @property
    def struct(self) -> StructMethods:
        """Structs: `.field(name)`."""
        return StructMethods(self.node)

    def sum(self) -> Aggregate:
        """Add up the values that are not null."""
        return Aggregate(Call("sum", self.node))

    def mean(self) -> Aggregate:
        """Give the float64 mean of the values that are not null."""
        return Aggregate(Call("mean", self.node))

    def min(self) -> Aggregate:
        """Give the smallest value that is not null."""
        return Aggregate(Call("min", self.node))

    def max(self) -> Aggregate:
        """Give the largest value that is not null."""
        return Aggregate(Call("max", self.node))

    def count(self) -> Aggregate:
        """Count the values that are not null."""
        return Aggregate(Call("count", self.node))

    def count_distinct(self) -> Aggregate:
        """Count the different values that are not null, as SQL's count(distinct) does."""
        return Aggregate(Call("count_distinct", self.node))

    def first(self) -> Aggregate:
        """Give the value of the first row, null if it is null."""
        return Aggregate(Call("first", self.node))

    def last(self) -> Aggregate:
        """Give the value of the last row, null if it is null."""
        return Aggregate(Call("last", self.node))

    def var(self, ddof: int = 1) -> Aggregate:
        """Give the float64 variance; null of `ddof` values or fewer.

        Parameters
        ----------
        ddof : int
            What is taken off the number of values that the squares are divided by: 1 for a sample,
            0 for a whole population.
        """
        return Aggregate(Call(_spread("var", ddof), self.node))

    def std(self, ddof: int = 1) -> Aggregate:
        """Give the float64 standard deviation: the square root of `var(ddof)`."""
        return Aggregate(Call(_spread("std", ddof), self.node))

    def __bool__(self) -> NoReturn:
        raise InputError(
            f"{to_text(self.node)} has no truth value before it runs; use & for 'and', | for 'or', "
            "~ for 'not', when(c).then(a).otherwise(b) for 'if', is_between for a < b < c"
        )

    def __iter__(self) -> NoReturn:
        raise InputError(f"{to_text(self.node)} cannot be iterated; it stands for one value a row")

    def __len__(self) -> NoReturn:
        raise InputError(f"{to_text(self.node)} has no length; wherry.count() counts rows")

    def __contains__(self, item: Value) -> NoReturn:
        raise InputError(f"'in' does not apply to {to_text(self.node)}; use .is_in([...])")


class TextMethods:
    """What text can be asked."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def starts_with(self, prefix: str) -> Expr:
        """Tell whether the text begins with `prefix`."""
        return Expr(Match("starts_with", self._node, Literal(prefix)))

    def ends_with(self, suffix: str) -> Expr:
        """Tell whether the text ends with `suffix`."""
        return Expr(Match("ends_with", self._node, Literal(suffix)))

    def contains(self, part: str) -> Expr:
        """Tell whether `part` stands somewhere in the text, literally."""
        return Expr(Match("contains", self._node, Literal(part)))

    def like(self, pattern: str) -> Expr:
        r"""Tell whether the text matches SQL's `pattern`: % any run, _ one character, \ escapes."""
        return Expr(Match("like", self._node, Literal(pattern)))


class TimeMethods:
    """What a date or timestamp can be asked."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def year(self) -> Expr:
        """Give the year as int64."""
        return Expr(DatePart("year", self._node))

    def month(self) -> Expr:
        """Give the month, 1 to 12, as int64."""
        return Expr(DatePart("month", self._node))

    def day(self) -> Expr:
        """Give the day of the month, 1 to 31, as int64."""
        return Expr(DatePart("day", self._node))


class StructMethods:
    """What a struct can be asked."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def field(self, name: str) -> Expr:
        """Give the field `name`, null where the struct is null; the column has the field's name."""
        if not isinstance(name, str):
            raise InputError(f"a field is named by text; got {type(name).__name__}")
        return Expr(Field(self._node, name), name)


class Aggregate:
    """An aggregate in the making: `col("x").sum()`, `count()`."""

    __slots__ = ("call", "name")

    def __init__(self, call: Call, name: str | None = None) -> None:
        self.call = call
        self.name = name

    def __repr__(self) -> str:
        return f"<Aggregate {call_text(self.call)}>"

    def alias(self, name: str) -> Aggregate:
        """Give the aggregate the name its column will have."""
        return Aggregate(self.call, name)


class Case:
    """`when(c).then(a)`, to be continued with `.when(d).then(b)` or closed with `.otherwise(e)`."""

    __slots__ = ("_cases",)

    def __init__(self, cases: tuple[tuple[Node, Node], ...]) -> None:
        self._cases = cases

    def when(self, condition: Value) -> Condition:
        """Add a case, tried if all before it failed."""
        return Condition(self._cases, to_node(condition))

    def otherwise(self, value: Value) -> Expr:
        """Close with the value for rows that no case matched."""
        return Expr(When(self._cases, to_node(value)))


class Condition:
    """`when(c)`, to be continued with `.then(a)`."""

    __slots__ = ("_cases", "_condition")

    def __init__(self, cases: tuple[tuple[Node, Node], ...], condition: Node) -> None:
        self._cases = cases
        self._condition = condition

    def then(self, value: Value) -> Case:
        """Give the value of this case."""
        return Case((*self._cases, (self._condition, to_node(value))))


def col(name: str) -> Expr:
    """Give the column `name` as an expression."""
    if not isinstance(name, str):
        raise InputError(f"a column is named by text; got {type(name).__name__}")
    return Expr(Column(name), name)


def lit(value: Value) -> Expr:
    """Give a constant as an expression."""
    return Expr(_constant(value))


def when(condition: Value) -> Condition:
    """Begin a choice: `when(c).then(a).otherwise(b)`."""
    return Condition((), to_node(condition))


def count() -> Aggregate:
    """Count rows, nulls included."""
    return Aggregate(Call("count", None))


def to_node(value: Value) -> Node:
    """Give the node of an expression, or the literal of a Python value."""
    if isinstance(value, Expr):
        return value.node
    if isinstance(value, Case):
        raise InputError("a choice needs its end: when(...).then(...).otherwise(...)")
    if isinstance(value, Aggregate):
        raise InputError(f"{call_text(value.call)} is an aggregate; it belongs in agg(...)")
    return _constant(value)


def _constant(value: Value) -> Literal:
    if isinstance(value, Expr):
        if isinstance(value.node, Literal):
            return value.node
        raise InputError(f"a constant is needed here; got {to_text(value.node)}")
    if isinstance(value, pa.Scalar):
        return Literal(_python_value(value), value.type)
    return Literal(value)


def _python_value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as problem:
        raise InputError(
            f"a constant of type {scalar.type} has no Python value: constants of time are whole "
            "microseconds in the years 1 to 9999"
        ) from problem


def _spread(kind: str, ddof: int) -> str:
    if ddof not in (0, 1):
        raise InputError(f"{kind} takes ddof 1 (a sample) or 0 (a population); got {ddof!r}")
    return kind if ddof else f"{kind}_pop"


def _compare(op: str, left: Value, right: Value) -> Expr:
    return Expr(Compare(op, to_node(left), to_node(right)))


def _arithmetic(op: str, left: Value, right: Value) -> Expr:
    return Expr(Arithmetic(op, to_node(left), to_node(right)))


def _logic(op: str, left: Value, right: Value) -> Expr:
    operands: list[Node] = []
    for node in (to_node(left), to_node(right)):
        same = isinstance(node, Logic) and node.op == op
        operands += node.operands if same and isinstance(node, Logic) else [node]
    return Expr(Logic(op, tuple(operands)))
