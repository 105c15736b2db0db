"""How much memory of a device a share takes besides columns: who sizes pieces asks this first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pyarrow as pa

from wherry.render.cuda.columns import ColumnFacts
from wherry.render.cuda.filter import FilterProgram, room_of, scratch_sizes, written_sizes
from wherry.render.cuda.groups import GroupsProgram, groups_bytes
from wherry.render.cuda.hashed import HashedProgram, most_places, table_sizes
from wherry.render.cuda.program import CudaPass
from wherry.render.cuda.share import rendered_for
from wherry.render.cuda.top import REACHED_BYTES, TopProgram, bests_bytes, blocks_of, top_sizes
from wherry.render.cuda.totals import spans_of, totals_bytes

_ROUNDED: Final = 512
"""Bytes; what blocks take is a multiple of it."""


def room_bytes(
    plan: CudaPass,
    facts: Mapping[str, ColumnFacts],
    runs: Sequence[int],
    rows: int,
    shared_bytes: int,
) -> int:
    """Give the most bytes that a share has at once, besides columns and `Constants`.

    Parameters
    ----------
    facts, runs
        As `begin` takes them.
    rows : int
        Of its largest piece.
    shared_bytes : int
        Memory on chip that a block of the device may have.

    Raises
    ------
    Refused
        As `begin` does.
    """
    made = rendered_for(plan, facts, shared_bytes)
    spans = spans_of(runs).count
    ones = -(-rows // 8) if any(facts[name].nulls for name in plan.columns) else 0
    if isinstance(made, FilterProgram):
        return _rounded([ones, *_filtered(made, plan.output, rows, 0)])
    if isinstance(made, TopProgram):
        bests = bests_bytes(made, blocks_of(rows))
        written = room_of(top_sizes(made, plan, rows)) + _ROUNDED
        return _rounded([ones, REACHED_BYTES, bests, written])
    if isinstance(made, HashedProgram):
        table = table_sizes(made, rows, most_places(rows)).values()
        keys = pa.schema(list(plan.output)[: len(made.filter.outputs)])
        filtered = _filtered(made.filter, keys, rows, made.words.size * 8)
        return _rounded([ones, *table, *filtered])
    if isinstance(made, GroupsProgram):
        return _rounded([ones, groups_bytes(made, spans)])
    return _rounded([ones, totals_bytes(made, spans)])


def _filtered(made: FilterProgram, schema: pa.Schema, rows: int, beside: int) -> list[int]:
    """Give the bytes of blocks if all rows are kept, with `beside` bytes of each besides."""
    written = written_sizes(made, schema, rows, (("made", ""), beside))
    return [*scratch_sizes(rows).values(), room_of(written) + _ROUNDED]


def _rounded(sizes: Iterable[int]) -> int:
    return sum(-(-size // _ROUNDED) * _ROUNDED for size in sizes)
