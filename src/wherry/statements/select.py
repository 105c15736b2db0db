"""The clauses of a SELECT as operators, in the order in which SQL means them.

    FROM, JOIN -> scan, join      WHERE -> filter, semi join     GROUP BY -> group_by, agg
    HAVING -> filter              SELECT -> select               DISTINCT -> distinct
    ORDER BY -> sort, top_k       LIMIT -> limit

Without ORDER BY rows come in stored order; nulls come last unless NULLS FIRST is written.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError, listed, unknown_name
from wherry.ir.builder import col, when
from wherry.pipeline import Pipeline, scan
from wherry.statements.aggregates import aggregate, aggregates_in
from wherry.statements.constants import constant
from wherry.statements.parse import CLAUSES, only, parsed, refused, shown, sqlglot, text_of
from wherry.statements.scalars import Scalars
from wherry.statements.scope import Scope, found, output_name
from wherry.statements.tables import Joined, Tables, fresh, renamed_columns

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.expressions import Expr as Tree

_INT8: Final = pa.int8()


def sql(text: str, tables: Mapping[str, object] | None = None, /, **named: object) -> Pipeline:
    """Give a SELECT as a pipeline; nothing runs until it is asked to.

    >>> import pyarrow as pa
    >>> import wherry as wh
    >>> sales = pa.table({"shop": [1, 2, 1], "price": [10.0, 20.0, 30.0]})
    >>> wh.sql("SELECT shop, sum(price) AS t FROM s GROUP BY shop", s=sales).collect().to_pydict()
    {'shop': [1, 2], 't': [40.0, 20.0]}

    Parameters
    ----------
    text : str
        One SELECT; names without quotes are found in any case.
    tables : mapping of str to Pipeline, or whatever `scan` takes
        The tables of FROM, by name; those named in the call are added.

    Raises
    ------
    InputError
        If the text is no SELECT, or asks for what pipelines do not do, naming it.
    """
    tree = parsed(text)
    try:
        return _selected(tree, _Scanned(named, tables or {}))
    except RecursionError:
        raise InputError("the query is nested too deeply") from None
    except sqlglot().errors.SqlglotError as problem:
        # It reads some queries that it cannot write again.
        raise InputError(f"the query is not SQL: {problem}") from None


class _Scanned(Mapping[str, Pipeline]):
    """The tables of a query, each scanned when it is named: others need not even be opened."""

    def __init__(self, *tables: Mapping[str, object]) -> None:
        self._tables = tables

    def __getitem__(self, name: str) -> Pipeline:
        data = next(each[name] for each in self._tables if name in each)
        return data if isinstance(data, Pipeline) else scan(data)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for each in self._tables for name in each))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Output(Struct):
    """A column of the answer, before it is computed."""

    name: str
    tree: exp.Expr


class _Key(Struct):
    """What rows are ordered by: a column of the answer, or a tree beside it."""

    output: str
    tree: exp.Expr | None
    descending: bool
    nulls_first: bool


def _selected(tree: exp.Expr, tables: Tables) -> Pipeline:
    exp = sqlglot().exp
    if not isinstance(tree, exp.Select):
        raise refused(tree, possible=CLAUSES)
    only(tree, "expressions", "from_", "joins", "where", "group", "having", "order", "limit",
         "distinct", "with_")  # fmt: skip
    if not tree.args.get("from_"):
        raise InputError("SQL: a SELECT needs FROM, and a table")
    tables = _with(tree, tables)
    joined = Joined(tree, tables, _selected)
    pipeline = _where(joined, tables)
    outputs = _outputs(tree.expressions, joined.scope)
    having = tree.args.get("having")
    kept = [_bound(having.this, joined.scope, outputs)] if having else []
    order = _order(tree.args.get("order"), joined.scope, outputs)
    trees = [*(o.tree for o in outputs), *kept, *(k.tree for k in order if k.tree is not None)]
    aggregated = [a for t in trees for a in aggregates_in(t)]
    if tree.args.get("group") or aggregated or kept:
        keys = _group_keys(tree.args.get("group"), joined.scope, outputs)
        pipeline, names = _grouped(pipeline, keys, aggregated, outputs)
        groups = _Groups(names, (*keys, *aggregated))
        outputs = [_Output(o.name, groups.replaced(o.tree)) for o in outputs]
        kept = [groups.replaced(t) for t in kept]
        for key in order:
            key.tree = key.tree and groups.replaced(key.tree)
        if kept:
            pipeline = pipeline.filter(*map(Scalars(pipeline.schema).expr, kept))
    return _ordered(tree, pipeline, outputs, order)


def _with(tree: exp.Select, tables: Tables) -> Tables:
    """Give the tables with those that WITH names, each of which may use the ones before."""
    clause = tree.args.get("with_")
    if not clause:
        return tables
    only(clause, "expressions")
    made: dict[str, Pipeline] = {}
    tables = ChainMap(made, tables)  # type: ignore[arg-type]
    for part in clause.expressions:
        only(part, "this", "alias", "materialized")
        names = [c.name for c in part.args["alias"].columns]
        made[part.alias] = renamed_columns(_selected(part.this, tables), names)
    return tables


def _where(joined: Joined, tables: Tables) -> Pipeline:
    exp = sqlglot().exp
    pipeline = joined.pipeline
    terms = []
    for term in joined.where:
        if aggregates_in(term):
            raise refused(term, "an aggregate in WHERE", "HAVING")
        if isinstance(term, exp.In) and term.args.get("query"):
            only(term, "this", "query")
            side = _selected(term.args["query"].unnest(), tables)
            if len(side.schema.names) != 1:
                raise refused(term, "IN (SELECT ...) of several columns")
            key = Scalars(pipeline.schema).expr(term.this)
            pipeline = pipeline.join(
                side, left_on=key, right_on=col(side.schema.names[0]), how="semi"
            )
        else:
            terms.append(Scalars(pipeline.schema).expr(term))
    return pipeline.filter(*terms) if terms else pipeline


def _outputs(nodes: Sequence[exp.Expr], scope: Scope) -> list[_Output]:
    exp = sqlglot().exp
    outputs = []
    for node in nodes:
        starred = node.this if isinstance(node, exp.Column) else node
        if isinstance(starred, exp.Star):
            only(starred)
            outputs += _starred(node, scope)
            continue
        alias = node.alias if isinstance(node, exp.Alias) else ""
        tree = scope.bound(node.unalias())
        # A column without AS is called what the table calls it, not what the query does.
        own = {inner: name for name, inner in scope.columns()}
        name = own.get(tree.name) if isinstance(tree, exp.Column) else None
        outputs.append(_Output(alias or name or output_name(node), tree))
    names = [o.name for o in outputs]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise InputError(f"SQL: two columns of the answer are called {twice!r}; use AS")
    return outputs


def _starred(node: exp.Expr, scope: Scope) -> list[_Output]:
    exp = sqlglot().exp
    pairs = scope.columns()
    if isinstance(node, exp.Column):
        relation = scope.relation(node.args["table"])
        if relation is None:
            raise unknown_name("table", node.table, [r.name for r in scope.relations])
        pairs = list(relation.columns.items())
    return [_Output(n, exp.column(exp.to_identifier(i, quoted=True))) for n, i in pairs]


def _bound(node: exp.Expr, scope: Scope, outputs: Sequence[_Output]) -> exp.Expr:
    """Bind a tree in which columns of the tables come first, and then columns of the answer."""
    exp = sqlglot().exp
    own = [name for r in scope.relations for name in r.columns]

    def change(part: Tree) -> Tree:
        if isinstance(part, exp.Column) and len(part.parts) == 1 and not found(own, part.this):
            name = found([o.name for o in outputs], part.this)
            if name is not None:
                return exp.Paren(this=next(o.tree for o in outputs if o.name == name).copy())
        return scope.bound(part) if isinstance(part, exp.Column) else part

    return node.transform(change)


def _group_keys(
    group: exp.Group | None, scope: Scope, outputs: Sequence[_Output]
) -> list[exp.Expr]:
    if group is None:
        return []
    only(group, "expressions", "all")
    if group.args.get("all"):
        return [o.tree for o in outputs if not aggregates_in(o.tree)]
    keys = []
    for node in group.expressions:
        place = constant(node)
        if type(place) is int:
            keys.append(_place(place, outputs, node).tree)
        else:
            keys.append(_bound(node, scope, outputs).unnest())
    for key in keys:
        if aggregates_in(key):
            raise refused(key, "an aggregate in GROUP BY")
    return keys


def _place(place: int, outputs: Sequence[_Output], node: exp.Expr) -> _Output:
    if not 1 <= place <= len(outputs):
        raise refused(node, f"column {place} of {len(outputs)}")
    return outputs[place - 1]


def _grouped(
    pipeline: Pipeline,
    keys: Sequence[exp.Expr],
    aggregated: Sequence[exp.Expr],
    outputs: Sequence[_Output],
) -> tuple[Pipeline, dict[str, str]]:
    """Group and aggregate; give also which column each key and aggregate became, by its SQL."""
    exp = sqlglot().exp
    scalars = Scalars(pipeline.schema)
    wanted = {text_of(o.tree): o.name for o in reversed(outputs)}
    names: dict[str, str] = {}
    for tree in (*keys, *aggregated):
        text = text_of(tree)
        if text not in names:
            own = tree.name if isinstance(tree, exp.Column) else wanted.get(text, shown(tree))
            names[text] = fresh(own, list(names.values()))
    by_text = {text_of(tree): tree for tree in keys}
    made = [scalars.expr(tree).alias(names[text]) for text, tree in by_text.items()]
    calls = {text_of(tree): tree for tree in aggregated}
    called = [aggregate(tree, scalars).alias(names[text]) for text, tree in calls.items()]
    if not called:
        return pipeline.select(*made).distinct(), names
    return (pipeline.group_by(*made).agg(*called) if made else pipeline.agg(*called)), names


class _Groups:
    """What is in reach over groups: keys and aggregates, which are columns now.

    A part of a tree is written out, to be compared with them, only if it is a node of the same
    kind over as many nodes: writing out everything would take time by the square of the tree.
    """

    def __init__(self, names: Mapping[str, str], trees: Sequence[exp.Expr]) -> None:
        self._names = names
        self._alike = {(type(tree), _sizes(tree)[id(tree)]) for tree in trees}

    def replaced(self, tree: exp.Expr) -> exp.Expr:
        """Give a tree in which keys and aggregates are columns; others are refused."""
        exp = sqlglot().exp
        tree = tree.copy()
        sizes = _sizes(tree)

        def change(part: Tree) -> Tree:
            if (type(part), sizes.get(id(part))) in self._alike:
                name = self._names.get(text_of(part))
                if name is not None:
                    made: Tree = exp.column(exp.to_identifier(name, quoted=True))
                    return made
            if isinstance(part, exp.Column):
                raise InputError(
                    f"SQL: column {part.name!r} must stand in GROUP BY or in an aggregate; GROUP "
                    f"BY has {listed(list(self._names.values())) or 'nothing'}"
                )
            return part

        return tree.transform(change, copy=False)


def _sizes(tree: exp.Expr) -> dict[int, int]:
    """Give how many nodes stand under each node of a tree, itself included, by its id."""
    sizes: dict[int, int] = {}
    for node in reversed(list(tree.walk())):
        sizes[id(node)] = 1 + sum(sizes[id(child)] for child in node.iter_expressions())
    return sizes


def _order(order: exp.Order | None, scope: Scope, outputs: Sequence[_Output]) -> list[_Key]:
    if order is None:
        return []
    exp = sqlglot().exp
    only(order, "expressions")
    by_text = {text_of(o.tree): o.name for o in reversed(outputs)}
    keys = []
    for node in order.expressions:
        only(node, "this", "desc", "nulls_first")
        desc, first = bool(node.args.get("desc")), bool(node.args.get("nulls_first"))
        place, tree = constant(node.this), None
        name: str | None = None
        if type(place) is int:
            name = _place(place, outputs, node).name
        elif isinstance(node.this, exp.Column) and len(node.this.parts) == 1:
            name = found([o.name for o in outputs], node.this.this)
        if name is None:
            tree = _bound(node.this, scope, outputs).unnest()
            name = by_text.get(text_of(tree), "")
        keys.append(_Key(name, None if name else tree, desc, first))
    return keys


def _ordered(
    tree: exp.Select, pipeline: Pipeline, outputs: Sequence[_Output], order: Sequence[_Key]
) -> Pipeline:
    """Compute the columns of the answer, and those that only order it; order, and cut."""
    exp = sqlglot().exp
    distinct = tree.args.get("distinct")
    names = [o.name for o in outputs]
    scalars = Scalars(pipeline.schema)
    hidden = [(fresh(f"order {n}", names), k.tree) for n, k in enumerate(order) if k.tree]
    if distinct and hidden:
        raise refused(hidden[0][1], "ORDER BY what SELECT DISTINCT does not select")
    made = [scalars.expr(o.tree).alias(o.name) for o in outputs]
    made += [scalars.expr(t).alias(name) for name, t in hidden]
    same = [o.tree.name for o in outputs if isinstance(o.tree, exp.Column)] == names
    if hidden or not same or names != pipeline.schema.names:
        pipeline = pipeline.select(*made)
    if distinct:
        only(distinct)
        pipeline = pipeline.distinct()
    limit = _limit(tree.args.get("limit"))
    if order:
        added = iter(hidden)
        by = [(k.output or next(added)[0], k) for k in order]
        pipeline = _sorted(pipeline, by, limit)
    elif limit is not None:
        pipeline = pipeline.limit(limit)
    return pipeline if pipeline.schema.names == names else pipeline.select(*names)


def _sorted(pipeline: Pipeline, by: Sequence[tuple[str, _Key]], limit: int | None) -> Pipeline:
    columns: list[str] = []
    descending: list[bool] = []
    for name, key in by:
        if name in columns:
            continue
        if key.nulls_first:
            flag = fresh(f"null {name}", pipeline.schema.names)
            null = when(col(name).is_null()).then(0).otherwise(1).cast(_INT8)
            pipeline = pipeline.with_columns(null.alias(flag))
            columns.append(flag)
            descending.append(False)
        columns.append(name)
        descending.append(key.descending)
    if limit is None:
        return pipeline.sort(*columns, descending=descending)
    return pipeline.top_k(limit, by=columns, descending=descending)


def _limit(limit: exp.Expr | None) -> int | None:
    if limit is None:
        return None
    exp = sqlglot().exp
    count = limit.args.get("count") if isinstance(limit, exp.Fetch) else limit.expression
    options = limit.args.get("limit_options")
    if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
        raise refused(limit, possible="LIMIT and a number of rows")
    value = constant(count) if count is not None else 1
    if type(value) is not int or value < 0:
        raise refused(limit, "LIMIT by anything but a number of rows", "LIMIT and a number")
    return value
