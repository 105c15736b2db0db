"""Expressions as a person would write them; the same text in plans, errors and golden files."""

from __future__ import annotations

from datetime import date, datetime, time

from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Call,
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
)


def to_text(node: Node) -> str:
    """Give the expression as one line of text; inner operators stand in parentheses."""
    match node:
        case Column(name):
            return name
        case Code(operand):
            return to_text(operand)
        case Literal(value):
            return literal_text(value)
        case Parameter(index):
            return f"${index}"
        case Cast(operand, t):
            return f"cast({to_text(operand)} as {t})"
        case Arithmetic(op, left, right) | Compare(op, left, right):
            return f"{_inner(left)} {op} {_inner(right)}"
        case Negate(operand):
            return f"-{_inner(operand)}"
        case Logic(op, operands):
            return f" {op} ".join(_inner(n) for n in operands)
        case Not(operand):
            return f"not {_inner(operand)}"
    return _call_text(node)


def _call_text(node: Node) -> str:
    match node:
        case IsNull(operand):
            return f"{_inner(operand)} is null"
        case IsIn(operand, values):
            return f"{_inner(operand)} in ({', '.join(map(to_text, values))})"
        case When(cases, otherwise):
            arms = " ".join(f"when {to_text(c)} then {to_text(v)}" for c, v in cases)
            return f"case {arms} else {to_text(otherwise)} end"
        case Match(kind, operand, pattern):
            return f"{kind}({to_text(operand)}, {to_text(pattern)})"
        case DatePart(part, operand):
            return f"{part}({to_text(operand)})"
        case Field(operand, name):
            return f"{_inner(operand)}.{name}"
        case Apply(name, _, _, arguments):
            return f"{name}({', '.join(map(to_text, arguments))})"
        case Shard(operand, by, count):
            return f"{by}_shard({to_text(operand)}, {count})"
        case Member(keys, build):
            several = ", ".join(map(to_text, keys))
            return f"{several if len(keys) == 1 else f'({several})'} in {to_text(build)}"
    raise TypeError(f"not an expression: {type(node).__name__}")


def call_text(call: Call) -> str:
    """Give an aggregate as text."""
    return f"{call.kind}({'' if call.argument is None else to_text(call.argument)})"


def literal_text(value: object) -> str:
    """Give a constant as it would stand in SQL."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def _inner(node: Node) -> str:
    text = to_text(node)
    nested = isinstance(node, Arithmetic | Compare | Logic | Not | IsIn | IsNull | Member)
    return f"({text})" if nested else text
