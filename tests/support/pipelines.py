"""One random pipeline, twice: as Wherry's and as SQL, with the order SQL must be asked for."""

from collections.abc import Callable

import hypothesis.strategies as st
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace
from support.duals import Draw, Dual, literal
from support.expressions import condition, scalar
from support.tables import ROW
from support.typed import INTEGERS, Known, family, limits, sql_type

from wherry import Pipeline, col, count
from wherry.ir.builder import Aggregate

JOINED = 4
"""Rows of the other side of an inner or left join: a key has no more matches."""
ROWS_MAX = 1024 * JOINED
"""More rows than any generated relation has: sums of integers stay inside 64 bits by it."""


class Relation(Struct, frozen=True):
    """A pipeline with its SQL.

    `order` holds the SQL terms that give the rows' order, or None where Wherry's order (first
    appearance of a group, say) has no equal in SQL and only the multiset of rows is compared.
    """

    pipeline: Pipeline
    sql: str
    columns: dict[str, Known]
    order: tuple[str, ...] | None
    stored: "Relation | None" = None
    """What can still be joined with: the stored rows, once in a pipeline."""

    def ordered_sql(self) -> str:
        """Give the whole statement: every column in Wherry's type, rows in order."""
        names = ", ".join(
            f'CAST("{name}" AS {sql_type(k.type)}) AS "{name}"' for name, k in self.columns.items()
        )
        by = f" ORDER BY {', '.join(self.order)}" if self.order else ""
        return f"SELECT {names} FROM ({self.sql}){by}"


KINDS = (
    *("sum", "mean", "min", "max", "count", "rows"),
    *("first", "last", "distinct", "var", "std"),
)


def drawn_pipeline(draw: Draw, start: Relation) -> Relation:
    """Give a chain of up to five operators over `start`."""
    found = replace(start, stored=start)
    for _ in range(draw(st.integers(1, 5))):
        step = draw(st.sampled_from(STEPS))
        made = step(draw, found)
        if made is not None:
            found = replace(made, stored=None if step is _join else found.stored)
    return found


def _filter(draw: Draw, r: Relation) -> Relation:
    tests = [condition(draw, r.columns, 2) for _ in range(draw(st.integers(1, 2)))]
    sql = f"SELECT * FROM ({r.sql}) WHERE {' AND '.join(t.sql for t in tests)}"
    return replace(r, pipeline=r.pipeline.filter(*(t.expr for t in tests)), sql=sql)


def _select(draw: Draw, r: Relation) -> Relation:
    kept = [n for n in r.columns if n == ROW or draw(st.booleans())] or list(r.columns)[:1]
    made = {f"e{i}": scalar(draw, r.columns, 2) for i in range(draw(st.integers(0, 2)))}
    made = {name: dual for name, dual in made.items() if name not in kept}
    texts = [*(f'"{n}"' for n in kept), *(f'{d.sql} AS "{n}"' for n, d in made.items())]
    columns = {n: r.columns[n] for n in kept} | {n: d.known for n, d in made.items()}
    pipeline = r.pipeline.select(*kept, **{n: d.expr for n, d in made.items()})
    found = _reordered(r, pipeline, f"SELECT {', '.join(texts)} FROM ({r.sql})", columns)
    return _without_stale(found, set(made))


def _with_columns(draw: Draw, r: Relation) -> Relation:
    name = draw(st.sampled_from([n for n in ("w", *r.columns) if n != ROW]))
    made = scalar(draw, r.columns, 2)
    texts = [f'{made.sql} AS "{n}"' if n == name else f'"{n}"' for n in {**r.columns, name: None}]
    pipeline = r.pipeline.with_columns(**{name: made.expr})
    columns = {**r.columns, name: made.known}
    found = _reordered(r, pipeline, f"SELECT {', '.join(texts)} FROM ({r.sql})", columns)
    return _without_stale(found, {name})


def _reordered(r: Relation, pipeline: Pipeline, sql: str, columns: dict[str, Known]) -> Relation:
    """Keep the order only while every column it names is there."""
    named = {term.split('"')[1] for term in r.order or ()}
    order = r.order if r.order is not None and named <= set(columns) else None
    return Relation(pipeline, sql, columns, order)


def _without_stale(r: Relation, made: set[str]) -> Relation:
    """Forget the order if a column it names was computed anew."""
    stale = any(term.split('"')[1] in made for term in r.order or ())
    return replace(r, order=None) if stale else r


def _aggregate(draw: Draw, r: Relation, name: str) -> tuple[Aggregate, str, Known] | None:
    kind = draw(st.sampled_from(KINDS))
    if kind == "rows":
        return count(), "count(*)", Known(pa.int64(), 0, ROWS_MAX)
    inner = scalar(draw, r.columns, 1)
    if kind == "count":
        return inner.expr.count(), f"count({inner.sql})", Known(pa.int64(), 0, ROWS_MAX)
    if kind in {"min", "max"}:
        return _extreme(inner, kind)
    if kind in {"first", "last"}:
        return _end(r, inner, kind)
    if kind == "distinct":
        known = Known(pa.int64(), 0, ROWS_MAX)
        made = inner.expr.count_distinct(), f"count(DISTINCT {inner.sql})", known
        return made if inner.known.exact else None
    if family(inner.type) != "number":
        return None
    if kind in {"var", "std"}:
        return _spread(inner, kind, draw(st.integers(0, 1)))
    return _sum(inner) if kind == "sum" else _mean(inner)


def _end(r: Relation, inner: Dual, kind: str) -> tuple[Aggregate, str, Known] | None:
    """Give the value of the first or last row, if SQL can be told which that is."""
    if not r.order:
        return None
    t = inner.type.value_type if pa.types.is_dictionary(inner.type) else inner.type
    sql = f"{kind}({inner.sql} ORDER BY {', '.join(r.order)})"
    return getattr(inner.expr, kind)(), sql, replace(inner.known, type=t)


def _spread(inner: Dual, kind: str, ddof: int) -> tuple[Aggregate, str, Known] | None:
    """Give a variance or deviation of numbers that DuckDB's recurrence is good enough for."""
    if inner.type not in INTEGERS or max(abs(inner.known.low), abs(inner.known.high)) > 1 << 16:
        return None
    name = {"var": "var", "std": "stddev"}[kind] + ("_samp" if ddof else "_pop")
    sql = f"{name}(CAST({inner.sql} AS DOUBLE))"
    return getattr(inner.expr, kind)(ddof), sql, Known(pa.float64(), exact=False)


def _extreme(inner: Dual, kind: str) -> tuple[Aggregate, str, Known] | None:
    t = inner.type.value_type if pa.types.is_dictionary(inner.type) else inner.type
    known = replace(inner.known, type=t)
    return getattr(inner.expr, kind)(), f"{kind}({inner.sql})", known


def _sum(inner: Dual) -> tuple[Aggregate, str, Known] | None:
    known = inner.known
    if inner.type in INTEGERS:
        t = pa.uint64() if pa.types.is_unsigned_integer(inner.type) else pa.int64()
        low, high = known.low * ROWS_MAX, known.high * ROWS_MAX
        if not limits(t)[0] <= low <= high <= limits(t)[1]:
            return None
        return inner.expr.sum(), f"CAST(sum({inner.sql}) AS {sql_type(t)})", Known(t, low, high)
    if pa.types.is_decimal(inner.type):
        t = pa.decimal128(38, inner.type.scale)
        return inner.expr.sum(), f"CAST(sum({inner.sql}) AS {sql_type(t)})", Known(t)
    sql = f"sum(CAST({inner.sql} AS DOUBLE))"
    return inner.expr.sum(), sql, Known(pa.float64(), exact=False)


def _mean(inner: Dual) -> tuple[Aggregate, str, Known] | None:
    if max(abs(inner.known.low), abs(inner.known.high)) > 1 << 40:
        return None
    sql = f"avg(CAST({inner.sql} AS DOUBLE))"
    return inner.expr.mean(), sql, Known(pa.float64(), exact=False)


def _calls(draw: Draw, r: Relation) -> dict[str, tuple[Aggregate, str, Known]]:
    found = {f"a{i}": _aggregate(draw, r, f"a{i}") for i in range(draw(st.integers(1, 3)))}
    kept = {name: call for name, call in found.items() if call}
    distinct = [name for name, (call, _, _) in kept.items() if call.call.kind == "count_distinct"]
    if distinct:
        apart = {*distinct[1:], *(n for n, (c, _, _) in kept.items() if c.call.kind == "last")}
        kept = {name: call for name, call in kept.items() if name not in apart}
    return kept or {"a0": (count(), "count(*)", Known(pa.int64(), 0, ROWS_MAX))}


def _agg(draw: Draw, r: Relation) -> Relation:
    calls = _calls(draw, r)
    texts = ", ".join(f'{sql} AS "{name}"' for name, (_, sql, _) in calls.items())
    pipeline = r.pipeline.agg(**{name: call for name, (call, _, _) in calls.items()})
    columns = {name: known for name, (_, _, known) in calls.items()}
    return Relation(pipeline, f"SELECT {texts} FROM ({r.sql})", columns, None)


def _group_by(draw: Draw, r: Relation) -> Relation | None:
    keys = {f"k{i}": scalar(draw, r.columns, 1) for i in range(draw(st.integers(1, 2)))}
    if not all(k.known.exact for k in keys.values()):
        return None
    calls = _calls(draw, r)
    texts = [f'{k.sql} AS "{n}"' for n, k in keys.items()]
    texts += [f'{sql} AS "{n}"' for n, (_, sql, _) in calls.items()]
    by = ", ".join(str(i + 1) for i in range(len(keys)))
    grouped = r.pipeline.group_by(**{n: k.expr for n, k in keys.items()})
    pipeline = grouped.agg(**{n: call for n, (call, _, _) in calls.items()})
    columns = {n: k.known for n, k in keys.items()} | {n: k for n, (_, _, k) in calls.items()}
    return Relation(
        pipeline, f"SELECT {', '.join(texts)} FROM ({r.sql}) GROUP BY {by}", columns, None
    )


def _keys(draw: Draw, r: Relation) -> tuple[list[str], list[bool]] | None:
    names = [n for n, k in r.columns.items() if k.exact]
    if not names:
        return None
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    return chosen, [draw(st.booleans()) for _ in chosen]


def _terms(names: list[str], down: list[bool]) -> tuple[str, ...]:
    pairs = zip(names, down, strict=True)
    return tuple(f'"{n}" {"DESC" if d else "ASC"} NULLS LAST' for n, d in pairs)


def _sort(draw: Draw, r: Relation) -> Relation | None:
    keys = _keys(draw, r)
    if keys is None:
        return None
    order = None if r.order is None else _terms(*keys) + r.order
    return replace(r, pipeline=r.pipeline.sort(*keys[0], descending=keys[1]), order=order)


def _top_k(draw: Draw, r: Relation) -> Relation | None:
    keys = _keys(draw, r)
    if keys is None or r.order is None:
        return None
    k, order = draw(st.integers(0, 90)), _terms(*keys) + r.order
    sql = f"SELECT * FROM ({r.sql}) ORDER BY {', '.join(order)} LIMIT {k}"
    pipeline = r.pipeline.top_k(k, by=keys[0], descending=keys[1])
    return Relation(pipeline, sql, r.columns, order)


def _limit(draw: Draw, r: Relation) -> Relation | None:
    if r.order is None:
        return _total_limit(draw, r)
    n = draw(st.integers(0, 300))
    sql = f"SELECT * FROM ({r.sql}) ORDER BY {', '.join(r.order)} LIMIT {n}"
    return replace(r, pipeline=r.pipeline.limit(n), sql=sql)


def _total_limit(draw: Draw, r: Relation) -> Relation | None:
    """Sort by every column first: then rows that tie are equal, and it does not matter which."""
    if not all(k.exact for k in r.columns.values()):
        return None
    names = list(r.columns)
    order, n = _terms(names, [False] * len(names)), draw(st.integers(0, 90))
    sql = f"SELECT * FROM ({r.sql}) ORDER BY {', '.join(order)} LIMIT {n}"
    return Relation(r.pipeline.sort(*names).limit(n), sql, r.columns, order)


def _route_request(draw: Draw, r: Relation) -> Relation | None:
    names = [n for n, k in r.columns.items() if k.exact]
    if not names:
        return None
    name = draw(st.sampled_from(names))
    value, text = literal(draw, r.columns[name].type)
    sql = f'SELECT * FROM ({r.sql}) WHERE "{name}" = {text}'
    return replace(r, pipeline=r.pipeline.route(name, value), sql=sql)


def _route_rows(draw: Draw, r: Relation) -> Relation | None:
    names = [
        n
        for n, k in r.columns.items()
        if k.exact and family(k.type) in {"number", "time"} and not pa.types.is_floating(k.type)
    ]
    if not names or "shard" in r.columns:
        return None
    name = draw(st.sampled_from(names))
    t = r.columns[name].type
    drawn = [literal(draw, t) for _ in range(draw(st.integers(1, 3)))]
    bounds = dict(sorted(dict(drawn).items()))
    cases = " + ".join(f'coalesce(("{name}" >= {text})::INTEGER, 0)' for text in bounds.values())
    order = None if r.order is None else ('"shard" ASC', *r.order)
    pipeline = r.pipeline.route(name, bounds=list(bounds))
    columns = {**r.columns, "shard": Known(pa.int32(), 0, len(bounds))}
    return Relation(pipeline, f"SELECT *, {cases} AS shard FROM ({r.sql})", columns, order)


def _distinct(draw: Draw, r: Relation) -> Relation | None:
    if not all(k.exact for k in r.columns.values()):
        return None
    names = [n for n in r.columns if draw(st.booleans())] or list(r.columns)
    texts = ", ".join(f'"{n}"' for n in names)
    pipeline = r.pipeline.distinct(*names)
    sql = f"SELECT DISTINCT {texts} FROM ({r.sql})"
    return Relation(pipeline, sql, {n: r.columns[n] for n in names}, None)


def _join(draw: Draw, r: Relation) -> Relation | None:
    """Join with some stored rows by one or two columns of equal types; no NaN is generated."""
    if r.stored is None or any(n.startswith("j_") for n in r.columns):
        return None
    pairs = [
        (mine, theirs)
        for mine, k in r.columns.items()
        for theirs, other in r.stored.columns.items()
        if k.exact and k.type == other.type
    ]
    if not pairs:
        return None
    keys = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=2, unique=True))
    how = draw(st.sampled_from(("inner", "left", "semi", "anti")))
    renamed = {f"j_{n}": n for n in r.stored.columns}
    other = r.stored.pipeline.select(**{new: col(n) for new, n in renamed.items()})
    texts = ", ".join(f'"{n}" AS "{new}"' for new, n in renamed.items())
    sql = f"SELECT {texts} FROM ({r.stored.sql})"
    if how in {"inner", "left"}:
        other, sql = other.filter(col(f"j_{ROW}") < JOINED), f'{sql} WHERE "{ROW}" < {JOINED}'
    left, right = [mine for mine, _ in keys], [f"j_{theirs}" for _, theirs in keys]
    on = " AND ".join(f'l."{a}" = o."{b}"' for a, b in zip(left, right, strict=True))
    pipeline = r.pipeline.join(other, left_on=left, right_on=right, how=how)
    if how in {"semi", "anti"}:
        sql = f"SELECT * FROM ({r.sql}) l {how.upper()} JOIN ({sql}) o ON {on}"
        return replace(r, pipeline=pipeline, sql=sql)
    added = {new: r.stored.columns[n] for new, n in renamed.items() if new not in right}
    texts = ", ".join(["l.*", *(f'o."{n}"' for n in added)])
    sql = f"SELECT {texts} FROM ({r.sql}) l {how.upper()} JOIN ({sql}) o ON {on}"
    row = f"j_{ROW}"
    order = None if r.order is None or row not in added else (*r.order, f'"{row}" ASC NULLS LAST')
    return Relation(pipeline, sql, {**r.columns, **added}, order)


STEPS: tuple[Callable[[Draw, Relation], Relation | None], ...] = (
    *(_filter, _filter, _select, _with_columns, _agg, _group_by, _group_by),
    *(_sort, _top_k, _limit, _route_request, _route_rows, _join, _join, _distinct),
)
