"""How much work a step is: counted from the step and its rows, the same on every device.

Nothing here looks at a clock or at what runs natively, so the emulator charges one price for one
query wherever it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from wherry.data.chunk import column_bytes
from wherry.devices.work import Work
from wherry.ir.expr import (
    Arithmetic,
    Cast,
    Column,
    Compare,
    DatePart,
    IsIn,
    IsNull,
    Match,
    Negate,
    Node,
    Shard,
    When,
    walk,
)
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Order, Pass, Rows, Take, expressions


@dataclass(frozen=True, slots=True)
class _PerRow:
    """What one row costs in an expression, and the columns it reads."""

    terms: int
    values: int
    texts: int
    hashes: int
    columns: tuple[str, ...]


Costs = tuple[_PerRow, _PerRow]
"""What a row costs the predicate, and what a row that passed costs the sink."""


@dataclass(slots=True)
class Counter:
    """Counts in the making.

    A Work is made of them once, because adding Works takes longer than the kernel of a small chunk.
    """

    scan_bytes: int = 0
    filter_terms: int = 0
    arithmetic_values: int = 0
    string_rows: int = 0
    hash_rows: int = 0
    sort_steps: int = 0

    def add_pass(self, costs: Costs, given: pa.RecordBatch, selected: int) -> None:
        """Count a pass over `given`, of whose rows `selected` passed; writing not included."""
        test, sink = costs
        names = given.schema.names
        for name in dict.fromkeys((*test.columns, *sink.columns)):
            self.scan_bytes += _scan_bytes(given.column(names.index(name)))
        for cost, rows in ((test, given.num_rows), (sink, selected)):
            self.filter_terms += cost.terms * rows
            self.arithmetic_values += cost.values * rows
            self.string_rows += cost.texts * rows
            self.hash_rows += cost.hashes * rows

    def add_after(self, steps: Iterable[Order | Take], rows: int) -> None:
        """Count orders and takes of `rows` rows."""
        for step in steps:
            if isinstance(step, Order):
                self.sort_steps += rows * max(0, rows - 1).bit_length()
            rows = rows if step.count is None else min(rows, step.count)

    def work(self, write_bytes: int) -> Work:
        """Give what was counted, with the bytes that were written."""
        return Work(
            self.scan_bytes,
            self.filter_terms,
            self.arithmetic_values,
            self.string_rows,
            self.hash_rows,
            write_bytes,
            self.sort_steps,
        )


def costs_of(step: Pass) -> Costs:
    """Give the cost of the predicate for each row in, and of the sink for each row that passed."""
    predicate = () if step.predicate is None else (step.predicate,)
    nodes = expressions(step)[len(predicate) :]
    if isinstance(step.sink, Rows) and step.predicate is None:
        # A column that passes through untested is a reference: nobody reads it.
        nodes = tuple(n for n in nodes if not isinstance(n, Column))
    cost = _cost(nodes)
    calls = 0 if isinstance(step.sink, Rows) else len(step.sink.calls)
    hashes = cost.hashes + isinstance(step.sink, Groups)
    return _cost(predicate), _PerRow(
        cost.terms, cost.values + calls, cost.texts, hashes, cost.columns
    )


def _cost(nodes: Iterable[Node]) -> _PerRow:
    terms = values = texts = hashes = 0
    columns: dict[str, None] = {}
    for node in (n for root in nodes for n in walk(root)):
        match node:
            case Column(name):
                columns[name] = None
            case Compare(_, operand, _) | Match(_, operand, _) | IsIn(operand, _):
                count = max(1, len(node.values)) if isinstance(node, IsIn) else 1
                if _is_plain_text(operand):
                    texts += count
                else:
                    terms += count
            case IsNull():
                terms += 1
            case Arithmetic() | Negate() | Cast() | DatePart() | When():
                values += 1
            case Shard():
                hashes += 1
    return _PerRow(terms, values, texts, hashes, tuple(columns))


def _is_plain_text(node: Node) -> bool:
    t = type_of(node)
    return bool(pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t))


def _scan_bytes(array: pa.Array) -> int:
    if pa.types.is_string_view(array.type):
        return 16 * len(array)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        bits = array.type.bit_width
        return len(array) * bits // 8 + (len(array) // 8 if array.null_count else 0)
    return column_bytes(array, dictionary=False)
