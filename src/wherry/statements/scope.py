"""Which column a name in a query means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from wherry.base.errors import InputError, unknown_name
from wherry.statements.parse import refused, shown, sqlglot

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.expressions import Expr as Tree


def found(names: Iterable[str], name: exp.Identifier) -> str | None:
    """Give the name that an identifier means: as written, else without case if it has no quotes.

    Raises
    ------
    InputError
        If several names differ from it by case only.
    """
    names = list(names)
    if name.name in names:
        return name.name
    if name.args.get("quoted"):
        return None
    near = [n for n in names if n.casefold() == name.name.casefold()]
    if len(near) > 1:
        raise InputError(f"{name.name!r} may be {' or '.join(map(repr, near))}; write it in quotes")
    return near[0] if near else None


class Relation(Struct, frozen=True):
    """A table in FROM: what it is called, and its columns by the names that queries use.

    `columns` maps them to those of the pipeline, which differ where two tables share a name.
    """

    name: str
    columns: dict[str, str]


class Scope(Struct, frozen=True):
    """The tables of a FROM, in order."""

    relations: tuple[Relation, ...]

    def also(self, relation: Relation) -> Scope:
        """Give the scope with one more table."""
        return Scope((*self.relations, relation))

    def relation(self, name: exp.Identifier) -> Relation | None:
        """Give the table of a name."""
        wanted = found([r.name for r in self.relations], name)
        return next((r for r in self.relations if r.name == wanted), None)

    def columns(self) -> list[tuple[str, str]]:
        """Give what `*` means: names, and the pipeline's names; a column that is shared once."""
        pairs = [pair for r in self.relations for pair in r.columns.items()]
        seen: dict[str, tuple[str, str]] = {}
        for name, inner in pairs:
            seen.setdefault(inner, (name, inner))
        return list(seen.values())

    def bound(self, node: exp.Expr) -> exp.Expr:
        """Give a tree in which every column has the pipeline's name, in quotes, and no table."""
        exp = sqlglot().exp
        inner = node.find(exp.Query)
        if inner is not None:
            raise refused(inner, "a SELECT within an expression", "x IN (SELECT ...), joins, WITH")

        def change(part: Tree) -> Tree:
            return self._bound(part) if isinstance(part, exp.Column) else part

        return node.transform(change)

    def _bound(self, column: exp.Column) -> exp.Expr:
        parts: Any = column.parts
        if isinstance(column.this, sqlglot().exp.Star):
            raise refused(column)
        inner = None
        if len(parts) > 1:
            relation = self.relation(parts[0])
            if relation is not None:
                inner = self._inside((relation,), parts[1], column)
                return _field(inner, parts[2:])
        inner = self._inside(self.relations, parts[0], column)
        return _field(inner, parts[1:])

    def _inside(
        self, relations: Sequence[Relation], name: exp.Identifier, column: exp.Column
    ) -> str:
        places = [(r, n) for r in relations if (n := found(r.columns, name)) is not None]
        inners = {r.columns[n] for r, n in places}
        if len(inners) > 1:
            owners = " or ".join(f"{r.name}.{n}" for r, n in places)
            raise InputError(f"column {name.name!r} may be {owners}; write which")
        if not inners:
            if len(column.parts) > 1 and name is column.parts[0]:
                known = [r.name for r in self.relations]
                raise unknown_name("table", name.name, known)
            known = list(dict.fromkeys(n for r in relations for n in r.columns))
            raise unknown_name("column", name.name, known)
        return inners.pop()


def _field(column: str, fields: Sequence[exp.Identifier]) -> exp.Expr:
    exp = sqlglot().exp
    made: Tree = exp.column(exp.to_identifier(column, quoted=True))
    for field in fields:
        made = exp.Dot(this=made, expression=exp.to_identifier(field.name, quoted=True))
    return made


def names_in(node: exp.Expr) -> frozenset[str]:
    """Give the pipeline's columns that a bound tree reads."""
    return frozenset(c.name for c in node.find_all(sqlglot().exp.Column))


def output_name(node: exp.Expr) -> str:
    """Give what a column of the answer is called that has no AS."""
    exp = sqlglot().exp
    return node.name if isinstance(node, exp.Column | exp.Dot) else shown(node)
