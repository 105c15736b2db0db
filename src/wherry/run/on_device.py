"""A share of chunks run on a device with memory of its own: loaded, run over, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from typing import Final, Protocol, TypeVar

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError, Retryable
from wherry.data.arrays import empty_batch
from wherry.data.chunk import ChunkRef, column_bytes
from wherry.data.source import Source
from wherry.data.vocabulary import Vocabulary
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
from wherry.render.encode import are_codes
from wherry.render.gather import Piece, batches_of, piece_bytes, places_of, several
from wherry.render.outcome import ChunkOutput
from wherry.render.reference import batch_take
from wherry.run.cells import CELL_ROWS, Cell
from wherry.run.feed import Feed
from wherry.run.given import Given, Read, Together
from wherry.run.held import Held, Wanted

AHEAD: Final = 2
"""Cells that are loaded while another is run over."""
M = TypeVar("M")
T = TypeVar("T")


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
        why = f" ({self.evidence.why})" if self.evidence.why else ""
        return tuple((f"loaded onto {self.device}: {way}{why}", n) for way, n in found if n)


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
        arrays = {name: _with_codes(batch.column(name), name) for name in plan.columns}
        share = begin(plan, facts_of(arrays), literals, card.constants, [batch.num_rows])
        columns = {n: put_column(card.device, arrays[n], kinds) for n, kinds in share.uses.items()}
        share.add(columns, batch.num_rows)
        given = {name: [batch.column(name)] for name in stage.kept.values()}
        made = _cut([added(stage, each, given) for each in share.finish()], stage)
    texts = sum(column_bytes(batch.column(name)) for name in stage.costs.texts)
    work = _counted(stage, batch.num_rows, share.selected, texts)
    return _output(card, stage, made, work)


def _with_codes(array: pa.Array, name: str) -> pa.Array:
    """Give an array, of a dictionary with every value once: then codes are as good as values."""
    t = array.type
    if not pa.types.is_dictionary(t) or are_codes(array.dictionary):
        return array
    words = Vocabulary(t, name)
    codes = words.codes(array)
    return pa.DictionaryArray.from_arrays(codes, words.texts, ordered=t.ordered, safe=False)


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
        *ways, last = _ways(card.cell_rows)
        for way in ways:
            try:
                return run(Running(card, asked, way))
            except Retryable:
                # There was no room: whatever else lies there goes, and it is begun anew.
                card.held.clear()
        return run(Running(card, asked, last))


def hold(card: Card, source: Source, names: tuple[str, ...], read: Read) -> Loaded:
    """Load all rows of columns, which stay there as long as the source does.

    Raises
    ------
    InputError
        If the source is decoded when it is read.
    Retryable
        If there is no room for them.
    """
    if source.decodes:
        raise InputError(
            f"{source.name} is decoded whenever it is read, and a device keeps what is stored as "
            "it is used; possible: an Arrow IPC file without compression, or a table"
        )
    with card.held.lock:
        given = Given(card.held, source, names, (), read)
        wanted = tuple(Wanted(name, whole=True) for name in names)
        evidence = Evidence()
        for each in given.together(source.chunks(), card.cell_rows):
            feed = Feed(
                held=card.held,
                reader=card.reader,
                source=source,
                wanted=wanted,
                cells=each.cells,
                facts=given.facts(each),
                read=given.arrays,
                spare=lambda: 0,
                keeps=True,
                ahead=AHEAD,
            )
            feed.keep()
            evidence += feed.evidence()
        card.held.stay(source, wanted)
    return Loaded(card.device.name, evidence)


class _Way(Struct, frozen=True):
    """How much memory is used: what is kept, how many rows are loaded at a time and ahead."""

    keeps: bool
    cell_rows: int
    ahead: int


@cache
def _ways(cell_rows: int) -> tuple[_Way, ...]:
    """Give ways that need less and less memory, all with the same answer."""
    found = [_Way(True, cell_rows, AHEAD)]
    while cell_rows > SPAN:
        found.append(_Way(False, cell_rows, AHEAD))
        cell_rows = max(SPAN, cell_rows // 4 // SPAN * SPAN)
    return (*found, _Way(False, SPAN, AHEAD), _Way(False, SPAN, 0))


class Running:
    """Chunks on their way through a device.

    Attributes
    ----------
    texts : int
        Bytes that were run over until now of columns whose size rows do not tell.
    evidence : Evidence
        What was loaded until now.
    """

    def __init__(self, card: Card, asked: Asked, way: _Way) -> None:
        self.card, self.asked, self.way = card, asked, way
        self.plan, self.source = asked.stage.plan, asked.source
        self.given = Given(
            card.held, asked.source, self.plan.order, asked.stage.costs.texts, asked.read
        )
        self.texts, self.evidence = 0, Evidence()

    def run(self) -> tuple[ChunkOutput, Loaded]:
        """Run over the chunks."""
        batches, selected = list[pa.RecordBatch](), 0
        for share, pieces in self.shares(begin):
            batches += self._whole(share.finish(), pieces)
            selected += share.selected
        made = _cut(batches, self.asked.stage)
        given = sum(ref.rows for ref in self.asked.refs)
        work = _counted(self.asked.stage, given, selected, self.texts)
        return _output(self.card, self.asked.stage, made, work), Loaded(
            self.card.device.name, self.evidence
        )

    def shares(self, start: Begin[M]) -> Iterator[tuple[Share[M], list[tuple[Cell, ...]]]]:
        """Give shares, each once all of its rows are added; and the cells of each piece."""
        literals, constants = self.asked.literals, self.card.constants
        for each in self.given.together(tuple(self.asked.refs), self.way.cell_rows):
            facts = self.given.facts(each)
            share = start(self.plan, facts, literals, constants, each.runs)
            feed, pieces = self._feed(share, each, facts), list[tuple[Cell, ...]]()
            with closing(feed.rows(partial(self._most_rows, each, facts))) as every:
                for rows in every:
                    share.add(rows.columns, rows.rows)
                    pieces.append(rows.cells)
            yield share, pieces
            self.texts += each.texts
            self.evidence += feed.evidence()

    def _feed(self, share: Share[M], each: Together, facts: Mapping[str, ColumnFacts]) -> Feed:
        held = self.card.held
        wanted = tuple(
            Wanted(name, bool(kinds - {"valid", "from"}) or held.stays(self.source, (name,)))
            for name, kinds in share.uses.items()
        )
        rows, chip = self.way.cell_rows, self.card.device.shared_bytes
        spare = partial(room_bytes, self.plan, facts, each.runs, rows, chip)
        return Feed(
            held=held,
            reader=self.card.reader,
            source=self.source,
            wanted=wanted,
            cells=each.cells,
            facts=facts,
            read=self.given.arrays,
            spare=spare,
            keeps=self.way.keeps,
            ahead=self.way.ahead,
        )

    def _most_rows(self, each: Together, facts: Mapping[str, ColumnFacts]) -> int:
        """Give how many rows that lie there are run over at once: what they take has room."""
        runs, rows, most = each.runs, self.way.cell_rows, max(each.runs, default=0)
        free, chip = self.card.device.free_bytes() // 2, self.card.device.shared_bytes
        while rows < most and room_bytes(self.plan, facts, runs, 2 * rows, chip) <= free:
            rows *= 2
        return rows

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
            parts = [part for cell in cells for part in self.given.parts(cell)]
            found.append(added(stage, batch, {n: [p.column(n) for p in parts] for n in names}))
        return found


def _cut(batches: list[pa.RecordBatch], stage: CudaStage) -> Piece:
    """Give batches as a piece, of the rows only that the stage orders or takes."""
    if any(isinstance(step, Order) for step in stage.after):
        whole = pa.concat_batches(batches or [empty_batch(stage.output)])
        columns = dict(zip(whole.schema.names, whole.columns, strict=True))
        return batch_take(whole, pa.array(places_of(columns, whole.num_rows, stage.after)))
    if not stage.after:
        return several(batches)
    kept = list[pa.RecordBatch]()
    left = min(step.count for step in stage.after if isinstance(step, Take))
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


def _output(card: Card, stage: CudaStage, made: Piece, work: _Work) -> ChunkOutput:
    """Give what was made; dictionaries are those that lie on the host, and not written."""
    columns = [column for batch in batches_of(made) for column in batch.columns]
    copied = sum(column_bytes(column, dictionary=False) for column in columns)
    why = f"written on {card.device.name}, and copied from there"
    if stage.kept:
        why += f"; {', '.join(sorted(stage.kept))} picked on the host"
    counted, referenced = work.counter.work(copied), piece_bytes(made) - copied
    return ChunkOutput(made, work.rows, work.selected, referenced, copied, why, counted)
