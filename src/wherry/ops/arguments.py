"""What people write as the arguments of operators, as operators take it; mistakes are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from wherry.base.errors import InputError, unknown_name
from wherry.data.types import supported_type
from wherry.ir.builder import Aggregate as AggregateCall
from wherry.ir.builder import Expr, Value, to_node
from wherry.ir.expr import Call, Column, Node
from wherry.ir.resolve import resolve, resolve_call, type_of
from wherry.ir.stage import SortKey
from wherry.ir.types import type_to_text
from wherry.ops.operator import unique_names
from wherry.ops.partials import check_calls

Key = str | Expr
"""What rows are joined by: a column's name, or an expression."""


def named_outputs(
    columns: Iterable[object], named: Mapping[str, Value], schema: pa.Schema, where: str
) -> tuple[tuple[str, Node], ...]:
    """Give columns with names: names, expressions that have one, and name=expression.

    Parameters
    ----------
    schema : pa.Schema
        Of the rows that they are made of.
    where : str
        The operator, for errors.

    Raises
    ------
    InputError
        If one has no name, a name stands twice, or a type is none of Wherry's.
    """
    pairs: list[tuple[str, Node]] = []
    for column in columns:
        if isinstance(column, str):
            pairs.append((column, Column(column)))
        elif isinstance(column, Expr) and column.name is not None:
            pairs.append((column.name, column.node))
        elif isinstance(column, Expr):
            raise InputError(f"{where}: {column!r} needs a name: use .alias() or name=expression")
        else:
            raise InputError(
                f"{where} takes names and expressions; got {type(column).__name__} {column!r}"
            )
    pairs += [(name, to_node(value)) for name, value in named.items()]
    unique_names([name for name, _ in pairs], where)
    outputs = tuple((name, resolve(node, schema)) for name, node in pairs)
    for name, node in outputs:
        if not supported_type(type_of(node)):
            seen = type_to_text(type_of(node))
            raise InputError(f"{where}: column {name!r} would have type {seen}, unknown to Wherry")
    return outputs


def named_calls(
    calls: Iterable[object], named: Mapping[str, object], schema: pa.Schema
) -> tuple[tuple[str, Call], ...]:
    """Give aggregates with names, one at least; raises InputError."""
    pairs: list[tuple[str, Call]] = []
    for name, call in [(getattr(c, "name", None), c) for c in calls] + list(named.items()):
        if not isinstance(call, AggregateCall):
            raise InputError(
                f"agg takes aggregates such as col('x').sum() or wherry.count(); got {call!r}"
            )
        if name is None:
            raise InputError(f"agg: {call!r} needs a name: use .alias() or name=aggregate")
        pairs.append((name, resolve_call(call.call, schema)))
    if not pairs:
        raise InputError("agg needs at least one aggregate")
    unique_names([name for name, _ in pairs], "agg")
    check_calls(tuple(pairs))
    return tuple(pairs)


def join_keys(
    on: Key | Iterable[Key] | None,
    left_on: Key | Iterable[Key] | None,
    right_on: Key | Iterable[Key] | None,
) -> tuple[list[Node], list[Node]]:
    """Give the keys of both sides of a join, in pairs; raises InputError."""
    given = tuple(keys is not None for keys in (on, left_on, right_on))
    if given not in {(True, False, False), (False, True, True)}:
        raise InputError("join needs on=, or left_on= and right_on=")
    left, right = (_nodes(keys) for keys in ((on, on) if on is not None else (left_on, right_on)))
    if not left or len(left) != len(right):
        raise InputError(
            f"join: {len(left)} keys here and {len(right)} keys there; one pair at least"
        )
    return left, right


def _nodes(keys: Key | Iterable[Key] | None) -> list[Node]:
    several = [keys] if isinstance(keys, str | Expr) else list(keys or ())
    for key in several:
        if not isinstance(key, str | Expr):
            raise InputError(f"join takes names and expressions; got {type(key).__name__} {key!r}")
    return [Column(key) if isinstance(key, str) else key.node for key in several]


def check_key(name: str, t: pa.DataType, where: str) -> None:
    """Refuse a type whose values are not compared as a whole."""
    if pa.types.is_struct(t):
        raise InputError(
            f"{where}: {name!r} has type {type_to_text(t)}, which is no key; "
            f"use one of its fields: col({name!r}).struct.field(...)"
        )


def sort_keys(
    by: tuple[str, ...], descending: bool | Iterable[bool], schema: pa.Schema, where: str
) -> tuple[SortKey, ...]:
    """Give what rows are ordered by, one at least; raises InputError."""
    if not by:
        raise InputError(f"{where} needs at least one column")
    for name in by:
        if name not in schema.names:
            raise unknown_name("column", name, schema.names)
        check_key(name, schema.field(name).type, where)
    each = [descending] * len(by) if isinstance(descending, bool) else list(descending)
    if len(each) != len(by):
        raise InputError(f"{where}: {len(by)} columns but {len(each)} values of descending")
    return tuple(SortKey(name, d) for name, d in zip(by, each, strict=True))


def row_count(n: int, where: str) -> int:
    """Give a number of rows; raises InputError if it is none."""
    if type(n) is not int or not 0 <= n < 1 << 63:
        raise InputError(f"{where} needs a number of rows, from 0 to 2**63 - 1; got {n!r}")
    return n
