"""How much work a step is: counted from the step and its rows, the same on every device.

Nothing here looks at a clock or at what runs natively, so the emulator charges one price for one
query wherever it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

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
from wherry.ir.stage import Groups, Order, Pass, Rows, Step, expressions


@dataclass(frozen=True, slots=True)
class _PerRow:
    """What one row costs in an expression, and the columns it reads."""

    terms: int
    values: int
    texts: int
    hashes: int
    columns: tuple[str, ...]

    def times(self, rows: int) -> Work:
        return Work(
            filter_terms=self.terms * rows,
            arithmetic_values=self.values * rows,
            string_rows=self.texts * rows,
            hash_rows=self.hashes * rows,
        )


def count_step(step: Step, given: pa.RecordBatch, selected: int) -> Work:
    """Give the work of a step on `given`, of whose rows `selected` passed; writing not included."""
    rows = given.num_rows
    if isinstance(step, Order):
        return Work(sort_steps=rows * max(0, rows - 1).bit_length())
    if not isinstance(step, Pass):
        return Work()
    test, sink = _per_row(step)
    read = dict.fromkeys((*test.columns, *sink.columns))
    scanned = sum(_scan_bytes(given.column(name)) for name in read)
    return Work(scan_bytes=scanned) + test.times(rows) + sink.times(selected)


@lru_cache(maxsize=256)
def _per_row(step: Pass) -> tuple[_PerRow, _PerRow]:
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
    return column_bytes(array, dictionary=False)
