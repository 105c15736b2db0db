"""FROM and JOIN: the tables of a query, joined from left to right.

A condition is used as early as it can be: what only one table is asked for is a filter of that
table, before it is joined. Equalities between two sides are the keys of the join; those of tables
that stand in FROM with commas are looked for in WHERE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, cast

from wherry.base.errors import InputError, unknown_name
from wherry.ir.builder import Expr, col
from wherry.pipeline import Pipeline
from wherry.statements.parse import only, refused, sqlglot
from wherry.statements.scalars import Scalars
from wherry.statements.scope import Relation, Scope, found, names_in

if TYPE_CHECKING:
    from sqlglot import exp

Tables = Mapping[str, Pipeline]
Select = Callable[["exp.Select", Tables], Pipeline]
_JOINS: Final = "[INNER] JOIN, LEFT JOIN, SEMI JOIN, ANTI JOIN, each ON equal keys or USING (...)"
How = Literal["inner", "left", "semi", "anti"]


class Joined:
    """The tables so far: a pipeline, what its columns are called, and what WHERE still asks."""

    def __init__(self, tree: exp.Select, tables: Tables, select: Select) -> None:
        self._exp = sqlglot().exp
        self._tables = tables
        self._select = select
        joins = list(tree.args.get("joins") or ())
        first = tree.args["from_"].this
        named = [self._named(node) for node in (first, *(j.this for j in joins))]
        self._check_names([name for name, _ in named])
        own = [p.schema.names for _, p in named]
        shared = {n for i, names in enumerate(own) for n in names for o in own[:i] if n in o}
        self._sides = [_renamed(name, pipeline, shared) for name, pipeline in named]
        where = tree.args.get("where")
        self.where: list[exp.Expr] = _terms(where.this) if where else []
        self.pipeline, relation = self._sides[0]
        self.scope = Scope((relation,))
        self._hows = ["inner", *(_how(join) for join in joins)]
        self._push()
        self.pipeline = self._sides[0][0]
        self._read = Counter(_last_names(tree))
        waiting = list(zip(joins, self._sides[1:], self._hows[1:], strict=True))
        while waiting:
            at = next((i for i, (j, s, _) in enumerate(waiting) if self._ready(j, s[1])), None)
            if at is None:
                raise refused(waiting[0][0], "a join without equal keys", _JOINS)
            join, side, how = waiting.pop(at)
            self._join(join, side, cast("How", how))
        self.where = [self._bound(term) for term in self.where]

    def _bound(self, term: exp.Expr) -> exp.Expr:
        if isinstance(term, self._exp.In) and term.args.get("query"):
            # The SELECT has a scope of its own.
            query = term.args["query"].copy()
            return self._exp.In(this=self.scope.bound(term.this), query=query)
        return self.scope.bound(term)

    def _named(self, node: exp.Expr) -> tuple[str, Pipeline]:
        alias = node.args.get("alias")
        columns = [c.name for c in alias.columns] if alias else []
        if isinstance(node, self._exp.Table) and isinstance(node.this, self._exp.Identifier):
            only(node, "this", "alias")
            name = found(self._tables, node.this)
            if name is None:
                raise unknown_name("table", node.name, self._tables)
            pipeline = self._tables[name]
        elif isinstance(node, self._exp.Subquery):
            only(node, "this", "alias")
            name = ""
            pipeline = self._select(node.this, self._tables)
        else:
            raise refused(node, "this in FROM", "a table or a SELECT in parentheses")
        return (alias.name if alias and alias.name else name), renamed_columns(pipeline, columns)

    @staticmethod
    def _check_names(names: Sequence[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"SQL: two tables are called {name!r}; use AS")

    def _push(self) -> None:
        """Filter each table by the terms of WHERE that concern it alone, where no null is added."""
        everything = Scope(tuple(relation for _, relation in self._sides))
        left = []
        own: dict[int, list[exp.Expr]] = {}
        for term in self.where:
            if term.find(self._exp.Select) or term.find(self._exp.AggFunc):
                left.append(term)
                continue
            bound = self._bound_in(everything, term)
            names = names_in(bound) if bound is not None else None
            at = self._only_side(names) if names else None
            if at is None or bound is None:
                left.append(term)
                continue
            own.setdefault(at, []).append(bound)
        for at, terms in own.items():
            pipeline, relation = self._sides[at]
            kept = pipeline.filter(*map(Scalars(pipeline.schema).expr, terms))
            self._sides[at] = (kept, relation)
        self.where = left

    @staticmethod
    def _bound_in(scope: Scope, term: exp.Expr) -> exp.Expr | None:
        """Give a term bound if each name means one column; USING and errors are seen later."""
        try:
            return scope.bound(term)
        except InputError:
            return None

    def _only_side(self, names: frozenset[str]) -> int | None:
        for at, ((pipeline, _), how) in enumerate(zip(self._sides, self._hows, strict=True)):
            if how == "inner" and names <= set(pipeline.schema.names):
                return at
        return None

    def _ready(self, join: exp.Join, relation: Relation) -> bool:
        """Tell whether a join has its keys now: one written with a comma may have to wait."""
        if join.args.get("on") or join.args.get("using"):
            return True
        return any(self._key_of(term, relation) for term in self.where)

    def _key_of(self, term: exp.Expr, relation: Relation) -> tuple[exp.Expr, exp.Expr] | None:
        """Give the sides of an equality between the tables so far and one more, both bound."""
        if not isinstance(term, self._exp.EQ):
            return None
        scope = self.scope.also(relation)
        bound = self._bound_in(scope, term)
        if bound is None:
            return None
        here = set(self.pipeline.schema.names)
        there = set(relation.columns.values())
        one, other = bound.this, bound.expression
        reads = names_in(one), names_in(other)
        if all(reads) and reads[0] <= here and reads[1] <= there:
            return one, other
        if all(reads) and reads[0] <= there and reads[1] <= here:
            return other, one
        return None

    def _join(self, join: exp.Join, side: tuple[Pipeline, Relation], how: How) -> None:
        pipeline, relation = side
        using = join.args.get("using") or ()
        terms = _terms(join.args["on"]) if join.args.get("on") else []
        if not terms and not using and how == "inner":
            terms = [t for t in self.where if self._key_of(t, relation)]
            self.where = [t for t in self.where if t not in terms]
        keys = [self._used(name, relation) for name in using]
        rest = []
        for term in terms:
            key = self._key_of(term, relation)
            if key:
                keys.append(key)
                for name in _last_names(term):
                    self._read[name] -= 1
            else:
                rest.append(self.scope.also(relation).bound(term))
        if not keys:
            raise refused(join, "a join without equal keys", _JOINS)
        pipeline, after = self._filtered(pipeline, relation, rest, how)
        left, right = Scalars(self.pipeline.schema), Scalars(pipeline.schema)
        left_on = [left.expr(one) for one, _ in keys]
        right_on: list[Expr] = [right.expr(other) for _, other in keys]
        if how in {"inner", "left"}:
            pipeline, right_on = self._kept_keys(pipeline, right_on, [k for _, k in keys], using)
        columns = dict(relation.columns)
        for name in using:
            mine = found(columns, name)
            assert mine is not None
            columns[mine] = keys[list(using).index(name)][0].name
        self.pipeline = self.pipeline.join(pipeline, left_on=left_on, right_on=right_on, how=how)
        if how in {"inner", "left"}:
            self.scope = self.scope.also(Relation(relation.name, columns))
        if after:
            scalars = Scalars(self.pipeline.schema)
            self.pipeline = self.pipeline.filter(*map(scalars.expr, after))

    def _used(self, name: exp.Identifier, relation: Relation) -> tuple[exp.Expr, exp.Expr]:
        column = self._exp.Column(this=name.copy())
        if found(relation.columns, name) is None:
            raise unknown_name("column", name.name, relation.columns)
        return self.scope.bound(column), Scope((relation,)).bound(column)

    def _filtered(
        self, pipeline: Pipeline, relation: Relation, terms: Sequence[exp.Expr], how: How
    ) -> tuple[Pipeline, list[exp.Expr]]:
        """Filter the other side by what concerns it alone; give what is left for afterwards."""
        there = set(relation.columns.values())
        after = []
        for term in terms:
            if names_in(term) <= there:
                pipeline = pipeline.filter(Scalars(pipeline.schema).expr(term))
            elif how == "inner" or (how == "semi" and not names_in(term) & there):
                after.append(term)
            else:
                raise refused(term, f"a condition of a {how} join that is no equality of keys")
        return pipeline, after

    def _kept_keys(
        self,
        pipeline: Pipeline,
        keys: Sequence[Expr],
        trees: Sequence[exp.Expr],
        using: Sequence[exp.Identifier],
    ) -> tuple[Pipeline, list[Expr]]:
        """Join by copies of the key columns that the query reads besides: joins leave keys out."""
        made: list[Expr] = []
        for number, (key, tree) in enumerate(zip(keys, trees, strict=True)):
            shared = number < len(using)
            if not isinstance(tree, self._exp.Column) or shared or not self._reads(tree.name):
                made.append(key)
                continue
            name = fresh(f"key of {tree.name}", pipeline.schema.names)
            pipeline = pipeline.with_columns(key.alias(name))
            made.append(col(name))
        return pipeline, made

    def _reads(self, column: str) -> bool:
        """Tell whether the query may read a column besides where it is a key, by its last name."""
        last = column.rpartition(".")[2].casefold()
        return self._read["*"] > 0 or self._read[last] > 0


def renamed_columns(pipeline: Pipeline, names: Sequence[str]) -> Pipeline:
    """Give the first columns other names: `AS t(a, b)`."""
    if not names:
        return pipeline
    own = pipeline.schema.names
    if len(names) > len(own):
        raise InputError(f"SQL: {len(names)} names for {len(own)} columns: {', '.join(names)}")
    pairs = zip(own, [*names, *own[len(names) :]], strict=True)
    return pipeline.select(*(col(old).alias(new) for old, new in pairs))


def fresh(name: str, taken: Sequence[str]) -> str:
    """Give a name that is not taken."""
    while name in taken:
        name += "'"
    return name


def _renamed(name: str, pipeline: Pipeline, shared: set[str]) -> tuple[Pipeline, Relation]:
    """Give a table whose columns have names of their own among all tables of a FROM."""
    own = pipeline.schema.names
    inner = {n: f"{name}.{n}" if n in shared else n for n in own}
    if shared & set(own):
        pipeline = pipeline.select(*(col(n).alias(inner[n]) for n in own))
    return pipeline, Relation(name, inner)


def _terms(node: exp.Expr) -> list[exp.Expr]:
    exp = sqlglot().exp
    node = node.unnest()
    if isinstance(node, exp.And):
        return [term for part in node.flatten() for term in _terms(part)]
    return [node]


def _last_names(node: exp.Expr) -> list[str]:
    """Give the parts of all columns that are named, whatever their table; `*` names all."""
    exp = sqlglot().exp
    stars = [n for n in getattr(node, "expressions", ()) if isinstance(n, exp.Star)]
    named = [part.name.casefold() for c in node.find_all(exp.Column) for part in c.parts]
    return [*("*" for _ in stars), *(name or "*" for name in named)]


def _how(join: exp.Join) -> str:
    only(join, "this", "on", "using", "side", "kind")
    side, kind = (str(join.args.get(k) or "").upper() for k in ("side", "kind"))
    if side not in {"", "LEFT"} or kind not in {"", "INNER", "OUTER", "CROSS", "SEMI", "ANTI"}:
        raise refused(join, f"a {(side or kind).lower()} join", _JOINS)
    if kind in {"SEMI", "ANTI"}:
        return kind.lower()
    return "left" if side else "inner"
