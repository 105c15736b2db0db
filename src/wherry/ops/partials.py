"""How aggregates are taken apart, so that chunks can be aggregated on different devices.

Each chunk gives partial values, partial values merge by another aggregate, and a last expression
makes the answer of them. Most aggregates merge by themselves or by a sum; mean needs a sum and a
count, variances need moments. Distinct values are counted in two levels: partial rows have the
value as one more key, merging leaves each once, and the second level counts them.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.ir.expr import Arithmetic, Call, Cast, Column, Compare, IsNull, Literal, Node, When
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Groups, Pass, Rows, Sink, Step, Totals
from wherry.ir.text import call_text
from wherry.ir.types import SPREADS

Calls = tuple[tuple[str, Call], ...]
"""Pairs of name and resolved aggregate."""
Outputs = tuple[tuple[str, Node], ...]
"""Pairs of name and resolved expression."""

_MERGE: Final = {"count": "sum"}
"""Partial values of other kinds merge by the kind itself."""
_PARTS: Final = ("sum", "count", "rows", "value")
_TRUTH: Final = pa.int8()
"""Truths are compared as integers: programs keep no single bits."""


def check_calls(calls: Calls) -> None:
    """Refuse aggregates that no partial rows can serve together.

    Raises
    ------
    InputError
        If different values of two expressions are counted, or beside the last value of another.
    """
    counted = {call.argument: call for _, call in calls if call.kind == "count_distinct"}
    lasts = [call for _, call in calls if call.kind == "last"]
    if len(counted) > 1:
        one, other, *_ = (call_text(call) for call in counted.values())
        raise InputError(
            f"{one} and {other} cannot stand in one agg(); ask for each in a pipeline of its own"
        )
    if counted and lasts:
        one, other = call_text(next(iter(counted.values()))), call_text(lasts[0])
        raise InputError(
            f"{one} and {other} cannot stand in one agg(): values are counted in order of first "
            "appearance; ask for each in a pipeline of its own"
        )


def near_sink(calls: Calls, keys: Outputs | None = None) -> Sink:
    """Give what each chunk makes: a row of partial values, or one a key (or key and value)."""
    names = _names(keys)
    partial = partial_calls(calls, names)
    counted = counted_value(calls)
    if counted is not None:
        return Groups((*(keys or ()), (f"{_mark(calls, names)}value", counted)), partial)
    return Totals(partial) if keys is None else Groups(keys, partial)


def gather_steps(calls: Calls, keys: Outputs | None = None) -> tuple[Step, ...]:
    """Give the steps that merge partial rows and finish; `keys` are columns of partial rows."""
    names = _names(keys)
    counted = counted_value(calls)
    merges = merge_calls(calls, names)
    steps: list[Step] = []
    if counted is not None:
        value = Column(f"{_mark(calls, names)}value", type_of(counted))
        steps.append(Pass(None, Groups((*(keys or ()), (value.name, value)), merges)))
        merges += tuple((n, Call("count", value)) for n, c in calls if c.kind == "count_distinct")
    merges = _finishing(calls, merges)
    sink = Totals(merges) if keys is None else Groups(keys, merges)
    steps.append(Pass(_has_rows(calls, names) if keys is None else None, sink))
    finals = final_outputs(calls, names)
    if keys is None:
        finals = tuple(map(_counted, finals, calls))
    steps.append(Pass(None, Rows((*(keys or ()), *finals))))
    return tuple(steps)


def partial_calls(calls: Calls, keys: tuple[str, ...] = ()) -> Calls:
    """Give the aggregates each chunk computes: means as sums and counts, variances as moments.

    Parameters
    ----------
    keys : tuple of str
        Names that stand beside the aggregates.
    """
    mark = _mark(calls, keys)
    found: list[tuple[str, Call]] = []
    for name, call in calls:
        if call.kind == "mean":
            found.append((f"{name}{mark}sum", _summed(call)))
            found.append((f"{name}{mark}count", Call("count", call.argument)))
        elif call.kind in SPREADS:
            found.append((name, Call("moments", _as_float(_argument(call)))))
        elif call.kind != "count_distinct":
            found.append((name, _comparable(call)))
    if _picks(calls):
        found.append((f"{mark}rows", Call("count", None)))
    return tuple(found)


def merge_calls(calls: Calls, keys: tuple[str, ...] = ()) -> Calls:
    """Give the aggregates that merge partial values, by the names `partial_calls` gave them."""
    return tuple(
        (name, Call(_MERGE.get(call.kind, call.kind), Column(name, call_type(call))))
        for name, call in partial_calls(calls, keys)
    )


def final_outputs(calls: Calls, keys: tuple[str, ...] = ()) -> Outputs:
    """Give the expressions that make answers of merged values."""
    mark = _mark(calls, keys)
    return tuple((name, _final(name, call, mark)) for name, call in calls)


def _counted(output: tuple[str, Node], call: tuple[str, Call]) -> tuple[str, Node]:
    """Let a count be 0, not null, if not one chunk gave a partial count."""
    name, node = output
    if call[1].kind != "count":
        return output
    return name, When(((IsNull(node), Literal(0, pa.int64())),), node)


def _names(keys: Outputs | None) -> tuple[str, ...]:
    return tuple(name for name, _ in keys or ())


def _finishing(calls: Calls, merges: Calls) -> Calls:
    """Give the calls of the last merge: moments become what they are asked for."""
    kinds = {name: call.kind for name, call in calls if call.kind in SPREADS}
    return tuple((name, Call(kinds.get(name, call.kind), call.argument)) for name, call in merges)


def _mark(calls: Calls, keys: tuple[str, ...]) -> str:
    """Give what stands before "sum" or "count" in the name of a part so that no name is twice."""
    names = {*keys, *(name for name, _ in calls)}
    mark = "."
    while any(f"{name}{mark}{part}" in names for name in ("", *names) for part in _PARTS):
        mark += "."
    return mark


def _argument(call: Call) -> Node:
    assert call.argument is not None
    return call.argument


def counted_value(calls: Calls) -> Node | None:
    """Give the expression whose different values are counted, if there is one."""
    return next((call.argument for _, call in calls if call.kind == "count_distinct"), None)


def _picks(calls: Calls) -> bool:
    return any(call.kind in {"first", "last"} for _, call in calls)


def _has_rows(calls: Calls, keys: tuple[str, ...]) -> Node | None:
    """Give the test of partial totals that had a row, if their first or last is asked for.

    The value of a chunk without rows is null, but no row's; its other partial values are empty.
    """
    if not _picks(calls):
        return None
    rows = Column(f"{_mark(calls, keys)}rows", pa.int64())
    return Compare(">", rows, Literal(0, pa.int64()))


def _summed(call: Call) -> Call:
    """Give the sum of a mean: 64-bit integers as float64, because their int64 sum could wrap."""
    argument = _argument(call)
    t = type_of(argument)
    wide = pa.types.is_integer(t) and t.bit_width == 64
    return Call("sum", _as_float(argument) if wide else argument)


def _as_float(node: Node) -> Node:
    return node if type_of(node) == pa.float64() else Cast(node, pa.float64())


def _is_truth(call: Call) -> bool:
    return call.kind in {"min", "max"} and pa.types.is_boolean(call_type(call))


def _comparable(call: Call) -> Call:
    """Give a call with truths as integers if they are compared."""
    return Call(call.kind, Cast(_argument(call), _TRUTH)) if _is_truth(call) else call


def _final(name: str, call: Call, mark: str) -> Node:
    if call.kind in SPREADS:
        return Column(name, pa.float64())
    if _is_truth(call):
        return Compare("!=", Column(name, _TRUTH), Literal(0, _TRUTH))
    if call.kind != "mean":
        return Column(name, call_type(call))
    total = _as_float(Column(f"{name}{mark}sum", call_type(_summed(call))))
    count_ = _as_float(Column(f"{name}{mark}count", pa.int64()))
    return Arithmetic("/", total, count_, pa.float64())
