"""One random expression, twice: as Wherry's and as SQL."""

import hypothesis.strategies as st
import pyarrow as pa
from support.duals import Columns, Draw, Dual, column, literal, pick, typed
from support.typed import INTEGERS, Known, family, limits, sql_literal, sql_type

from wherry import Expr, kernel, lit, when

COMPARISONS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
PATTERNS = ("a%", "%b%", "_b_", "%", "", "%_1", "ü%", "line%", "abc")


def scalar(draw: Draw, columns: Columns, depth: int) -> Dual:
    """Give an expression of any type."""
    plain = column(draw(st.sampled_from(list(columns))), columns)
    if depth == 0:
        return plain
    makers = (_arithmetic, _case, _cast, _date_part, _negated, _truth, _applied)
    made = draw(st.sampled_from((*makers, None)))
    return (made(draw, columns, depth) if made else None) or plain


def _truth(draw: Draw, columns: Columns, depth: int) -> Dual:
    return condition(draw, columns, depth)


def _number(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    found = scalar(draw, columns, depth - 1)
    if family(found.type) == "number":
        return found
    return pick(draw, columns, lambda k: family(k.type) == "number")


def _arithmetic(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    left, op = _number(draw, columns, depth), draw(st.sampled_from("+-*/"))
    if left is None:
        return None
    if op == "/":
        return _divided(draw, left)
    right = _number(draw, columns, depth)
    if right is None or draw(st.booleans()):
        value, text = literal(draw, left.type)
        bounds = (value, value) if isinstance(value, int) else (0, 0)
        right = Dual(Expr(_node(value)), text, Known(left.type, *bounds))
    expr = _OPERATORS[op](left.expr, right.expr)
    t = typed(expr, columns)
    if t is None:
        return None
    known = _bounds(op, left.known, right.known, t)
    if known is None:
        return None
    sides = [
        d.sql if not pa.types.is_floating(t) else f"CAST({d.sql} AS DOUBLE)" for d in (left, right)
    ]
    if t in INTEGERS:
        sides = [f"CAST({s} AS {sql_type(t)})" for s in sides]
    return Dual(expr, f"({sides[0]} {op} {sides[1]})", known)


_OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def _node(value: object) -> object:
    return lit(value).node


def _bounds(op: str, left: Known, right: Known, t: pa.DataType) -> Known | None:
    """Give what is known of a result, or None if integers could overflow."""
    exact = left.exact and right.exact
    if t in INTEGERS:
        ends = [
            _OPERATORS[op](a, b) for a in (left.low, left.high) for b in (right.low, right.high)
        ]
        low, high = limits(t)
        inside = all(low <= v <= high for v in (*ends, left.low, left.high, right.low, right.high))
        return Known(t, min(ends), max(ends), exact) if inside else None
    if pa.types.is_decimal(t):
        sides = [k for k in (left, right) if k.type in INTEGERS]
        narrow = t.precision < 38 or all(abs(v) < 10**6 for k in sides for v in (k.low, k.high))
        return Known(t, exact=exact) if narrow else None
    mixed = pa.types.is_decimal(left.type) or pa.types.is_decimal(right.type)
    return Known(t, exact=exact and not mixed)


def _divided(draw: Draw, left: Dual) -> Dual:
    by = draw(st.sampled_from((2, 3.0, -7)))
    exact = left.known.exact and not pa.types.is_decimal(left.type) and left.known.high < 1 << 53
    sql = f"(CAST({left.sql} AS DOUBLE) / CAST({by} AS DOUBLE))"
    return Dual(
        left.expr / by, sql, Known(pa.float64(), exact=exact and left.known.low > -(1 << 53))
    )


def _negated(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    inner = _number(draw, columns, depth)
    if inner is None or typed(-inner.expr, columns) is None:
        return None
    k = inner.known
    if inner.type in INTEGERS and not limits(inner.type)[0] <= -k.low <= limits(inner.type)[1]:
        return None
    return Dual(-inner.expr, f"(-{inner.sql})", Known(k.type, -k.high, -k.low, k.exact))


@kernel
def tilted(x: float, by: int) -> float:
    """Give x, halved above 2."""
    if x > 2:
        return x * 0.5 + by
    return x + by


def _applied(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    inner = _number(draw, columns, depth)
    if inner is None or not inner.known.exact or max(-inner.known.low, inner.known.high) >= 1 << 53:
        return None
    by = draw(st.integers(-3, 3))
    x = f"CAST({inner.sql} AS DOUBLE)"
    sql = f"CASE WHEN {x} > 2 THEN {x} * 0.5 + ({by}) ELSE {x} + ({by}) END"
    decimals = pa.types.is_decimal(inner.type)
    return Dual(tilted(inner.expr, by), f"({sql})", Known(pa.float64(), exact=not decimals))


def _case(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    test, first = condition(draw, columns, depth - 1), scalar(draw, columns, depth - 1)
    known = first.known
    if family(first.type) == "bool" or draw(st.booleans()):
        expr, sql = when(test.expr).then(first.expr).otherwise(None), "NULL"
    else:
        value, sql = literal(draw, first.type)
        expr = when(test.expr).then(first.expr).otherwise(value)
        if isinstance(value, int):
            known = Known(known.type, min(known.low, value), max(known.high, value), known.exact)
    t = typed(expr, columns)
    if t is None:
        return None
    text = f"CAST(CASE WHEN {test.sql} THEN {first.sql} ELSE {sql} END AS {sql_type(t)})"
    return Dual(expr, text, Known(t, known.low, known.high, known.exact))


def _cast(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    inner = scalar(draw, columns, depth - 1)
    k, t = inner.known, inner.type
    targets: list[pa.DataType] = []
    if t in INTEGERS:
        fits = [u for u in INTEGERS if limits(u)[0] <= k.low and k.high <= limits(u)[1]]
        targets = [*fits, *((pa.float64(), pa.decimal128(24, 3)) if abs(k.high) < 1 << 40 else ())]
    elif pa.types.is_decimal(t):
        targets = [pa.decimal128(38, t.scale)]
    elif family(t) == "text":
        targets = [pa.utf8(), pa.large_utf8(), pa.string_view()]
    elif family(t) == "time":
        finer = ("us", "ns") if pa.types.is_date(t) else ("ns",)
        targets = [pa.date32(), *(pa.timestamp(unit) for unit in finer)]
    elif family(t) == "bool":
        targets = [pa.int8(), pa.int64()]
    if not targets:
        return None
    to = draw(st.sampled_from(targets))
    high = max(k.high, 1) if family(t) == "bool" else k.high
    return Dual(
        inner.expr.cast(to),
        f"CAST({inner.sql} AS {sql_type(to)})",
        Known(to, k.low, high, k.exact),
    )


def _date_part(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    inner = pick(draw, columns, lambda k: family(k.type) == "time")
    if inner is None:
        return None
    part = draw(st.sampled_from(("year", "month", "day")))
    return Dual(getattr(inner.expr.dt, part)(), f"{part}({inner.sql})", Known(pa.int64(), 1, 9999))


def condition(draw: Draw, columns: Columns, depth: int) -> Dual:
    """Give an expression that is true, false or null."""
    makers = [_compared, _compared, _member, _between, _null_test, _matched, _flag]
    if depth > 0:
        makers += [_logic, _inverted]
    for maker in draw(st.permutations(makers)):
        found = maker(draw, columns, depth)
        if found is not None:
            return found
    raise AssertionError("a null test fits every column")


def _exact_operand(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    found = scalar(draw, columns, max(0, depth - 1))
    return found if found.known.exact else pick(draw, columns, lambda k: k.exact)


def _truths(expr: Expr, sql: str) -> Dual:
    return Dual(expr, f"({sql})", Known(pa.bool_()))


def _compared(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    left, op = _exact_operand(draw, columns, depth), draw(st.sampled_from(list(COMPARISONS)))
    if left is None:
        return None
    if draw(st.booleans()):
        value, sql = literal(draw, left.type)
        return _truths(_compare(op, left.expr, value), f"{left.sql} {COMPARISONS[op]} {sql}")
    right = pick(draw, columns, lambda k: k.exact and _may_meet(left.known, k))
    if right is None:
        return None
    expr = _compare(op, left.expr, right.expr)
    if typed(expr, columns) is None:
        return None
    sides = [left.sql, right.sql]
    if family(left.type) == "time":
        sides = [f"CAST({s} AS TIMESTAMP_NS)" for s in sides]
    return _truths(expr, f"{sides[0]} {COMPARISONS[op]} {sides[1]}")


def _may_meet(one: Known, other: Known) -> bool:
    """Leave out what rounds on its way to a common type, and unsigned values no int64 holds."""
    if family(one.type) != family(other.type):
        return False
    if family(one.type) != "number" or one.type == other.type:
        return True
    kinds = {"f" if pa.types.is_floating(k.type) else str(k.type)[:3] for k in (one, other)}
    if "f" in kinds:
        return False
    return all(abs(v) < 1 << 63 for k in (one, other) for v in (k.low, k.high))


def _compare(op: str, left: Expr, right: object) -> Expr:
    return {
        "==": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
    }[op]()


def _member(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    left = _exact_operand(draw, columns, depth)
    if left is None:
        return None
    drawn = [literal(draw, left.type) for _ in range(draw(st.integers(1, 3)))]
    texts = ", ".join(text for _, text in drawn)
    return _truths(left.expr.is_in([value for value, _ in drawn]), f"{left.sql} IN ({texts})")


def _between(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    left = _exact_operand(draw, columns, depth)
    if left is None:
        return None
    (low, one), (high, other) = literal(draw, left.type), literal(draw, left.type)
    return _truths(left.expr.is_between(low, high), f"{left.sql} BETWEEN {one} AND {other}")


def _null_test(draw: Draw, columns: Columns, depth: int) -> Dual:
    inner = scalar(draw, columns, 0)
    if draw(st.booleans()):
        return _truths(inner.expr.is_null(), f"{inner.sql} IS NULL")
    return _truths(inner.expr.is_not_null(), f"{inner.sql} IS NOT NULL")


def _matched(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    text = pick(draw, columns, lambda k: family(k.type) == "text")
    if text is None:
        return None
    kind = draw(st.sampled_from(("starts_with", "ends_with", "contains", "like")))
    pattern = draw(st.sampled_from(PATTERNS if kind == "like" else ("", "a", "b", "ab", "ü", "%")))
    quoted = sql_literal(pattern, pa.utf8())
    sql = f"{text.sql} LIKE {quoted}" if kind == "like" else f"{kind}({text.sql}, {quoted})"
    return _truths(getattr(text.expr.str, kind)(pattern), sql)


def _flag(draw: Draw, columns: Columns, depth: int) -> Dual | None:
    return pick(draw, columns, lambda k: family(k.type) == "bool")


def _logic(draw: Draw, columns: Columns, depth: int) -> Dual:
    one, other = (condition(draw, columns, depth - 1) for _ in range(2))
    if draw(st.booleans()):
        return _truths(one.expr & other.expr, f"{one.sql} AND {other.sql}")
    return _truths(one.expr | other.expr, f"{one.sql} OR {other.sql}")


def _inverted(draw: Draw, columns: Columns, depth: int) -> Dual:
    inner = condition(draw, columns, depth - 1)
    return _truths(~inner.expr, f"NOT {inner.sql}")
