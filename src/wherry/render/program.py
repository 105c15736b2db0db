"""A stage as a program: rendered once, run on many chunks from many threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.data.arrays import empty_batch, put_together
from wherry.data.chunk import column_bytes, referenced_bytes
from wherry.data.late import LateRows
from wherry.data.segment import SegmentPool
from wherry.devices.work import Work
from wherry.ir.build import Build
from wherry.ir.expr import Literal
from wherry.ir.stage import (
    Groups,
    Matches,
    Order,
    Pass,
    Rows,
    Stage,
    Step,
    Take,
    Totals,
    output_schema,
)
from wherry.ir.work import Costs, Counter, costs_of
from wherry.kernels.objects import object_folder
from wherry.render.bind import pack_literals
from wherry.render.dealt import Dealt, can_deal
from wherry.render.gather import (
    Deferred,
    Piece,
    gather,
    parts_of,
    piece_bytes,
    referenced_rows,
)
from wherry.render.late import Chosen, Residual, late_pass
from wherry.render.ledger import account, writes_all, written
from wherry.render.matches import builds_read
from wherry.render.outcome import PASSED, ChunkOutput, together
from wherry.render.part import Making, Part, run_part
from wherry.render.partitioned import MANY
from wherry.render.passes import plan_pass
from wherry.render.prepare import Preparer
from wherry.render.reference import check_stage
from wherry.render.runs import in_a_row
from wherry.render.share import Bound, binds_together
from wherry.render.share_groups import Grouping, Made
from wherry.render.share_run import binds_after, bound_of, share_of
from wherry.render.share_top import BoundOrder, bind_order, first_of, orders_together
from wherry.render.slotted import merge
from wherry.render.sums import can_sum, sum_up
from wherry.render.team import Team, alone
from wherry.render.top_k import is_sorted_by_pyarrow
from wherry.render.waiting import Waiting

_CHOSEN = "rows are chosen, and written where they meet"
_REFERENCED = "rows are cut by reference"
_GATHERED = "rows are written once, where they meet"
_WAITS = "rows wait where they lie, and are grouped where they meet"
_JOINED = "groups of chunks follow each other, and are joined by reference"
_MERGED = "groups are written once, in order of first appearance"


class Program:
    """A stage made ready for chunks of one schema; a value: `run` changes nothing that shows.

    Attributes
    ----------
    stage : Stage
        Lifted: its literals are parameters.
    text : str
        What runs, for a person to read: the stage by expression, then the block functions' LLVM IR
        for chunks without nulls.
    residuals : tuple of str
        Which expression or step runs through pyarrow, and why; empty if none does.
    binds, orders : bool
        Whether chunks of a share can be bound together, for `run_bound`: if what is made of them
        is written, and if it is not because what comes next on this device puts it in order.
    groups : bool
        Whether it ends with groups: `run_bound` may deal rows then, and defers nothing else.
    looks_up : bool
        Whether what is bound depends on the literals.
    reads_late : bool
        Whether it tests rows before it needs all of their columns, for `run_late`.
    """

    def __init__(self, stage: Stage, schema: pa.Schema, bounds: Any, folder: Path) -> None:
        check_stage(stage)
        self.stage, self.schema = stage, schema
        self._parts = _parts(stage, schema, bounds, folder)
        sinks = [step.sink for step in stage.steps if isinstance(step, Pass)]
        # Totals are new bytes whatever the chunk is, and groups but for dictionaries of keys: their
        # addresses need no look.
        self._refers = not any(writes_all(step) for step in stage.steps)
        # A program that only keeps rows may leave writing them to who orders or cuts them.
        keeps = all(isinstance(sink, Rows | Matches) for sink in sinks)
        self._chooses = len(self._parts) == 1 and keeps
        self._joins = any(part.joins for part in self._parts)
        # One that ends with groups may leave grouping to who merges them.
        self._deals = bool(self._parts and self._parts[-1].groups and not self._parts[-1].after)
        self.groups = bool(sinks) and isinstance(sinks[-1], Groups)
        plans = [part.plan for part in self._parts]
        alike = len(plans) == 1 and plans[0] is not None and binds_together(plans[0])
        self.binds = alike and binds_after(self._parts[0])
        self.orders = len(self._parts) == 1 and orders_together(self._parts[0])
        self.looks_up = any(plan is not None and plan.lookups for plan in plans)
        self._late = late_pass(stage, schema, bounds, folder)
        self.reads_late = self._late is not None
        self._sums = len(self._parts) == 1 and can_sum(self._parts[0])
        self._rest = self._after_first(folder)
        self._packed: tuple[tuple[Literal, ...], np.ndarray[Any, Any]] | None = None

    def _after_first(self, folder: Path) -> Program | None:
        """Give the program of what follows the steps that need all pieces, if something does."""
        first = self._parts[0] if self._parts else None
        if first is None or (first.plan is not None and not first.groups):
            return None
        done = len(first.after) if first.plan is None else 1
        rest, schema = self.stage.steps[done:], self.schema
        for step in self.stage.steps[:done]:
            schema = output_schema(step, schema)
        return Program(Stage(rest), schema, {}, folder) if rest else None

    @cached_property
    def residuals(self) -> tuple[str, ...]:
        """Give what does not run natively, and why."""
        found = [reason for part in self._parts if part.plan for reason in part.plan.reasons]
        if is_sorted_by_pyarrow(self.stage, self.schema):
            found.append("order: pyarrow sort_indices")
        return tuple(found)

    @property
    def listing(self) -> str:
        """Give the stage by expression: the readable part of `text`."""
        lines = []
        for part in self._parts:
            if part.plan is not None:
                lines += [_skeletons(part.plan.step), *part.plan.listing("  ")]
            lines += [_arrangement(step) for step in part.after]
        return "\n".join(lines) + "\n"

    @property
    def text(self) -> str:
        """Give the listing and the LLVM IR of the variants for chunks without nulls."""
        plans = [part.plan for part in self._parts if part.plan is not None]
        return "\n".join([self.listing, *(plan.text for plan in plans)])

    def run(
        self,
        batch: pa.RecordBatch,
        literals: tuple[Literal, ...],
        pool: SegmentPool,
        *,
        defer: bool = False,
    ) -> ChunkOutput:
        """Give what the program makes of one chunk; any thread may call this at any time.

        Parameters
        ----------
        defer : bool
            What comes next on this device takes rows that are not written yet: those that are only
            chosen, if it orders or cuts them, or that wait for others, if it merges groups.

        Raises
        ------
        InputError
            If a value cannot be computed.
        """
        making = self._making(literals, pool, defer=defer)
        made = self._through(making, batch, self._parts)
        return self._output(making, made, batch, batch.num_rows)

    def run_late(
        self,
        rows: LateRows,
        literals: tuple[Literal, ...],
        pool: SegmentPool,
        *,
        defer: bool = False,
    ) -> tuple[ChunkOutput, pa.RecordBatch] | None:
        """Give what the program makes of rows that are read as it goes: what `run` gives of them.

        With it come the columns that it may refer to, as read. Totals are left to `together`.

        Only if it `reads_late`. None if it has to `run` over all of them: perhaps there is no
        answer, which must not depend on what was read.

        Raises
        ------
        InputError
            If a value cannot be computed.
        CorruptError
            If what is stored cannot be decoded.
        """
        assert self._late is not None
        making = self._making(literals, pool, defer=defer)
        try:
            chosen = self._late.choose(rows, literals, making.packed, pool)
        except (Residual, InputError):
            return None
        summed = self._summed(making, chosen, rows.rows) if self._sums else None
        if summed is not None:
            return summed, chosen.read
        first = replace(self._parts[0], plan=chosen.plan, preparer=chosen.preparer)
        only = len(self._parts) == 1
        made = making.run(first, chosen.batch, rows.rows, chosen.texts, last=only)
        made = self._through(making, made, self._parts[1:])
        return self._output(making, made, chosen.read, rows.rows), chosen.read

    def _summed(self, making: Making, chosen: Chosen, rows: int) -> ChunkOutput | None:
        """Give the totals of chosen rows, still to be read; None if they have to be tried apart."""
        if (found := sum_up(chosen, making)) is None:
            return None
        sums, selected = found
        costs = self._parts[0].costs
        assert costs is not None
        making.counter.add_pass(costs, rows, selected, chosen.texts)
        why = _why(self.stage, copied=1)
        return ChunkOutput(sums, rows, selected, 0, 0, why, making.counter.work(0))

    def _making(self, literals: tuple[Literal, ...], pool: SegmentPool, *, defer: bool) -> Making:
        defers = defer and (self._chooses or self._deals)
        return Making(self._pack(literals), literals, pool, defers)

    def _through(self, making: Making, made: Piece, parts: Sequence[Part]) -> Piece:
        for number, part in enumerate(parts):
            names = () if part.costs is None else part.costs.texts
            texts = sum(column_bytes(made.column(name)) for name in names)
            made = making.run(part, made, made.num_rows, texts, last=number + 1 == len(parts))
        return made

    def _output(self, making: Making, made: Piece, given: pa.RecordBatch, rows: int) -> ChunkOutput:
        """Give what was made of `rows` rows; `given` are columns that it may refer to."""
        selected = rows if making.selected is None else making.selected
        counter, slowly = making.counter, making.fallbacks
        if isinstance(made, Deferred | Waiting):
            why = _CHOSEN if isinstance(made, Deferred) else _WAITS
            work = counter.work(0)
            return ChunkOutput(made, rows, selected, made.nbytes, 0, why, work, slowly)
        referenced, copied = 0, 0
        if self._refers:
            owners = builds_read(self.stage, making.literals) if self._joins else ()
            referenced, copied = account(made, given, *owners)
        else:
            copied = written(made)
        why, work = _why(self.stage, copied), counter.work(copied)
        return ChunkOutput(made, rows, selected, referenced, copied, why, work, slowly)

    def bind(
        self, batches: Sequence[pa.RecordBatch], literals: tuple[Literal, ...]
    ) -> Bound | BoundOrder | None:
        """Give chunks bound for `run_bound`; only if the program `binds`.

        They serve any literals, unless the program looks values up by code (`looks_up`). None if
        a value to look up cannot be computed, a text is too long to be compared with others by
        words, or chunks are better sorted each: then each must `run` alone.

        Parameters
        ----------
        batches : sequence of RecordBatch
            In order; they must stay where they are as long as what is given is used.
        """
        part = self._parts[0]
        if self.orders:
            return bind_order(part, batches)
        assert self.binds
        try:
            return bound_of(part, batches, literals)
        except InputError:
            return None

    def run_bound(
        self,
        bound: Bound | BoundOrder,
        literals: tuple[Literal, ...],
        pool: SegmentPool,
        team: Team,
        *,
        defer: bool = False,
    ) -> ChunkOutput | None:
        """Give what the program makes of chunks that were bound together, on all threads of `team`.

        The same rows in the same order as `run` on each chunk, whatever thread does which; of a
        program that `orders`, those that are first in all of them. None if each must `run` alone.

        Parameters
        ----------
        defer : bool
            As for `run`; only if the program `groups`.

        Raises
        ------
        InputError
            If a value cannot be computed.
        """
        made: Piece
        if isinstance(bound, BoundOrder):
            made, rows, work = first_of(bound, team), bound.rows, bound.counter.work(0)
            if made is None:
                return None
            return ChunkOutput(made, rows, rows, made.nbytes, 0, _CHOSEN, work)
        part, packed = self._parts[0], self._pack(literals)
        assert part.plan is not None
        assert part.costs is not None
        if self.groups:
            deals = defer and self._deals
            found = Grouping(part.plan, bound, literals, packed, pool, deals).run(team)
            return together([self._grouped(bound, each, part.costs, pool) for each in found])
        made, selected = share_of(part, bound, packed, pool, team)
        counter, rows = Counter(), bound.layout.rows
        counter.add_pass(part.costs, rows, selected, int(bound.texts.sum()))
        counter.add_after(part.after, selected)
        why, work = _why(self.stage, made.copied), counter.work(made.copied)
        return ChunkOutput(
            made.rows, rows, selected, made.referenced, made.copied, why, work
        )  # fmt: skip

    def _grouped(self, bound: Bound, groups: Made, costs: Costs, pool: SegmentPool) -> ChunkOutput:
        """Give the groups of neighbouring chunks that were bound together as an output."""
        rows, texts = (
            int(each[groups.first : groups.last].sum()) for each in (bound.rows, bound.texts)
        )
        making = Making(None, (), pool, False, selected=groups.selected)
        making.counter.add_pass(costs, rows, groups.selected, texts)
        making.counter.add_groups(costs, groups.most)
        # What is referred to is a dictionary, and all of these chunks have the same.
        return self._output(making, groups.rows, bound.batches[groups.first], rows)

    def run_gathered(
        self,
        pieces: Sequence[Piece],
        literals: tuple[Literal, ...],
        pool: SegmentPool,
        team: Team = alone,
    ) -> ChunkOutput:
        """Give what the program makes of everything that has come together, in its order.

        Rows that are only ordered or cut are written once, straight from where the pieces lie;
        pieces that are aggregated are put together first, or grouped by all threads of `team`.

        Raises
        ------
        InputError
            If a value cannot be computed, or the pieces' dictionaries have more values together
            than their index type can number.
        """
        parts = parts_of(pieces)
        try:
            if self._merges(parts):
                return self._run_merge(parts, literals, pool, team)
            return self._run_together(parts, literals, pool)
        except pa.ArrowInvalid as problem:
            raise InputError(
                f"{len(pieces)} chunks cannot be put together: {problem} "
                "Cast dictionary columns with narrow indices to pa.utf8() first."
            ) from problem

    def _run_together(
        self, pieces: Sequence[Piece], literals: tuple[Literal, ...], pool: SegmentPool
    ) -> ChunkOutput:
        """Give what the program makes of pieces as one, whose groups are none of its own."""
        first = self._parts[0]
        if not pieces or first.plan is not None:
            whole = put_together(list(pieces) or [empty_batch(self.schema)])
            made = self.run(whole, literals, pool)
            gathered = referenced_bytes([whole]) if len(pieces) > 1 else 0
            return replace(made, copied_bytes=made.copied_bytes + gathered)
        rows = sum(piece.num_rows for piece in pieces)
        cut = referenced_rows(pieces, first.after) if self._rest is None else None
        if cut is not None:
            return ChunkOutput(cut, rows, rows, piece_bytes(cut), 0, _REFERENCED, Work())
        ordered = gather(pieces, first.after, pool)
        copied = referenced_bytes([ordered])
        counter = Counter()
        counter.add_after(first.after, rows)
        arranged = ChunkOutput(ordered, rows, rows, 0, copied, _GATHERED, counter.work(copied))
        if self._rest is None:
            return arranged
        made = self._rest.run(ordered, literals, pool)
        return replace(
            arranged,
            batch=made.batch,
            fallbacks=made.fallbacks,
            copied_bytes=copied + made.copied_bytes,
            work=arranged.work + made.work,
        )

    def _merges(self, pieces: Sequence[Piece]) -> bool:
        """Tell whether to merge groups by partition or in a row: many, or rows that need it."""
        first = self._parts[0]
        if not first.groups or first.plan is None:
            return False
        plain = not (first.plan.residuals or first.plan.lookups)
        waits = any(isinstance(piece, Dealt | Waiting) for piece in pieces)
        return waits or (plain and sum(piece.num_rows for piece in pieces) >= MANY)

    def _run_merge(
        self,
        pieces: Sequence[Piece],
        literals: tuple[Literal, ...],
        pool: SegmentPool,
        team: Team,
    ) -> ChunkOutput:
        first = self._parts[0]
        assert first.plan is not None
        assert first.costs is not None
        pieces = [piece for piece in pieces if piece.num_rows]
        rows, counter = sum(piece.num_rows for piece in pieces), Counter()
        counter.add_pass(first.costs, rows, rows, 0)
        packed, apart = self._pack(literals), replace(first, after=())

        def group(batch: pa.RecordBatch) -> pa.RecordBatch:
            return run_part(apart, batch, literals, packed, pool, defer=False).made

        row = in_a_row(first.plan, pieces, group, team)
        joined = row is not None
        if row is None:
            groups, dealt = merge(pieces, first.plan, pool, team)
            row = [groups], referenced_bytes([groups]) + dealt
        batches, copied = row
        counter.add_groups(first.costs, sum(batch.num_rows for batch in batches))
        work, why = counter.work(copied), _JOINED if joined else _MERGED
        if self._rest is None:
            made = ChunkOutput(pa.Table.from_batches(batches), rows, rows, 0, 0, why, work)
        else:
            made = self._rest.run_whole(batches, literals, pool)
            work = work + made.work
        copied += made.copied_bytes
        referenced = max(0, made.nbytes - copied) if joined else 0
        return ChunkOutput(
            made.batch, rows, rows, referenced, copied, why, work, made.fallbacks
        )  # fmt: skip

    def run_whole(
        self, batches: Sequence[pa.RecordBatch], literals: tuple[Literal, ...], pool: SegmentPool
    ) -> ChunkOutput:
        """Give what the program makes of batches that follow each other, as they lie if it may.

        Raises
        ------
        InputError
            If a value cannot be computed.
        """
        only = self._parts[0] if len(self._parts) == 1 else None
        plan = None if only is None else only.plan
        if only is None or plan is None:
            return self._run_together(batches, literals, pool)
        if len(batches) == 1:
            return self.run(batches[0], literals, pool)
        if not plan.keeps_rows or only.after:
            return self._run_together(batches, literals, pool)
        names = plan.kept_columns
        if names is not None:
            return _kept(batches, names, plan.out_schema)
        made = [self.run(batch, literals, pool) for batch in batches]
        rows = sum(one.rows_in for one in made)
        copied = sum(one.copied_bytes for one in made)
        return ChunkOutput(
            batch=pa.Table.from_batches([one.batch for one in made]),
            rows_in=rows,
            rows_selected=rows,
            referenced_bytes=sum(one.referenced_bytes for one in made),
            copied_bytes=copied,
            why=_why(self.stage, copied),
            work=reduce(add, (one.work for one in made)),
            fallbacks=tuple(reason for one in made for reason in one.fallbacks),
        )

    def _pack(self, literals: tuple[Literal, ...]) -> np.ndarray[Any, Any]:
        kept = self._packed
        if kept is not None and kept[0] is literals:
            return kept[1]
        packed = pack_literals(literals)
        if not any(isinstance(literal.value, Build) for literal in literals):
            # Programs outlive queries, and the rows of a join are too many to be kept so long.
            self._packed = (literals, packed)
        return packed


def render(
    stage: Stage,
    schema: pa.Schema,
    bounds: Mapping[str, tuple[int, int]],
    folder: Path | None = None,
) -> Program:
    """Give the program of `stage` for chunks of `schema`.

    Parameters
    ----------
    stage : Stage
        Resolved and lifted.
    bounds : mapping
        The smallest and largest unscaled integer of columns, over all chunks, where known: what
        lets decimals be computed in 64 bits.
    folder : Path, optional
        Where compiled objects are kept; the user's cache unless given.

    Raises
    ------
    InputError
        If the stage calls for an aggregate that no program computes.
    """
    place = object_folder() if folder is None else folder
    return _rendered(stage, schema.remove_metadata(), tuple(sorted(bounds.items())), place)


@lru_cache(maxsize=256)
def _rendered(stage: Stage, schema: pa.Schema, bounds: Any, folder: Path) -> Program:
    return Program(stage, schema, dict(bounds), folder)


def _parts(stage: Stage, schema: pa.Schema, bounds: Any, folder: Path) -> tuple[Part, ...]:
    found = [Part(None, None, None, ())]
    for number, step in enumerate(stage.steps):
        if isinstance(step, Pass):
            # Statistics speak of stored columns, so only of what the first step reads.
            plan = plan_pass(step, schema, bounds if number == 0 else {}, folder)
            found.append(Part(plan, Preparer(plan), costs_of(step), (), can_deal(plan)))
        else:
            found[-1] = replace(found[-1], after=(*found[-1].after, step))
        schema = output_schema(step, schema)
    return tuple(part for part in found if part.plan or part.after)


def _kept(
    batches: Sequence[pa.RecordBatch], names: tuple[str, ...], schema: pa.Schema
) -> ChunkOutput:
    """Give some columns of batches: what a pass over each gives, without looking at addresses."""
    table = pa.Table.from_batches(batches)
    made = pa.Table.from_arrays([table.column(name) for name in names], schema=schema)
    rows = made.num_rows
    return ChunkOutput(made, rows, rows, piece_bytes(made), 0, _REFERENCED, Work())


def _skeletons(step: Pass) -> str:
    match step.sink:
        case Rows():
            used = "filter.select, filter.compact" if step.predicate else "columns by reference"
        case Groups():
            used = "few.few, group_by.direct or group_by.hashed; runs, slots or radix if many"
        case Matches():
            used = "join.find, join.expand, filter.gather"
        case _:
            used = "aggregate.totals"
    return f"pass ({used})"


def _arrangement(step: Step) -> str:
    if isinstance(step, Order):
        keys = ", ".join(f"{k.column}{' descending' if k.descending else ''}" for k in step.by)
        if step.buckets is not None:
            return f"deal (buckets.number, buckets.deal) into {step.buckets} by {keys}"
        if step.count is None:
            return f"order (pyarrow sort_indices, filter.gather) by {keys}"
        return f"first {step.count} (top_k.candidates, filter.gather) by {keys}"
    assert isinstance(step, Take)
    return f"take first {step.count}"


def _why(stage: Stage, copied: int) -> str:
    if not copied:
        return PASSED
    sinks = [step.sink for step in stage.steps if isinstance(step, Pass)]
    if any(isinstance(sink, Groups) for sink in sinks):
        return "groups are written once"
    if any(isinstance(sink, Totals) for sink in sinks):
        return "totals are written once"
    if any(isinstance(step, Order) for step in stage.steps):
        return "rows are gathered in order"
    if any(isinstance(sink, Matches) for sink in sinks):
        return "joined rows are written once"
    tested = any(isinstance(step, Pass) and step.predicate is not None for step in stage.steps)
    return "rows that passed are compacted" if tested else "columns are computed"
