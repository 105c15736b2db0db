"""Expressions of SQL as expressions of pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.data.types import type_class, value_type
from wherry.ir.builder import Expr, col, lit, when
from wherry.ir.expr import IsIn, Node, children
from wherry.ir.resolve import resolve, type_of
from wherry.statements.constants import NONE, NULL, constant, moment_of, python_value
from wherry.statements.parse import only, refused, shown, sqlglot, text_of

if TYPE_CHECKING:
    from sqlglot import exp

_COMPARED: Final[dict[str, Callable[[Expr, Any], Expr]]] = {
    "EQ": lambda a, b: a == b,
    "NEQ": lambda a, b: a != b,
    "LT": lambda a, b: a < b,
    "LTE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GTE": lambda a, b: a >= b,
}
_COMPUTED: Final[dict[str, Callable[[Expr, Any], Expr]]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}
_PARTS: Final = {"year": "year", "month": "month", "day": "day", "dayofmonth": "day"}
_FUNCTIONS: Final = (
    "+ - * /, comparisons, AND OR NOT, IS NULL, IN (constants), BETWEEN, LIKE, CASE, CAST, "
    "coalesce, nullif, if, year, month, day, extract, starts_with, ends_with, contains"
)
TYPES: Final[dict[str, pa.DataType]] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINT": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "TEXT": pa.utf8(),
    "VARBINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMPNTZ": pa.timestamp("us"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}

"""By what sqlglot calls what DuckDB calls INTEGER, TIMESTAMP, VARCHAR, BLOB, REAL, and so on."""
_TYPE_NAMES: Final = (
    "BOOLEAN, TINYINT to BIGINT and UTINYINT to UBIGINT, REAL, DOUBLE, DECIMAL(p, s), VARCHAR, "
    "BLOB, DATE, TIME, TIMESTAMP[_S, _MS, _NS], TIMESTAMPTZ"
)

NODES_MAX: Final = 5_000
"""Of an expression: coalesce and nullif say an operand twice, and double with each level."""


class Scalars:
    """Turns bound trees into expressions over the columns of `schema`."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._made: dict[int, tuple[exp.Expr, Expr]] = {}
        self._sizes: dict[int, tuple[Node, int]] = {}

    def expr(self, node: exp.Expr | None) -> Expr:
        """Give a tree as an expression.

        Raises
        ------
        InputError
            If it holds something that expressions do not do, naming it.
        """
        if node is None:
            raise InputError("SQL: a function lacks a value")
        known = self._made.get(id(node))
        if known is None:
            # The tree is kept, so that no other one gets its id.
            known = self._made[id(node)] = node, self._expr(node)
            if self._size(known[1].node) > NODES_MAX:
                raise InputError(f"SQL: an expression of more than {NODES_MAX} operations")
        return known[1]

    def _size(self, node: Node) -> int:
        """Give how many nodes a tree has: what stands in it twice is one node, and counts twice."""
        known = self._sizes.get(id(node))
        if known is None:
            # Constants of is_in are one list, however long.
            inner = [node.operand] if isinstance(node, IsIn) else children(node)
            known = self._sizes[id(node)] = node, 1 + sum(map(self._size, inner))
        return known[1]

    def _expr(self, node: exp.Expr) -> Expr:
        """Give a tree as an expression, whatever its size."""
        value = constant(node)
        if value is NULL:
            raise refused(node, "a NULL without a type", "CAST(NULL AS type)")
        if value is not NONE:
            return lit(python_value(value))
        name = type(node).__name__
        if name in _COMPARED:
            return self._compared(name, node)
        if name in _COMPUTED:
            # Of a division sqlglot also keeps how its dialect divides: as Wherry does.
            only(node, "this", "expression", "typed", "safe")
            return _COMPUTED[name](self.expr(node.this), self.expr(node.expression))
        handler = getattr(self, f"_{name.lower()}", None)
        if handler is None:
            raise refused(node, possible=_FUNCTIONS)
        made: Expr = handler(node)
        return made

    def type(self, expression: Expr) -> pa.DataType:
        """Give the type that an expression has over the columns."""
        return type_of(resolve(expression.node, self._schema))

    def _column(self, node: exp.Column) -> Expr:
        only(node, "this")
        return col(node.name)

    def _dot(self, node: exp.Dot) -> Expr:
        return self.expr(node.this).struct.field(node.expression.name)

    def _paren(self, node: exp.Paren) -> Expr:
        return self.expr(node.this)

    def _neg(self, node: exp.Neg) -> Expr:
        return -self.expr(node.this)

    def _not(self, node: exp.Not) -> Expr:
        return ~self.expr(node.this)

    def _and(self, node: exp.And) -> Expr:
        first, *rest = node.flatten()
        made = self.expr(first)
        for term in rest:
            made &= self.expr(term)
        return made

    def _or(self, node: exp.Or) -> Expr:
        first, *rest = node.flatten()
        made = self.expr(first)
        for term in rest:
            made |= self.expr(term)
        return made

    def _compared(self, name: str, node: exp.Expr) -> Expr:
        only(node, "this", "expression")
        return self._met(_COMPARED[name], node.this, node.expression)

    def _met(self, op: Callable[[Expr, Any], Expr], left: exp.Expr, right: exp.Expr) -> Expr:
        """Compare; a text beside a date is a date, and NULL has the type of what it meets."""
        one, other = constant(left), constant(right)
        if other is not NONE and one is NONE:
            expression = self.expr(left)
            return op(expression, self._beside(self._values(expression), other))
        if one is not NONE and other is NONE:
            expression = self.expr(right)
            return op(self._beside(self._values(expression), one), expression)
        if NULL in (one, other):
            return lit(None)
        return op(self.expr(left), self.expr(right))

    def _values(self, expression: Expr) -> pa.DataType:
        return value_type(self.type(expression))

    def _beside(self, t: pa.DataType, value: object) -> Expr:
        """Give a constant as what it is beside values of type `t`."""
        if value is NULL:
            return lit(None).cast(t)
        if isinstance(value, str) and type_class(t) in {"temporal", "time"}:
            moment = moment_of(value, t)
            if moment is NONE:
                raise InputError(f"SQL: {value!r} has a zone, and it meets values without one")
            return lit(moment)
        return lit(python_value(value))

    def _is(self, node: exp.Is) -> Expr:
        only(node, "this", "expression")
        expression, value = self.expr(node.this), constant(node.expression)
        if value is NULL:
            return expression.is_null()
        if isinstance(value, bool):
            same = expression if value else ~expression
            return when(expression.is_null()).then(False).otherwise(same)
        raise refused(node, possible="IS [NOT] NULL, IS [NOT] TRUE, IS [NOT] FALSE")

    def _between(self, node: exp.Between) -> Expr:
        only(node, "this", "low", "high")
        low = self._met(_COMPARED["GTE"], node.this, node.args["low"])
        return low & self._met(_COMPARED["LTE"], node.this, node.args["high"])

    def _in(self, node: exp.In) -> Expr:
        only(node, "this", "expressions")
        if not node.expressions:
            raise refused(node)
        expression = self.expr(node.this)
        values = [constant(item) for item in node.expressions]
        if NONE in values or NULL in values:
            made = self._met(_COMPARED["EQ"], node.this, node.expressions[0])
            for item in node.expressions[1:]:
                made |= self._met(_COMPARED["EQ"], node.this, item)
            return made
        t = self._values(expression)
        return expression.is_in([self._beside(t, value) for value in values])

    def _like(self, node: exp.Like, escape: str = "") -> Expr:
        only(node, "this", "expression", "negate")
        pattern = constant(node.expression)
        if not isinstance(pattern, str):
            raise refused(node, "LIKE with a pattern that is no constant text")
        made = _liked(self.expr(node.this), pattern, escape)
        return ~made if node.args.get("negate") else made

    def _escape(self, node: exp.Escape) -> Expr:
        escape = constant(node.expression)
        like = sqlglot().exp.Like
        if not (isinstance(escape, str) and len(escape) == 1 and isinstance(node.this, like)):
            raise refused(node, possible="LIKE 'pattern' ESCAPE 'one character'")
        return self._like(node.this, escape)

    def _startswith(self, node: exp.StartsWith) -> Expr:
        return self.expr(node.this).str.starts_with(self._text(node))

    def _endswith(self, node: exp.EndsWith) -> Expr:
        return self.expr(node.this).str.ends_with(self._text(node))

    def _contains(self, node: exp.Contains) -> Expr:
        return self.expr(node.this).str.contains(self._text(node))

    def _text(self, node: exp.Expr) -> str:
        only(node, "this", "expression")
        value = constant(node.expression)
        if not isinstance(value, str):
            raise refused(node, "a text to look for that is no constant")
        return value

    def _cast(self, node: exp.Cast) -> Expr:
        only(node, "this", "to")
        target = type_named(node.to)
        value = constant(node.this)
        if value is NULL:
            return lit(None).cast(target)
        if isinstance(value, str) and type_class(target) in {"temporal", "time"}:
            return lit(pa.scalar(moment_of(value, target), target))
        return self.expr(node.this).cast(target)

    def _case(self, node: exp.Case) -> Expr:
        only(node, "this", "ifs", "default")
        exp = sqlglot().exp
        arms = []
        for arm in node.args["ifs"]:
            only(arm, "this", "true")
            test = exp.EQ(this=node.this, expression=arm.this) if node.this else arm.this
            arms.append((self.expr(test), arm.args["true"]))
        return self._chosen(arms, node.args.get("default"))

    def _if(self, node: exp.If) -> Expr:
        only(node, "this", "true", "false")
        return self._chosen([(self.expr(node.this), node.args["true"])], node.args.get("false"))

    def _chosen(self, arms: list[tuple[Expr, exp.Expr]], default: exp.Expr | None) -> Expr:
        values = [value for _, value in arms]
        if default is not None:
            values.append(default)
        typed = next((v for v in values if constant(v) is not NULL), None)
        if typed is None:
            raise InputError(
                "SQL: every value of a CASE is NULL; CAST(NULL AS type) says of what type"
            )
        null = lit(None).cast(self._values(self.expr(typed)))
        made: Any = None
        for test, value in arms:
            begun = when(test) if made is None else made.when(test)
            made = begun.then(null if constant(value) is NULL else self.expr(value))
        last = NULL if default is None else constant(default)
        found: Expr = made.otherwise(None if last is NULL else self.expr(values[-1]))
        return found

    def _coalesce(self, node: exp.Coalesce) -> Expr:
        values = [n for n in (node.this, *node.expressions) if constant(n) is not NULL]
        if not values:
            raise refused(node, "a coalesce of NULLs")
        *first, last = [self.expr(n) for n in values]
        made = last
        for value in reversed(first):
            made = when(value.is_not_null()).then(value).otherwise(made)
        return made

    def _nullif(self, node: exp.Nullif) -> Expr:
        value = self.expr(node.this)
        null = lit(None).cast(self._values(value))
        same = self._met(_COMPARED["EQ"], node.this, node.expression)
        return when(same).then(null).otherwise(value)

    def _extract(self, node: exp.Extract) -> Expr:
        return self._part(node, str(node.this), node.expression)

    def _year(self, node: exp.Year) -> Expr:
        return self._part(node, "year", node.this)

    def _month(self, node: exp.Month) -> Expr:
        return self._part(node, "month", node.this)

    def _day(self, node: exp.Day) -> Expr:
        return self._part(node, "day", node.this)

    def _part(self, node: exp.Expr, part: str, of: exp.Expr) -> Expr:
        known = _PARTS.get(part.lower())
        if known is None:
            raise refused(node, f"the part {part.lower()} of a time", "year, month, day")
        made: Expr = getattr(self.expr(of).dt, known)()
        return made


def type_named(to: exp.DataType) -> pa.DataType:
    """Give the type that SQL calls so.

    Raises
    ------
    InputError
        If Wherry has none.
    """
    name = to.this.name if hasattr(to.this, "name") else str(to.this)
    if name == "DECIMAL":
        words = [text_of(p) for p in to.expressions]
        digits = [int(word) if word.isdecimal() else -1 for word in words]
        precision, scale = digits if len(digits) == 2 else (digits[0], 0)
        if not 1 <= precision <= 38 or not 0 <= scale <= precision:
            raise InputError(f"SQL: {shown(to)} has more digits than 38, or none")
        return pa.decimal128(precision, scale)
    if name not in TYPES or to.expressions:
        raise InputError(f"SQL: no type {shown(to)}; types: {_TYPE_NAMES}")
    return TYPES[name]


def _liked(operand: Expr, pattern: str, escape: str) -> Expr:
    """Give LIKE as the simplest test that says the same."""
    core = pattern.strip("%")
    if not escape and core and not {"%", "_"} & set(core):
        before = pattern.startswith("%")
        after = pattern.endswith("%")
        text = operand.str
        if before and after:
            return text.contains(core)
        if before or after:
            return text.ends_with(core) if before else text.starts_with(core)
    # A backslash is what Wherry escapes with; in SQL it is a character like others.
    out = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        if c == escape:
            at += 1
            if at == len(pattern):
                raise InputError(f"SQL: the pattern {pattern!r} ends with its escape {escape!r}")
            c = pattern[at]
            out.append(f"\\{c}" if c in "%_\\" else c)
        else:
            out.append("\\\\" if c == "\\" else c)
        at += 1
    return operand.str.like("".join(out))
