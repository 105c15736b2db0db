"""What a stage makes a core do, counted from its steps and from how many rows went through.

The same counts are charged for an estimate and for a real run, on every device: time follows from
them and from a profile, never from a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from wherry.devices.work import Work
from wherry.ir.expr import Arithmetic, Cast, Compare, DatePart, IsIn, Match, Node, Shard, When, walk
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Order, Pass, Rows, Stage, Take, Totals, expressions
from wherry.ir.types import is_textual


@dataclass(frozen=True, slots=True)
class Counts:
    """What went through a stage: rows and bytes in, selected rows, rows and bytes out."""

    rows_in: int
    bytes_in: int
    rows_selected: int
    rows_out: int
    bytes_out: int


def work_of(stage: Stage, counts: Counts) -> Work:
    """Give the work of running `stage` once over `counts`."""
    work = Work(scan_bytes=counts.bytes_in)
    rows, selected = counts.rows_in, counts.rows_selected
    for step in stage.steps:
        match step:
            case Pass():
                work += _of_pass(step, rows, selected, counts)
                rows = selected if isinstance(step.sink, Rows) else counts.rows_out
                selected = rows
            case Order():
                work += Work(sort_steps=rows * ceil(log2(rows)) if rows > 1 else 0)
                rows = selected = counts.rows_out
            case Take():
                rows = selected = min(rows, step.count)
    return work


def _of_pass(step: Pass, rows: int, selected: int, counts: Counts) -> Work:
    tests = [] if step.predicate is None else list(walk(step.predicate))
    text = sum(_compares_text(n) for n in tests)
    terms = sum(isinstance(n, Compare | IsIn) for n in tests) - sum(
        _compares_text(n) and not isinstance(n, Match) for n in tests
    )
    values = sum(_computes(n) for n in tests) * rows
    sinks = expressions(step)[0 if step.predicate is None else 1 :]
    values += sum(_computes(n) for e in sinks for n in walk(e)) * selected
    text_rows = text * rows + sum(_compares_text(n) for e in sinks for n in walk(e)) * selected
    hashed = written = 0
    match step.sink:
        case Groups(_, calls):
            hashed, values = selected, values + len(calls) * selected
        case Totals(calls):
            values += len(calls) * selected
        case Rows(outputs):
            moves = step.predicate is not None or any(_computes(n) for _, n in outputs)
            written = counts.bytes_out if moves else 0
    return Work(
        filter_terms=max(0, terms) * rows,
        arithmetic_values=values,
        string_rows=text_rows,
        hash_rows=hashed,
        write_bytes=written,
    )


def _compares_text(node: Node) -> bool:
    match node:
        case Match(_, operand, _) | Compare(_, operand, _) | IsIn(operand, _):
            return is_textual(type_of(operand))
    return False


def _computes(node: Node) -> bool:
    return isinstance(node, Arithmetic | Cast | When | DatePart | Shard)
