"""A share of chunks run on a device with memory of its own: loaded, run over, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Retryable
from wherry.data.chunk import ChunkRef, column_bytes
from wherry.data.source import Source
from wherry.devices.accelerator import Accelerator
from wherry.devices.loading import WAYS, DeviceReader, Evidence
from wherry.ir.expr import Literal
from wherry.ir.stage import Order, Take
from wherry.ir.work import Counter
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import ColumnFacts, facts_of, put_column
from wherry.render.cuda.program import CudaPass
from wherry.render.cuda.room import room_bytes
from wherry.render.cuda.share import Share, begin
from wherry.render.cuda.stage import CudaStage, added
from wherry.render.cuda.totals import SPAN
from wherry.render.gather import Piece, piece_bytes, places_of, several
from wherry.render.outcome import ChunkOutput
from wherry.render.reference import batch_take
from wherry.run.cells import CELL_ROWS, Cell, cells_of
from wherry.run.feed import Arrays, Feed
from wherry.run.held import Held, Wanted

AHEAD: Final = 2
"""Cells that are loaded while another is run over."""

M = TypeVar("M")
T = TypeVar("T")
Read = Callable[[ChunkRef], pa.RecordBatch]


class Begin(Protocol[M]):
    """Begins shares, as `wherry.render.cuda.share.begin` does."""

    def __call__(
        self,
        plan: CudaPass,
        facts: Mapping[str, ColumnFacts],
        literals: tuple[Literal, ...],
        constants: Constants,
        runs: Sequence[int],
    ) -> Share[M]:
        """Give a share that is ready for its first piece."""


class Loaded(Struct, frozen=True):
    """What was loaded onto a device for a share.

    Attributes
    ----------
    device : str
    evidence : Evidence
        Bytes by the way they took.
    """

    device: str
    evidence: Evidence

    @property
    def whys(self) -> tuple[tuple[str, int], ...]:
        """Give the bytes by the ledger's reasons."""
        found = ((way, getattr(self.evidence, way)) for way in WAYS)
        return tuple((f"loaded onto {self.device}: {way}", n) for way, n in found if n)


class Card(Struct):
    """A device with memory of its own that is really there, and what it holds.

    Attributes
    ----------
    reader : DeviceReader
        Brings bytes there.
    constants : Constants
        What programs keep there.
    cell_rows : int
        Rows that are loaded at a time: whole spans of a sum (`wherry.render.cuda.totals.SPAN`).
    """

    device: Accelerator
    reader: DeviceReader
    held: Held
    constants: Constants
    cell_rows: int = CELL_ROWS


def card_of(device: Accelerator, reader: DeviceReader, cell_rows: int = CELL_ROWS) -> Card:
    """Give a device that holds nothing yet."""
    return Card(device, reader, Held(device), Constants(device), cell_rows)


def run_batch(
    card: Card, stage: CudaStage, batch: pa.RecordBatch, literals: tuple[Literal, ...]
) -> ChunkOutput:
    """Give what a stage makes of rows of the host, all of which go to the device at once."""
    plan = stage.plan
    with card.held.lock:
        arrays = {name: batch.column(name) for name in plan.columns}
        share = begin(plan, facts_of(arrays), literals, card.constants, [batch.num_rows])
        columns = {n: put_column(card.device, arrays[n], kinds) for n, kinds in share.uses.items()}
        share.add(columns, batch.num_rows)
        given = {name: [batch.column(name)] for name in stage.kept.values()}
        made = _cut([added(stage, each, given) for each in share.finish()], stage)
    texts = sum(column_bytes(batch.column(name)) for name in stage.costs.texts)
    work = _counted(stage, batch.num_rows, share.selected, texts)
    return _output(card, made, work)


class Asked(Struct, frozen=True):
    """A stage to be run over chunks of a source.

    Attributes
    ----------
    read : callable
        Gives the columns of a chunk.
    """

    stage: CudaStage
    literals: tuple[Literal, ...]
    source: Source
    refs: Sequence[ChunkRef]
    read: Read


def run_chunks(card: Card, asked: Asked) -> tuple[ChunkOutput, Loaded]:
    """Give what a stage makes of chunks, and what had to be loaded for it.

    Raises
    ------
    InputError
        If a value cannot be computed, or dictionaries of a column have too many values together.
    Retryable
        If the device has no room for a few cells of the columns.
    """
    return in_some_way(card, asked, lambda running: running.run())


def in_some_way(card: Card, asked: Asked, run: Callable[[Running], T]) -> T:
    """Give what comes of a stage over chunks, done in whichever way there is memory for."""
    with card.held.lock:
        ways = list(_ways(card.cell_rows))
        for way in ways:
            try:
                return run(Running(card, asked, way))
            except Retryable:
                if way is ways[-1]:
                    raise
                # There was no room: whatever else lies there goes, and it is begun anew.
                card.held.clear()
    raise AssertionError


class _Way(Struct, frozen=True):
    """How much memory is used: what is kept, how many rows are loaded at a time and ahead."""

    keeps: bool
    cell_rows: int
    ahead: int


def _ways(cell_rows: int) -> Iterator[_Way]:
    """Give ways that need less and less memory, all with the same answer."""
    yield _Way(True, cell_rows, AHEAD)
    while cell_rows > SPAN:
        yield _Way(False, cell_rows, AHEAD)
        cell_rows = max(SPAN, cell_rows // 4 // SPAN * SPAN)
    yield _Way(False, SPAN, AHEAD)
    yield _Way(False, SPAN, 0)


class Running:
    """Chunks on their way through a device.

    Attributes
    ----------
    evidence : Evidence
        What was loaded until now.
    """

    def __init__(self, card: Card, asked: Asked, way: _Way) -> None:
        self.card, self.asked, self.way = card, asked, way
        self.plan = asked.stage.plan
        self.cells = cells_of(asked.source, asked.refs, way.cell_rows)
        self.texts = 0
        self.evidence = Evidence()
        self._last: tuple[ChunkRef, pa.RecordBatch] | None = None

    def run(self) -> tuple[ChunkOutput, Loaded]:
        """Run the share."""
        batches, selected = list[pa.RecordBatch](), 0
        for share, pieces in self.shares(begin):
            batches += self._whole(share.finish(), pieces)
            selected += share.selected
        made = _cut(batches, self.asked.stage)
        given = sum(ref.rows for ref in self.asked.refs)
        work = _counted(self.asked.stage, given, selected, self.texts)
        return _output(self.card, made, work), Loaded(self.card.device.name, self.evidence)

    def shares(self, start: Begin[M]) -> Iterator[tuple[Share[M], list[tuple[Cell, ...]]]]:
        """Give shares, each once all of its rows are added; and the cells of each piece."""
        groups = [[cell] for cell in self.cells] if self.asked.source.decodes else [self.cells]
        for cells in groups or [()]:
            facts = self._facts(cells)
            literals, constants = self.asked.literals, self.card.constants
            share = start(self.plan, facts, literals, constants, runs_of(cells))
            feed = self._feed(share, cells, facts)
            pieces = list[tuple[Cell, ...]]()
            with closing(feed.rows(self._most_rows(cells, facts))) as every:
                for rows in every:
                    share.add(rows.columns, rows.rows)
                    pieces.append(rows.cells)
            yield share, pieces
            self.evidence += feed.evidence()

    def _whole(
        self, made: list[pa.RecordBatch], pieces: Sequence[Sequence[Cell]]
    ) -> list[pa.RecordBatch]:
        """Give what came of pieces, with the columns that the host adds."""
        stage = self.asked.stage
        if not stage.kept:
            return made
        names = tuple(dict.fromkeys(stage.kept.values()))
        found = []
        for batch, cells in zip(made, pieces, strict=True):
            parts = [part for cell in cells for part in self._parts(cell)]
            found.append(added(stage, batch, {n: [p.column(n) for p in parts] for n in names}))
        return found

    def _parts(self, cell: Cell) -> Iterator[pa.RecordBatch]:
        """Give what the host has of a cell's rows."""
        for part in cell.parts:
            yield self._chunk(part.ref).slice(part.offset, part.rows)

    def _feed(
        self, share: Share[Any], cells: Sequence[Cell], facts: Mapping[str, ColumnFacts]
    ) -> Feed:
        wanted = tuple(
            Wanted(name, whole=bool(kinds - {"valid", "from"}))
            for name, kinds in share.uses.items()
        )
        spare = room_bytes(
            self.plan, facts, runs_of(cells), self.way.cell_rows, self.card.device.shared_bytes
        )
        return Feed(
            held=self.card.held,
            reader=self.card.reader,
            source=self.asked.source,
            wanted=wanted,
            cells=tuple(cells),
            facts=facts,
            read=self._arrays,
            spare=spare,
            keeps=self.way.keeps,
            ahead=self.way.ahead,
        )

    def _most_rows(self, cells: Sequence[Cell], facts: Mapping[str, ColumnFacts]) -> int:
        """Give how many rows that lie there are run over at once: what they take has room."""
        runs, rows = runs_of(cells), self.way.cell_rows
        free, chip = self.card.device.free_bytes() // 2, self.card.device.shared_bytes
        most = max(runs, default=0)
        while rows < most and room_bytes(self.plan, facts, runs, 2 * rows, chip) <= free:
            rows *= 2
        return rows

    def _facts(self, cells: Sequence[Cell]) -> dict[str, ColumnFacts]:
        nulls = set[str]()
        for cell in cells:
            for name, arrays in self._arrays(cell).items():
                if any(array.null_count for array in arrays):
                    nulls.add(name)
        return {name: ColumnFacts(name in nulls, self._texts(name)) for name in self.plan.order}

    def _texts(self, name: str) -> pa.Array | None:
        t = self.plan.schema.field(name).type
        if not pa.types.is_dictionary(t):
            return None
        return self.card.held.words(self.asked.source, name, t).texts

    def _arrays(self, cell: Cell) -> Arrays:
        """Give what a cell has on the host; codes are those of the device."""
        found: dict[str, list[pa.Array]] = {name: [] for name in self.plan.order}
        for batch in self._parts(cell):
            for name, arrays in found.items():
                column = batch.column(name)
                if pa.types.is_dictionary(column.type):
                    words = self.card.held.words(self.asked.source, name, column.type)
                    column = words.codes(column)
                arrays.append(column)
        return found

    def _chunk(self, ref: ChunkRef) -> pa.RecordBatch:
        if self._last is None or self._last[0] != ref:
            self._last = ref, self.asked.read(ref)
        return self._last[1]


def runs_of(cells: Sequence[Cell]) -> list[int]:
    """Give how many rows follow each other, whole cells but for the last of each run."""
    found: list[int] = []
    before: Cell | None = None
    for cell in cells:
        if before is not None and cell.goes_on(before):
            found[-1] += cell.rows
        else:
            found.append(cell.rows)
        before = cell
    return found


def _cut(batches: list[pa.RecordBatch], stage: CudaStage) -> Piece:
    """Give batches as a piece, of the rows only that the stage orders or takes."""
    if any(isinstance(step, Order) for step in stage.after):
        whole = pa.concat_batches(batches)
        columns = dict(zip(whole.schema.names, whole.columns, strict=True))
        return batch_take(whole, pa.array(places_of(columns, whole.num_rows, stage.after)))
    if not stage.after:
        return several(batches)
    kept, left = (
        list[pa.RecordBatch](),
        min(step.count for step in stage.after if isinstance(step, Take)),
    )
    for batch in batches:
        kept.append(batch.slice(0, left))
        left -= kept[-1].num_rows
    return several(kept)


class _Work(Struct, frozen=True):
    """What a stage did, but for what it wrote."""

    rows: int
    selected: int
    counter: Counter


def _counted(stage: CudaStage, rows: int, selected: int, texts: int) -> _Work:
    counter = Counter()
    counter.add_pass(stage.costs, rows, selected, texts)
    counter.add_after(stage.after, selected)
    return _Work(rows, selected, counter)


def _output(card: Card, made: Piece, work: _Work) -> ChunkOutput:
    copied = piece_bytes(made)
    why = f"written on {card.device.name}, and copied from there"
    counted = work.counter.work(copied)
    return ChunkOutput(made, work.rows, work.selected, 0, copied, why, counted)
