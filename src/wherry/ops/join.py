"""join: rows meet the rows of another query that have the same keys; nulls equal nothing.

The other side is small: it is run first, as a query of its own, and its answer (the *build*)
becomes a constant of this query, which goes to the devices where rows are joined. semi and anti are
then predicates, and fuse with the filters around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar, Literal

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError, unknown_name
from wherry.data.types import type_class, value_type
from wherry.ir.build import Build, Known
from wherry.ir.expr import Code, Column, IsNull, Member, Node, Not, all_of
from wherry.ir.expr import Literal as Constant
from wherry.ir.reference import matching_rows
from wherry.ir.resolve import cast_to, castable_always, resolve, type_of
from wherry.ir.stage import Matches, Pass, Step
from wherry.ir.text import to_text
from wherry.ir.types import as_decimal, build_type, common_type, is_coded, type_to_text
from wherry.ops.estimate import Estimate, filtered, selectivity
from wherry.ops.filter import Filter
from wherry.ops.operator import Declared, Operator, all_columns, keep, one_batch, take_rows
from wherry.ops.select import Select, type_bytes

How = Literal["inner", "left", "semi", "anti"]
HOWS: tuple[How, ...] = ("inner", "left", "semi", "anti")


class Join(Struct, frozen=True):
    """Join with the answer of `side`: its first columns are the keys, none of them null.

    Attributes
    ----------
    how : str
        inner: every pair of rows with equal keys; left: also rows without a match, once, with nulls
        beside them; semi: rows that have a match, once; anti: rows that have none.
    keys : tuple of Node
        Resolved, of the types of the side's first columns.
    names : tuple of str
        What the side's other columns are called in the answer.
    build : Build or Known, optional
        The side's answer, or what is expected of it; None until it has run.
    """

    name: ClassVar[str] = "join"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("join",)
    gathers: ClassVar[bool] = False

    how: How
    keys: tuple[Node, ...]
    names: tuple[str, ...]
    side: Declared
    build: Build | Known | None = None

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the columns of `given`, then those of the other side, without its keys."""
        return pa.schema([*given, *(pa.field(name, t) for name, _, t in self._added())])

    def _added(self) -> tuple[tuple[str, int, pa.DataType], ...]:
        fields = list(enumerate(self.side.schema))[len(self.keys) :]
        return tuple((n, at, f.type) for n, (at, f) in zip(self.names, fields, strict=True))

    def _constant(self) -> Constant:
        assert self.build is not None, "the other side has not run"
        return Constant(self.build, build_type(self.side.schema))

    def _coded(self) -> tuple[Node, ...]:
        """Give the keys as programs compare them: texts by their number in the build."""
        build = self._constant()
        return tuple(
            Code(key, build, number) if is_coded(type_of(key)) else key
            for number, key in enumerate(self.keys)
        )

    def _member(self) -> Node:
        return Member(self._coded(), self._constant())

    def near(self, given: pa.Schema) -> tuple[Step, ...]:
        """Join chunk by chunk: the build is wherever the chunks are."""
        if self.how in {"semi", "anti"}:
            member = self._member()
            return (keep(given, member if self.how == "semi" else Not(member)),)
        outer = self.how == "left"
        sink = Matches(self._coded(), self._constant(), outer, all_columns(given), self._added())
        return (Pass(None, sink),)

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: chunks stay apart."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give the share that finds a match, each row about one."""
        member = self._member()
        if self.how in {"semi", "anti"}:
            return filtered(given, member if self.how == "semi" else Not(member))
        width = sum(type_bytes(t) for _, _, t in self._added())
        share = selectivity(member, given)
        outer = self.how == "left"
        # Of a build that has not run nothing bounds the matches of a row.
        most = self.build.known.rows if isinstance(self.build, Build) else inf
        return replace(
            given,
            rows_low=given.rows_low if outer else given.rows_low * share.low,
            rows=given.rows if outer else given.rows * share.guess,
            rows_high=given.rows_high * max(most, outer) if given.rows_high else 0.0,
            row_bytes=given.row_bytes + width,
        )

    def reference(self, rows: pa.Table) -> pa.Table:
        """Look every key up in a Python dict of the build's rows: slow, and plainly right."""
        found = matching_rows(self._coded(), self._constant(), one_batch(rows))
        if self.how in {"semi", "anti"}:
            wanted = self.how == "semi"
            kept = [row for row, matches in enumerate(found) if bool(matches) == wanted]
            return take_rows(rows, pa.array(kept, pa.int64()))
        none: tuple[int | None, ...] = (None,) if self.how == "left" else ()
        pairs = [(row, match) for row, matches in enumerate(found) for match in matches or none]
        left = take_rows(rows, pa.array([row for row, _ in pairs], pa.int64()))
        assert isinstance(self.build, Build)
        names = self.build.batch.schema.names[len(self.keys) :]
        other = pa.Table.from_batches([self.build.batch]).select(names)
        right = take_rows(other, pa.array([match for _, match in pairs], pa.int64()))
        columns = [*left.columns, *right.columns]
        return pa.Table.from_arrays(columns, schema=self.schema(rows.schema))

    def describe(self) -> str:
        """Give kind, keys and the other side as text."""
        keys = ", ".join(map(to_text, self.keys))
        size = "" if self.build is None else f", {self.build}"
        return f"{self.how} join on {keys} with {self.side.source.name}{size}"


def join_of(
    how: str,
    given: pa.Schema,
    other: pa.Schema,
    left: Sequence[Node],
    right: Sequence[Node],
    *,
    suffix: str,
) -> tuple[tuple[Node, ...], tuple[Operator, ...], tuple[str, ...]]:
    """Give a join's keys, the operators that make its other side of `other`, and the new names.

    Parameters
    ----------
    left, right : sequence of Node
        The keys of both sides, in pairs, not resolved.
    suffix : str
        Put behind a name that both sides have.

    Raises
    ------
    InputError
        If the keys of a pair have no type in common, or a name would stand twice.
    """
    if how not in HOWS:
        raise unknown_name("kind of join", how, HOWS)
    pairs = [
        _met(resolve(one, given), resolve(two, other)) for one, two in zip(left, right, strict=True)
    ]
    keyed = {node.name for node in right if isinstance(node, Column)}
    kept = [] if how in {"semi", "anti"} else [n for n in other.names if n not in keyed]
    names = tuple(f"{name}{suffix}" if name in given.names else name for name in kept)
    _check_names(given.names, names, suffix)
    marks = _marks(len(pairs), kept)
    outputs = [(mark, key) for mark, (_, key) in zip(marks, pairs, strict=True)]
    outputs += [(name, resolve(Column(name), other)) for name in kept]
    select = Select(tuple(outputs))
    keys = [Column(mark, type_of(key)) for mark, key in outputs[: len(pairs)]]
    present = Filter(all_of(tuple(Not(IsNull(key)) for key in keys)))
    return tuple(key for key, _ in pairs), (select, present), names


def _marks(count: int, kept: Sequence[str]) -> list[str]:
    """Give names for the keys that no other column of the side has."""
    mark = "key "
    while any(name.startswith(mark) for name in kept):
        mark = f"{mark} "
    return [f"{mark}{number}" for number in range(count)]


def _check_names(given: Sequence[str], added: Sequence[str], suffix: str) -> None:
    names = [*given, *added]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"join: the name {twice[0]!r} would stand twice; give another suffix= than {suffix!r}"
        )


def _met(left: Node, right: Node) -> tuple[Node, Node]:
    """Give both keys in the type in which they are compared, cast only where no value can change.

    Raises
    ------
    InputError
        If there is no such type; both are named.
    """
    one, other = (value_type(type_of(node)) for node in (left, right))
    common = common_type(one, other)
    if (
        common is not None
        and pa.types.is_integer(common)
        and pa.uint64() in {one, other} - {common}
    ):
        common = as_decimal(pa.uint64())
    for node, t in ((left, one), (right, other)):
        if pa.types.is_struct(t):
            raise InputError(
                f"join: {to_text(node)} has type {type_to_text(t)}, which is no key; "
                "use its fields: col(...).struct.field(...)"
            )
    if common is None or not (_exact(one, common) and _exact(other, common)):
        texts = " and ".join(
            f"{to_text(node)} of type {type_to_text(type_of(node))}" for node in (left, right)
        )
        raise InputError(
            f"join: the keys {texts} have no type in common that holds all values of both; "
            "cast one of them with .cast()"
        )
    if is_coded(common):
        return left, right
    return cast_to(left, common), cast_to(right, common)


def _exact(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether every value keeps its meaning: 64-bit integers, say, are not all floats."""
    if source.equals(target):
        return True
    kinds = type_class(source), type_class(target)
    if kinds in {("integer", "float"), ("decimal", "float")}:
        return kinds[0] == "integer" and source.bit_width <= 32 and target.bit_width == 64
    return castable_always(source, target)
