"""Which chunks a query needs: statistics and shards exclude those that cannot hold an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.data.chunk import ChunkRef
from wherry.data.sharding import shard_of_value
from wherry.data.source import Source
from wherry.data.statistics import ColumnStatistics
from wherry.ir.build import known as known_build
from wherry.ir.build import may_hold
from wherry.ir.expr import (
    Column,
    Compare,
    IsIn,
    IsNull,
    Literal,
    Logic,
    Member,
    Node,
    all_of,
    columns_of,
    conjuncts,
    walk,
)
from wherry.ir.stage import Matches, Pass, Step
from wherry.ops.estimate import MIRRORED, Estimate, decided, key_column, selectivity


def needed_chunks(source: Source, steps: Sequence[Step]) -> tuple[ChunkRef, ...]:
    """Give the chunks of `source` whose rows may satisfy the first step's predicate.

    Parameters
    ----------
    source : Source
        What is scanned; its statistics are read, its rows are not.
    steps : sequence of Step
        The fused steps; only what the first asks of a row excludes chunks.
    """
    predicate = _asked(steps[0]) if steps else None
    if predicate is None:
        return source.chunks()
    shards = _shards(source, predicate)
    alive: dict[tuple[int, int], bool] = {}
    found = []
    for ref in source.chunks():
        if shards is not None and ref.fragment not in shards:
            continue
        batch = (ref.fragment, ref.batch)
        if batch not in alive:
            alive[batch] = _may_match(predicate, source.statistics(ref).columns)
        if alive[batch]:
            found.append(ref)
    return tuple(found)


def _asked(step: Step) -> Node | None:
    """Give what must hold of a row that a step lets through: its predicate, and an inner join."""
    if not isinstance(step, Pass):
        return None
    terms = () if step.predicate is None else conjuncts(step.predicate)
    match step.sink:
        case Matches(keys, build, False):
            terms += (Member(keys, build),)
    return all_of(terms) if terms else None


def _may_match(node: Node, known: Mapping[str, ColumnStatistics]) -> bool:
    """Tell whether some row within these bounds may satisfy the predicate."""
    match node:
        case Logic(op, operands):
            return (all if op == "and" else any)(_may_match(n, known) for n in operands)
        case Compare(op, Column(name), Literal(value)):
            return decided(op, known.get(name), value) is not False
        case Compare(op, Literal(value), Column(name)):
            return decided(MIRRORED[op], known.get(name), value) is not False
        case IsIn(Column(name), values):
            wanted = (v.value for v in values if isinstance(v, Literal))
            return any(decided("==", known.get(name), v) is not False for v in wanted)
        case IsNull(Column(name)) if name in known:
            return known[name].nulls != 0
        case Member(keys, build):
            columns = [key_column(key) for key in keys]
            chunk = [None if column is None else known.get(column.name) for column in columns]
            held = known_build(build)
            return all(may_hold(held, number, bounds) for number, bounds in enumerate(chunk))
    return True


def _shards(source: Source, predicate: Node) -> frozenset[int] | None:
    """Give the shards that an equality on the shard key leaves, or None if it leaves all."""
    scheme = source.shards
    if scheme is None:
        return None
    for term in conjuncts(predicate):
        match term:
            case Compare("==", Column(name), Literal(value)) if name == scheme.key:
                t = source.schema.field(name).type
                return frozenset({shard_of_value(value, t, scheme)})
    return None


def order_terms(predicate: Node, given: Estimate) -> Node:
    """Give the predicate with its terms ordered: those that leave fewest rows first.

    Terms of the same columns stay together: both ends of a range are tested when its column is
    read, once, and later columns are read of the rows within. Looking up keys of a join costs
    several comparisons, so it comes after them.
    """
    together: dict[tuple[bool, frozenset[str]], list[Node]] = {}
    for term in conjuncts(predicate):
        looks_up = any(isinstance(n, Member) for n in walk(term))
        together.setdefault((looks_up, columns_of(term)), []).append(term)

    def left(terms: Sequence[Node]) -> float:
        return selectivity(all_of(tuple(terms)), given).guess

    ranked = sorted(together.items(), key=lambda pair: (pair[0][0], left(pair[1])))
    terms = [term for _, some in ranked for term in sorted(some, key=lambda one: left([one]))]
    return all_of(tuple(terms))
