"""Aggregates of SQL as aggregates of pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wherry.data.types import value_type
from wherry.ir.builder import Aggregate, Expr, count, lit, when
from wherry.statements.constants import NONE, constant
from wherry.statements.parse import only, refused, sqlglot
from wherry.statements.scalars import Scalars

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.expressions import Expr as Tree

_CALLS: Final = {
    "Sum": lambda x: x.sum(),
    "Avg": lambda x: x.mean(),
    "Min": lambda x: x.min(),
    "Max": lambda x: x.max(),
    "First": lambda x: x.first(),
    "Last": lambda x: x.last(),
    "Stddev": lambda x: x.std(),
    "StddevSamp": lambda x: x.std(),
    "StddevPop": lambda x: x.std(0),
    "Variance": lambda x: x.var(),
    "VariancePop": lambda x: x.var(0),
}
_POSSIBLE: Final = (
    "count(*), count(x), count(DISTINCT x), sum, avg, min, max, first, last, stddev, stddev_pop, "
    "variance, var_pop, each with FILTER (WHERE ...)"
)


def aggregates_in(node: exp.Expr) -> list[exp.Expr]:
    """Give the aggregates of a tree, the outer ones, each with its FILTER."""
    exp = sqlglot().exp
    found: list[Tree] = []
    left = [node]
    while left:
        part = left.pop()
        if isinstance(part, exp.AggFunc | exp.Filter):
            found.append(part)
        elif isinstance(part, exp.Window):
            raise refused(part, "a window function")
        else:
            left += reversed(list(part.iter_expressions()))
    return found


def aggregate(node: exp.Expr, scalars: Scalars) -> Aggregate:
    """Give one aggregate.

    Raises
    ------
    InputError
        If there is none such, naming it.
    """
    exp = sqlglot().exp
    where = None
    if isinstance(node, exp.Filter):
        only(node, "this", "expression")
        where = scalars.expr(node.expression.this)
        node = node.this
    name = type(node).__name__
    if name == "Count":
        return _count(node, scalars, where)
    if name not in _CALLS:
        raise refused(node, possible=_POSSIBLE)
    only(node, "this")
    if isinstance(node.this, exp.Distinct | exp.Order):
        raise refused(node, possible=_POSSIBLE)
    value = scalars.expr(node.this)
    if where is not None and name in {"First", "Last"}:
        raise refused(node, "FILTER of first and last")
    made: Aggregate = _CALLS[name](_where(value, where, scalars))
    return made


def _count(node: exp.Expr, scalars: Scalars, where: Expr | None) -> Aggregate:
    exp = sqlglot().exp
    only(node, "this", "big_int")
    what = node.this
    if what is None or isinstance(what, exp.Star) or constant(what) is not NONE:
        return count() if where is None else when(where).then(1).otherwise(None).count()
    if isinstance(what, exp.Distinct):
        if len(what.expressions) != 1:
            raise refused(node, "count(DISTINCT) of several values", _POSSIBLE)
        value = scalars.expr(what.expressions[0])
        return _where(value, where, scalars).count_distinct()
    return _where(scalars.expr(what), where, scalars).count()


def _where(value: Expr, where: Expr | None, scalars: Scalars) -> Expr:
    if where is None:
        return value
    null = lit(None).cast(value_type(scalars.type(value)))
    return when(where).then(value).otherwise(null)
