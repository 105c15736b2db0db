"""The text of a program: what kernels share, what was made of the expressions, and a skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

import wherry.kernels
from wherry.base.errors import Refused
from wherry.ir.expr import Apply, Call, Column, Member, Node, Shard, conjuncts, transform, walk
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Order, Pass, Rows, Sink, Totals, output_schema
from wherry.ir.text import to_text
from wherry.render.cuda.expressions import is_computed, value
from wherry.render.cuda.state import refuse_call
from wherry.render.cuda.values import MOST_WORDS, ROW, Body, Frame, both
from wherry.render.functions import by_columns
from wherry.render.intervals import Bounds
from wherry.render.loop import Slot, Variant
from wherry.render.split import Lookup, Split

MOST_FIRST: Final = 1024
"""First rows: half of what a block of top.cu has room for, so that sorting pays."""
_APART = (Apply, Member, Shard)
"""What other devices run natively, and CUDA does not yet."""


class CudaProgram(Struct, frozen=True):
    """CUDA C++ and the order in which its context holds things; the text says all there is to know.

    Attributes
    ----------
    text : str
        Needs no header. The same for the same meaning: names of columns do not show.
    slots : tuple
        What each entry of the context holds, with its C type.
    """

    text: str
    slots: tuple[tuple[Slot, str], ...]


class CudaPass(Struct, frozen=True, dict=True):
    """A pass in terms that kernels know; what was rendered of it is kept with it.

    Attributes
    ----------
    predicate, roots : Node
        The test, if there is one, and what the sink computes, in its order.
    lookups : dict
        What is found by a dictionary's code, by what it stands for.
    top : Order or None
        Which of its rows are wanted, if not all.
    """

    step: Pass
    schema: pa.Schema
    bounds: Bounds
    predicate: Node | None
    roots: tuple[Node, ...]
    lookups: dict[Node, Lookup]
    top: Order | None

    @cached_property
    def columns(self) -> frozenset[str]:
        """Give the columns that it reads."""
        nodes = (*self.roots, *(() if self.predicate is None else (self.predicate,)))
        found = {n.name for root in nodes for n in walk(root) if isinstance(n, Column)}
        looked = {n.column for root in nodes for n in walk(root) if isinstance(n, Lookup)}
        return frozenset((found | looked) - {ROW.name})

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Give the columns in an order that stays."""
        return tuple(sorted(self.columns))

    @cached_property
    def output(self) -> pa.Schema:
        """Give the schema of what it makes."""
        return output_schema(self.step, self.schema)

    @cached_property
    def rendered(self) -> dict[Any, Any]:
        """Give what was rendered of it, by what that took for granted."""
        return {}

    def variant(self, nullable: frozenset[str]) -> Variant:
        """Give what a program for chunks with nulls in those columns takes for granted."""
        return Variant(self.bounds, nullable & self.columns)


def plan_pass(step: Pass, schema: pa.Schema, bounds: Bounds, top: Order | None = None) -> CudaPass:
    """Give a pass as kernels run it.

    Parameters
    ----------
    step : Pass
        Lifted: its literals are parameters.
    bounds : mapping
        What statistics say of columns: low and high, as stored integers.
    top : Order, optional
        What follows the pass: of each piece only the rows are made that may be among the first,
        in their order. Pieces still have to be put in order together.

    Raises
    ------
    Refused
        If an expression, the sink or the order has no CUDA form; with every reason.
    """
    split, reasons = Split(bounds), list[str]()
    predicate = None if step.predicate is None else split.value(step.predicate)
    roots = tuple(_root(*found, split, reasons) for found in _computed(step, reasons))
    used = (*roots, *(() if predicate is None else (predicate,)))
    residuals, lookups = split.used(used)
    reasons += [split.reasons[node] for node in residuals]
    meant: dict[Node, Node] = {found: node for node, found in lookups.items()}
    for node in (n for root in used for n in walk(root)):
        if isinstance(node, _APART):
            asked = transform(node, lambda n: meant.get(n, n))
            reasons.append(f"{to_text(asked)}: {type(node).__name__} has no CUDA form")
    reasons += [f"{name}: a struct" for name in schema.names if _is_struct(schema, name, used)]
    for call, _ in _called(step.sink, roots):
        reason = refuse_call(call)
        reasons += [] if reason is None else [reason]
    reasons += [] if top is None else _refuse_top(top, step)
    if reasons:
        raise Refused("the pass cannot run on a CUDA device", tuple(dict.fromkeys(reasons)))
    return CudaPass(step, schema, bounds, predicate, roots, lookups, top)


def _refuse_top(top: Order, step: Pass) -> list[str]:
    """Give why the first rows in an order have no CUDA form."""
    if top.count is None or top.buckets is not None or not isinstance(step.sink, Rows):
        return ["an order of all rows, or of groups, has no CUDA form"]
    reasons, outputs = list[str](), dict(step.sink.outputs)
    if top.count > MOST_FIRST:
        reasons.append(f"the first {top.count} rows: {MOST_FIRST} at most are found on chip")
    for key in top.by:
        node = outputs.get(key.column)
        if node is None or not is_computed(type_of(node)):
            what = "what the host adds" if node is None else type_of(node)
            reasons.append(f"{key.column}: an order by {what} has no CUDA form")
    return reasons


def _is_struct(schema: pa.Schema, name: str, roots: Sequence[Node]) -> bool:
    columns = {n.name for root in roots for n in walk(root) if isinstance(n, Column)}
    return name in columns and pa.types.is_struct(schema.field(name).type)


def _computed(step: Pass, reasons: list[str]) -> tuple[tuple[str, Node], ...]:
    """Give the expressions of a sink, outputs or keys and then arguments, with what each is."""
    match step.sink:
        case Rows(outputs):
            return tuple(("output", node) for _, node in outputs)
        case Totals(calls):
            return _arguments(calls)
        case Groups(keys, calls):
            return (*(("key", node) for _, node in keys), *_arguments(calls))
    reasons.append(f"{type(step.sink).__name__} have no CUDA form")
    return ()


def can_leave(node: Node) -> bool:
    """Tell whether the values of an output can be written on a device."""
    coded = isinstance(node, Column) and pa.types.is_dictionary(type_of(node))
    return coded or is_computed(type_of(node))


def _arguments(calls: Sequence[tuple[str, Call]]) -> tuple[tuple[str, Node], ...]:
    return tuple((c.kind, c.argument) for _, c in calls if c.argument is not None)


def _root(use: str, node: Node, split: Split, reasons: list[str]) -> Node:
    if isinstance(node, Column):
        coded = pa.types.is_dictionary(type_of(node)) and use in {"output", "key"}
        # Both zeros are one key, and two values.
        coded = coded and not (use == "key" and pa.types.is_floating(type_of(node).value_type))
        # Whether a value is there can be told of every column.
        if coded or (use == "count" and not pa.types.is_struct(type_of(node))):
            return node
    if is_computed(type_of(node)):
        return split.value(node)
    reasons.append(f"{to_text(node)}: {type_of(node)} as {use} has no CUDA form")
    return node


def called(plan: CudaPass) -> tuple[tuple[Call, Node | None], ...]:
    """Give the aggregates of a pass, each with its argument in terms that kernels know."""
    return _called(plan.step.sink, plan.roots)


def _called(sink: Sink, roots: Sequence[Node]) -> tuple[tuple[Call, Node | None], ...]:
    if not isinstance(sink, Totals | Groups):
        return ()
    rest = iter(roots[len(sink.keys) if isinstance(sink, Groups) else 0 :])
    return tuple((c, None if c.argument is None else next(rest)) for _, c in sink.calls)


def program_of(frame: Frame, parts: Sequence[str], skeletons: Sequence[str]) -> CudaProgram:
    """Give the program made of functions and skeletons.

    Raises
    ------
    Refused
        If it reads more than a kernel's arguments have room for.
    """
    if len(frame.types) > MOST_WORDS:
        text = f"a kernel takes {MOST_WORDS} addresses and numbers, not {len(frame.types)}"
        raise Refused(text)
    texts = [skeleton("texts")] if any("Text" in part for part in parts) else []
    whole = [skeleton("prelude"), *texts, "struct State;", frame.text, *parts]
    whole += map(skeleton, skeletons)
    return CudaProgram("\n".join(whole), tuple(frame.types.items()))


@cache
def skeleton(name: str) -> str:
    """Give the text of a file of kernels/cuda."""
    folder = Path(str(wherry.kernels.__file__)).parent / "cuda"
    return (folder / f"{name}.cu").read_text()


def tests_text(frame: Frame, variant: Variant, predicate: Node | None, function: str) -> str:
    """Give `function(c, first, step, live)`: which rows of a thread pass, of those in `live`.

    Conjuncts are tested in their order, those of the same columns together. What one needs of all
    rows of a thread is asked for before any is tested, and of the next only if a row is left.
    """
    terms = [] if predicate is None else by_columns(conjuncts(predicate))
    parts, stages = [], []
    for number, together in enumerate(terms):
        body, found = Body(frame, variant), None
        for term in together:
            tested = value(term, body)
            found = both(found, both(tested.data, tested.valid))
        named = f"test_{number}"
        head = f"DEVICE bool {named}(const Context& c, const i64 row, const Read_{named}& r) {{\n"
        parts += [body.reader(named), f"{head}{body.text}  return {found};\n}}"]
        stages.append(_stage_text(named, body))
    arguments = "const Context& c, const i64 first, const i64 step, u32 live"
    whole = "  if (!any(live)) return 0;\n".join(stages)
    return "\n".join([*parts, f"DEVICE u32 {function}({arguments}) {{\n{whole}  return live;\n}}"])


def _stage_text(test: str, body: Body) -> str:
    # What is cheap is tested without a branch: behind one, loads were put off and waited for one by
    # one. A row that is not left reads row 0 instead, which lies in the cache.
    left = "live >> (j + k) & 1 && " if body.reads_texts else ""
    return f"""\
#pragma unroll 1
  for (int j = 0; j < ITEMS; j += {body.at_once}) {{
    Read_{test} r[{body.at_once}];
#pragma unroll
    for (int k = 0; k < {body.at_once}; ++k) {{
      r[k] = read_{test}(c, live >> (j + k) & 1 ? first + (j + k) * step : 0);
    }}
    all_asked_for();
#pragma unroll
    for (int k = 0; k < {body.at_once}; ++k) {{
      if ({left}!{test}(c, first + (j + k) * step, r[k])) live &= ~(1u << (j + k));
    }}
  }}
"""
