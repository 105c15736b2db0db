"""What a plan says of values and rows, held against them before a program believes it.

A plan says what is stored (names, types, bounds), how many digits constants have, and between what
some columns lie. Programs choose widths and tables by it, so a lie would give wrong rows, or worse.
Rows that are read here are covered by the statistics of where they are stored; of rows that came
from elsewhere nothing is known, so they are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import pyarrow as pa

from wherry.base.compute import pc
from wherry.base.errors import CorruptError, InputError
from wherry.base.units import format_bytes
from wherry.data.chunk import ChunkRef
from wherry.data.source import Source
from wherry.data.statistics import ColumnStatistics, column_statistics
from wherry.data.types import type_class, value_type
from wherry.ir.expr import Literal, Parameter
from wherry.ir.literals import EXACT, unscaled
from wherry.ir.reference import literal_scalar
from wherry.ir.types import Interval, type_range, type_to_text
from wherry.ops.scan import unscaled_bounds
from wherry.plan.query import Plan

WRITTEN_MOST: Final = 1 << 31
"""Bytes of constant texts that are written for the rows of one run: no text column holds more."""


def check_fits(plan: Plan, source: Source) -> None:
    """Refuse a plan whose columns are not those of the source that it names.

    Raises
    ------
    CorruptError
        If a column is missing, or has another type.
    """
    for name, t in plan.fields:
        place = source.schema.get_field_index(name)
        stored = source.schema.field(place).type if place >= 0 else None
        if stored is None or not stored.equals(t):
            seen = "no such column" if stored is None else type_to_text(stored)
            raise CorruptError(
                f"plan: column {name!r} of {plan.dataset!r} is said to be {type_to_text(t)}; "
                f"there is {seen}"
            )


def check_bounds(plan: Plan, source: Source, ref: ChunkRef) -> None:
    """Refuse a plan whose bounds are not true of the stored batch that a chunk lies in.

    Raises
    ------
    CorruptError
        If a value may lie outside of them.
    """
    if not plan.bounds:
        return
    known = source.statistics(ref)
    for name, low, high in plan.bounds:
        column = known.columns[name]
        if column.nulls != known.rows:
            t = source.schema.field(name).type
            _check_within((low, high), column, t, f"column {name!r} of {plan.dataset!r}")


def check_rows(
    plan: Plan,
    schema: pa.Schema,
    ranges: Mapping[str, int],
    batches: Iterable[pa.RecordBatch],
    *,
    bounded: bool,
) -> None:
    """Refuse rows from elsewhere that are not what a segment takes; each passed `check_batch`.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the rows that the segment takes.
    ranges : mapping
        Columns that are numbers in [0, so many), never null.
    bounded : bool
        They stand for stored rows, of which the plan's bounds speak.

    Raises
    ------
    CorruptError
        If names or types differ, or values lie outside of what is said of them.
    """
    for batch in batches:
        if batch.schema.names != schema.names or batch.schema.types != schema.types:
            raise CorruptError(
                f"rows of {_columns_text(batch.schema)}; possible: {_columns_text(schema)}"
            )
        for name, count in ranges.items():
            _check_numbers(name, batch.column(name), count)
        for name, low, high in plan.bounds if bounded else ():
            array = batch.column(name)
            if array.null_count < len(array):
                known = column_statistics(array)
                _check_within((low, high), known, array.type, f"column {name!r}, from elsewhere,")


def _check_within(said: Interval, known: ColumnStatistics, t: pa.DataType, what: str) -> None:
    found = unscaled_bounds(known, t)
    if found is None or found[0] < said[0] or found[1] > said[1]:
        seen = "nobody knows" if found is None else f"{found[0]} to {found[1]}"
        raise CorruptError(f"plan: {what} is said to hold {said[0]} to {said[1]}; it holds {seen}")


def _check_numbers(name: str, array: pa.Array, count: int) -> None:
    if not len(array):
        return
    ends = pc.min_max(array).as_py()
    if array.null_count or ends["min"] < 0 or ends["max"] >= count:
        raise CorruptError(
            f"column {name!r} holds {ends['min']} to {ends['max']} and {array.null_count} nulls; "
            f"possible: 0 to {count - 1}"
        )


def _columns_text(schema: pa.Schema) -> str:
    pairs = (f"{name} {t}" for name, t in zip(schema.names, schema.types, strict=True))
    return f"{', '.join(pairs):.400}"


def check_constant(wanted: Parameter, value: object) -> Literal:
    """Give the constant for a parameter, if it is one that the parameter's type holds exactly.

    Raises
    ------
    CorruptError
        If it is not: programs take it for one by its type alone.
    """
    t = value_type(wanted.type)
    literal = Literal(value, wanted.type)
    if value is None or not _holds(t, literal, wanted.digits):
        raise CorruptError(
            f"continuation: {value!r:.60} for constant {wanted.index}, "
            f"{type_to_text(t)} of at most {wanted.digits} digits"
        )
    return literal


def _holds(t: pa.DataType, literal: Literal, digits: int) -> bool:
    value = literal.value
    match type_class(t):
        case "boolean" | "float" | "string":
            return True
        case "binary":
            assert isinstance(value, bytes)
            return not pa.types.is_fixed_size_binary(t) or len(value) == t.byte_width
        case "decimal":
            assert isinstance(value, Decimal)
            if not _is_short(value):
                return False
            shifted = value.scaleb(t.scale, EXACT)
            if shifted != int(shifted):
                return False
    if type_class(t) in {"integer", "decimal"}:
        low, high = type_range(t)
        whole = unscaled(literal)
        return low <= whole <= high and (not digits or abs(whole) < 10**digits)
    try:
        literal_scalar(literal)
    except (pa.ArrowException, ValueError, OverflowError):
        return False
    return True


def _is_short(value: Decimal) -> bool:
    """Tell whether a decimal can be computed with quickly: no exponent of a million."""
    return value.is_finite() and -80 < value.adjusted() < 80 and len(value.as_tuple().digits) < 80


def check_written(texts: Iterable[object], rows: int) -> None:
    """Refuse to write constant texts that, for each of so many rows, take more than any memory.

    Raises
    ------
    InputError
        If they take more than `WRITTEN_MOST` together.
    """
    size = rows * sum(len(text) for text in texts if isinstance(text, str | bytes))
    if size > WRITTEN_MOST:
        raise InputError(
            f"constant texts would take {format_bytes(size)} in {rows} rows; possible: "
            f"{format_bytes(WRITTEN_MOST)}"
        )
