"""Make few steps of many: neighbouring passes become one, and columns nobody reads are dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wherry.ir.expr import (
    Arithmetic,
    Call,
    Cast,
    Column,
    Node,
    all_of,
    columns_of,
    conjuncts,
    transform,
    walk,
)
from wherry.ir.resolve import castable_always, type_of
from wherry.ir.stage import Groups, Matches, Order, Pass, Rows, Sink, Step, Totals, expressions
from wherry.ir.types import DECIMAL_DIGITS


def fuse(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Give the same meaning in fewer steps.

    A pass that only keeps rows is merged into the pass after it, unless the second tests something
    that can fail on rows which the first one drops. (What a sink computes is computed for rows that
    passed, or computed again for them alone if it failed.)
    """
    fused: list[Step] = []
    for step in steps:
        last = fused[-1] if fused else None
        merged = _merged(last, step)
        if merged is None:
            fused.append(step)
        else:
            fused[-1] = merged
    return tuple(fused)


def can_fail(node: Node) -> bool:
    """Tell whether computing the expression may raise an error for some value."""
    return any(_can_fail(n) for n in walk(node))


def _can_fail(node: Node) -> bool:
    match node:
        case Cast(operand, target):
            return not castable_always(type_of(operand), target)
        case Arithmetic(_, _, _, t):
            return getattr(t, "precision", 0) == DECIMAL_DIGITS
    return False


def _merged(first: Step | None, second: Step) -> Pass | None:
    """Give two passes as one, or None if they must stay two."""
    if not (isinstance(first, Pass) and isinstance(second, Pass) and isinstance(first.sink, Rows)):
        return None
    if first.predicate is not None and second.predicate is not None and can_fail(second.predicate):
        return None
    outputs = dict(first.sink.outputs)
    terms: list[Node] = []
    for predicate in (first.predicate, second.predicate and _over(second.predicate, outputs)):
        terms += () if predicate is None else conjuncts(predicate)
    return Pass(all_of(tuple(terms)) if terms else None, _sink_over(second.sink, outputs))


def _over(node: Node, outputs: Mapping[str, Node]) -> Node:
    return transform(node, lambda n: outputs[n.name] if isinstance(n, Column) else n)


def _pairs_over(
    pairs: tuple[tuple[str, Node], ...], outputs: Mapping[str, Node]
) -> tuple[tuple[str, Node], ...]:
    return tuple((name, _over(node, outputs)) for name, node in pairs)


def _calls_over(
    calls: tuple[tuple[str, Call], ...], outputs: Mapping[str, Node]
) -> tuple[tuple[str, Call], ...]:
    return tuple(
        (name, Call(c.kind, None if c.argument is None else _over(c.argument, outputs)))
        for name, c in calls
    )


def _sink_over(sink: Sink, outputs: Mapping[str, Node]) -> Sink:
    match sink:
        case Rows(columns):
            return Rows(_pairs_over(columns, outputs))
        case Totals(calls):
            return Totals(_calls_over(calls, outputs))
        case Groups(keys, calls):
            return Groups(_pairs_over(keys, outputs), _calls_over(calls, outputs))
        case Matches(keys, build, outer, columns, added):
            over = tuple(_over(key, outputs) for key in keys)
            return Matches(over, build, outer, _pairs_over(columns, outputs), added)


def prune(steps: Sequence[Step], wanted: frozenset[str]) -> tuple[Step, ...]:
    """Drop the outputs that no later step reads and that are not in `wanted`, last step first."""
    pruned: list[Step] = []
    for step in reversed(steps):
        kept, wanted = _pruned(step, wanted)
        pruned.append(kept)
    return tuple(reversed(pruned))


def _pruned(step: Step, wanted: frozenset[str]) -> tuple[Step, frozenset[str]]:
    if isinstance(step, Order):
        return step, wanted | {key.column for key in step.by}
    if not isinstance(step, Pass):
        return step, wanted
    sink = step.sink
    match sink:
        case Rows(outputs):
            # Rows without a column have no number, so the first stays if nothing is wanted.
            kept = tuple(pair for pair in outputs if pair[0] in wanted) or outputs[:1]
            sink = Rows(kept)
        case Totals(calls):
            sink = Totals(tuple(pair for pair in calls if pair[0] in wanted) or calls[:1])
        case Groups(keys, calls):
            sink = Groups(keys, tuple(pair for pair in calls if pair[0] in wanted))
        case Matches(keys, build, outer, outputs, added):
            kept = tuple(pair for pair in outputs if pair[0] in wanted)
            new = tuple(column for column in added if column[0] in wanted)
            sink = Matches(keys, build, outer, kept if kept or new else outputs[:1], new)
    step = Pass(step.predicate, sink)
    return step, frozenset().union(*map(columns_of, expressions(step)))
