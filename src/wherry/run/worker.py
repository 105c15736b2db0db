"""A device's side of a hop: receive a message, know its plan, run its segments on its chunks.

A worker trusts nothing but its key: plans arrive as bytes and are kept by the digest it computed,
messages are opened with the key, datasets are looked up by name and must be what the plan saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import CorruptError, InputError, Retryable
from wherry.base.memo import Memo
from wherry.data.arrays import empty_batch
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Decoding, Reading, reading_of
from wherry.data.encoded import encode
from wherry.data.late import LateRows
from wherry.data.segment import SegmentPool
from wherry.data.source import Source
from wherry.data.types import Plain, from_plain, value_type
from wherry.devices.driver import Driver, Execution
from wherry.ir.build import Build, Image, known_of
from wherry.ir.expr import Literal, Parameter
from wherry.ir.literals import bind
from wherry.ir.stage import Order, Take
from wherry.ir.types import build_type, is_build
from wherry.ir.work import encoding_work, reading_work
from wherry.plan.chunks import needed_chunks
from wherry.plan.fits import (
    check_bounds,
    check_constant,
    check_fits,
    check_rows,
    check_written,
)
from wherry.plan.query import Plan, segment_schemas
from wherry.render.apart import apart
from wherry.render.cuda.stage import CudaStage
from wherry.render.dealt import continues
from wherry.render.gather import Piece, batches_of, parts_of, piece_bytes
from wherry.render.join_table import table_of
from wherry.render.outcome import ChunkOutput, passed_on, together
from wherry.render.program import Program
from wherry.render.share import Bound
from wherry.render.share_top import BoundOrder
from wherry.render.team import Team, alone, each
from wherry.run.continuation import Continuation, thaw
from wherry.run.installed import Installed, installed, on_card, program_of
from wherry.run.on_device import Asked, Card, Loaded, run_batch, run_chunks
from wherry.run.shares import units


class MissingPlan(Retryable):
    """The device has not seen the plan yet; send its bytes and then the message again."""


class MissingBuild(Retryable):
    """The device lacks the rows of a build that a stage joins with; `digest` names them."""

    def __init__(self, device: str, digest: bytes) -> None:
        super().__init__(f"{device} lacks the rows {digest.hex()} of a join")
        self.digest = digest


_MOST_VALUES: Final = 256
_routes = Memo(64)
_bounds = Memo(16)
_fitting = Memo(256)
"""Of a source: chunks that a query needs, chunks bound for a program, and stored batches that a
plan was found to fit."""


class Hop(Struct, frozen=True):
    """A received continuation with its plan, its literals and the chunks it names at hand."""

    continuation: Continuation
    installed: Installed
    literals: tuple[Literal, ...]
    chunks: frozenset[ChunkRef]

    @property
    def plan(self) -> Plan:
        """The plan that the continuation names."""
        return self.installed.plan

    @property
    def segments(self) -> tuple[int, int]:
        """The first and last segment to run here."""
        return self.continuation.first, self.continuation.last


class Worker(Struct):
    """What runs on a device, emulated or real.

    Attributes
    ----------
    driver : Driver
        Runs programs.
    datasets : sequence of Source
        What the device can read; a plan names one, and says by its fingerprint which rows it saw.
    key : bytes
        Seals messages.
    pool : SegmentPool
        Where results are written.
    plans, builds : dict
        What was installed, by digest.
    card : callable, optional
        Gives the device with memory of its own that programs run on, if they do.
    """

    driver: Driver
    datasets: Sequence[Source]
    key: bytes
    pool: SegmentPool
    plans: dict[bytes, Installed] = field(default_factory=dict)
    builds: dict[bytes, Build] = field(default_factory=dict)
    card: Callable[[], Card] | None = None

    def install(self, plan_bytes: bytes) -> None:
        """Keep a plan by the digest of its bytes.

        Raises
        ------
        CorruptError, Refused
            If the bytes are not a plan that programs may be made of.
        """
        found = installed(plan_bytes)
        self.plans[found.digest] = found

    def keep(self, build: Build) -> None:
        """Keep the rows that a join is made with by their digest, and make the table of their keys.

        What arrived as bytes has the digest that `wherry.ir.build.received` computed of them.
        """
        self.builds[build.digest] = build
        table_of(build)

    def receive(self, message: bytes) -> Hop:
        """Open a message and find its plan, and the builds that its segments read.

        Raises
        ------
        MissingPlan
            If the plan is not installed here.
        MissingBuild
            If a build is not here.
        CorruptError
            If the message is not whole, or does not fit its plan.
        """
        continuation = thaw(message, self.key)
        known = self.plans.get(continuation.plan)
        if known is None:
            raise MissingPlan(f"{self.driver.name} lacks plan {continuation.plan.hex()}")
        plan = known.plan
        if not continuation.first <= continuation.last < len(plan.segments):
            raise CorruptError(
                f"continuation: segments {continuation.first}..{continuation.last} of a plan "
                f"with {len(plan.segments)}"
            )
        if len(continuation.sites) != len(plan.segments):
            raise CorruptError(
                f"continuation: {len(continuation.sites)} sites for {len(plan.segments)} segments"
            )
        literals = self._literals(continuation, known)
        return Hop(continuation, known, literals, frozenset(continuation.chunks))

    def _literals(self, continuation: Continuation, installed: Installed) -> tuple[Literal, ...]:
        # As text, because 0.0 and -0.0 are equal.
        written = repr(continuation.values)
        if written in installed.literals:
            return installed.literals[written]
        wanted = installed.facts.parameters
        if len(wanted) != len(continuation.values):
            raise CorruptError(
                f"continuation: {len(continuation.values)} values for {len(wanted)} parameters"
            )
        joins = any(is_build(p.type) for p in wanted)
        read = installed.read(continuation.first, continuation.last) if joins else frozenset()
        found = tuple(
            self._constant(value, p, installed.facts.keys.get(p.index, 0), rows=p.index in read)
            for p, value in zip(wanted, continuation.values, strict=True)
        )
        if joins:
            # Plans outlive queries, and the rows of a join are too many to be kept so long.
            return found
        if len(installed.literals) >= _MOST_VALUES:
            installed.literals.clear()
        installed.literals[written] = found
        return found

    def _constant(
        self, value: Plain | Image, wanted: Parameter, keys: int, *, rows: bool
    ) -> Literal:
        """Give a constant; of a build whose rows are not read only what is known of it.

        Parameters
        ----------
        keys : int
            How many keys the plan compares with a build's.
        """
        t = wanted.type
        if isinstance(value, Image) != is_build(t):
            raise CorruptError(f"continuation: {type(value).__name__} for a parameter of type {t}")
        if not isinstance(value, Image):
            return check_constant(wanted, from_plain(value, value_type(t)))
        columns = [field.type for field in t.value_type]
        if len(value.bounds) != keys:
            raise CorruptError(f"continuation: {len(value.bounds)} keys of a join by {keys}")
        if not rows:
            return Literal(known_of(value, columns[:keys]), t)
        build = self.builds.get(value.digest)
        if build is None:
            raise MissingBuild(self.driver.name, value.digest)
        if build_type(build.batch.schema) != t or build.known.keys != keys:
            raise CorruptError(f"the rows {value.digest.hex()} of a join do not fit the plan")
        return Literal(build, t)

    def _source(self, hop: Hop) -> Source:
        named = [source for source in self.datasets if source.name == hop.plan.dataset]
        for source in named:
            if source.fingerprint == hop.plan.fingerprint:
                self._batches_fitting(hop, source)
                return source
        if named:
            raise InputError(f"dataset {hop.plan.dataset!r} changed after the query was planned")
        known = ", ".join(sorted({source.name for source in self.datasets})) or "none"
        raise InputError(
            f"{self.driver.name} has no dataset {hop.plan.dataset!r}; datasets: {known}"
        )

    def _batches_fitting(self, hop: Hop, source: Source) -> set[tuple[int, int]]:
        """Give the stored batches of which the plan's bounds are true, as far as is known yet."""

        def fits() -> set[tuple[int, int]]:
            check_fits(hop.plan, source)
            return set()

        found: set[tuple[int, int]] = _fitting.get(source, hop.installed.digest, fits)
        return found

    def route(self, hop: Hop) -> tuple[ChunkRef, ...]:
        """Choose the chunks that can hold an answer: the routing segment.

        Those that the continuation names are done already.
        """
        source = self._source(hop)
        source.chunks()  # refuses files that were changed
        needed: tuple[ChunkRef, ...] = _routes.get(
            source, (hop.installed.digest, hop.literals), lambda: _needed(source, hop)
        )
        return tuple(ref for ref in needed if ref not in hop.chunks) if hop.chunks else needed

    def read(self, hop: Hop, ref: ChunkRef) -> pa.RecordBatch:
        """Give the plan's columns of a chunk, by reference unless `decoding` says otherwise.

        Raises
        ------
        InputError
            If the continuation does not name the chunk: a device reads what its message says.
        CorruptError
            If the plan's bounds are not true of it.
        """
        self._check_named(hop, (ref,))
        return self._source(hop).read(ref, [name for name, _ in hop.plan.fields])

    def _check_named(self, hop: Hop, refs: Sequence[ChunkRef]) -> None:
        for ref in refs:
            if ref not in hop.chunks:
                raise InputError(f"{self.driver.name}: the continuation does not name {ref}")
        if hop.plan.bounds:
            source = self._source(hop)
            fitting = self._batches_fitting(hop, source)
            for ref in refs:
                if (ref.fragment, ref.batch) not in fitting:
                    check_bounds(hop.plan, source, ref)
                    fitting.add((ref.fragment, ref.batch))

    def check_pieces(self, hop: Hop, pieces: Sequence[Piece]) -> None:
        """Refuse pieces that came from elsewhere and are not what the continuation's segments take.

        Every column of them was checked (`wherry.data.validate.check_batch`).

        Raises
        ------
        CorruptError
            If they are not written rows of the columns that go in, or lie about their values.
        """
        first = hop.continuation.first
        schema, ranges = segment_schemas(hop.plan)[first], hop.installed.facts.ranges[first]
        bounded = hop.installed.place(first) == 0
        for part in parts_of(pieces):
            if not isinstance(part, pa.RecordBatch | pa.Table):
                raise CorruptError(f"a piece is a {type(part).__name__}, and no rows")
            check_rows(hop.plan, schema, ranges, batches_of(part), bounded=bounded)

    def _check_written(self, hop: Hop, rows: int) -> None:
        written = hop.installed.facts.written
        if written:
            check_written((hop.literals[index].value for index in written), rows)

    def decoding(self, hop: Hop, ref: ChunkRef) -> tuple[Decoding, ...]:
        """Give what reading the plan's columns of a chunk takes that is not a reference."""
        return self._source(hop).decoding(ref, [name for name, _ in hop.plan.fields])

    def decoded(self, hop: Hop, ref: ChunkRef) -> tuple[pa.RecordBatch, Reading | None]:
        """Read a chunk; give what that came to as well, if something was decoded."""
        batch, decodings = self.read(hop, ref), self.decoding(hop, ref)
        return batch, reading_of(batch, decodings) if decodings else None

    def run(self, hop: Hop, piece: Piece, reading: Reading | None = None) -> Execution[ChunkOutput]:
        """Run the continuation's segments over a piece.

        Parameters
        ----------
        reading : Reading, optional
            What it took to have the chunk in memory: the work of the device that uses it first.
        """

        def task() -> ChunkOutput:
            # Of a share that nothing came of there is no part.
            parts = parts_of([piece]) or [empty_batch(self._schema(hop))]
            outputs = [self._output(hop, part, reading) for part in parts]
            return self._encoded(hop, together(outputs))

        return self.driver.execute(task, lambda: piece_bytes(piece))

    def _output(self, hop: Hop, batch: pa.RecordBatch, reading: Reading | None) -> ChunkOutput:
        self._check_written(hop, batch.num_rows)
        if self.card is not None:
            output = run_batch(self.card(), self._on_card(hop), batch, hop.literals)
        else:
            program, defer = self.program(hop), self._defers(hop)
            output = program.run(batch, hop.literals, self.pool, defer=defer)
        if reading is None:
            return output
        output = apart(output, batch, self.pool)
        return replace(output, work=output.work + reading_work(reading), packed=reading.packed)

    def run_share(
        self, hop: Hop, refs: Sequence[ChunkRef], team: Team
    ) -> tuple[Execution[ChunkOutput], Sequence[Reading | Loaded]]:
        """Read chunks and run the continuation's segments over them, on all threads of `team`.

        Where chunks lie ready they are bound together, otherwise whoever runs a chunk reads it;
        what reading came to is given too, and what was loaded onto a device.
        """
        if self.card is not None:
            return self._run_on_card(self.card(), hop, refs)
        program, readings = self.program(hop), dict[int, list[Reading]]()

        def task() -> ChunkOutput:
            defers = self._defers(hop)
            binds = program.binds and (program.groups or not defers)
            orders = program.orders and defers
            self._check_written(hop, max((ref.rows for ref in refs), default=0))
            bound = self._bound(hop, program, refs) if binds or orders else None
            if bound is not None:
                made = program.run_bound(bound, hop.literals, self.pool, team, defer=defers)
                if made is not None:
                    return self._encoded(hop, made)
            todo = self._units(hop, program, refs)

            def one(number: int) -> ChunkOutput:
                unit, late = todo[number]
                readings[number] = found = list[Reading]()
                return self._read_and_run(hop, unit, late, found)

            return self._encoded(hop, together(each(team, len(todo), one)))

        execution = self.driver.execute(task, lambda: 0)
        return execution, [reading for number in sorted(readings) for reading in readings[number]]

    def _run_on_card(
        self, card: Card, hop: Hop, refs: Sequence[ChunkRef]
    ) -> tuple[Execution[ChunkOutput], Sequence[Reading | Loaded]]:
        readings, stage = list[Reading | Loaded](), self._on_card(hop)
        source = self._source(hop)
        self._check_written(hop, max((ref.rows for ref in refs), default=0))

        def read(ref: ChunkRef) -> pa.RecordBatch:
            batch, reading = self.decoded(hop, ref)
            readings.extend([] if reading is None else [reading])
            return batch

        def task() -> ChunkOutput:
            asked = Asked(stage, hop.literals, source, refs, read)
            output, loaded = run_chunks(card, asked)
            readings.append(loaded)
            return self._encoded(hop, output)

        return self.driver.execute(task, lambda: 0), readings

    def _units(
        self, hop: Hop, program: Program, refs: Sequence[ChunkRef]
    ) -> list[tuple[Sequence[ChunkRef], LateRows | None]]:
        """Give what is read and run at a time: a chunk, or several whose columns are read late."""
        source, names = self._source(hop), [name for name, _ in hop.plan.fields]
        if not (program.reads_late and source.decodes):
            return [((ref,), None) for ref in refs]
        found = list[tuple[Sequence[ChunkRef], LateRows | None]]()
        for unit in units(refs):
            self._check_named(hop, unit)
            late = source.late(unit, names)
            found += [(unit, late)] if late is not None else [((ref,), None) for ref in unit]
        return found

    def _read_and_run(
        self, hop: Hop, unit: Sequence[ChunkRef], late: LateRows | None, readings: list[Reading]
    ) -> ChunkOutput:
        """Run a program over chunks; what reading came to is added to `readings`."""
        if late is not None:
            program, defer = self.program(hop), self._defers(hop)
            self._check_written(hop, late.rows)
            made = program.run_late(late, hop.literals, self.pool, defer=defer)
            readings.append(late.reading())
            if made is not None:
                output = apart(*made, self.pool)
                return replace(output, work=output.work + reading_work(readings[-1]))
        outputs = []
        for ref in unit:
            batch, reading = self.decoded(hop, ref)
            readings += [] if reading is None else [reading]
            outputs.append(self._output(hop, batch, reading))
        return together(outputs)

    def _bound(
        self, hop: Hop, program: Program, refs: Sequence[ChunkRef]
    ) -> Bound | BoundOrder | None:
        if self._source(hop).decodes:
            return None
        literals = hop.literals if program.looks_up else ()
        key = (hop.installed.digest, hop.segments, tuple(refs), literals)
        return _bounds.get(self._source(hop), key, lambda: self._bind(hop, program, refs))

    def _bind(
        self, hop: Hop, program: Program, refs: Sequence[ChunkRef]
    ) -> Bound | BoundOrder | None:
        return program.bind([self.read(hop, ref) for ref in refs], hop.literals)

    def run_gathered(
        self, hop: Hop, pieces: Sequence[Piece], team: Team = alone
    ) -> Execution[ChunkOutput]:
        """Run the continuation's segments over everything that has come together.

        Raises
        ------
        InputError
            If the device has memory of its own: its programs take chunks.
        """
        if self.card is not None and hop.installed.runs_something(*hop.segments):
            raise InputError(f"{self.driver.name} runs over chunks, not over what came of them")
        program = self.program(hop)

        def task() -> ChunkOutput:
            if program.stage.steps:
                self._check_written(hop, max((p.num_rows for p in parts_of(pieces)), default=0))
                made = program.run_gathered(pieces, hop.literals, self.pool, team)
            else:
                made = passed_on(pieces)
            return self._encoded(hop, made)

        return self.driver.execute(task, lambda: sum(map(piece_bytes, pieces)))

    def _encoded(self, hop: Hop, output: ChunkOutput) -> ChunkOutput:
        """Give what was made as a stream, if the last segment here says so."""
        encoding = hop.plan.segments[hop.continuation.last].encoding
        if encoding is None:
            return output
        schema = segment_schemas(hop.plan)[hop.continuation.last]
        stream = encode(batches_of(output.batch), schema, encoding, self.pool)
        work = encoding_work(encoding, output.nbytes, stream.nbytes)
        return replace(output, batch=stream, work=output.work + work)

    def _defers(self, hop: Hop) -> bool:
        """Tell whether what follows runs here too and takes rows that are not written yet.

        Rows dealt into buckets are written where they are dealt: what follows refers to them.
        """
        following = hop.continuation.last + 1
        if following >= len(hop.plan.segments):
            return False
        segment, site = hop.plan.segments[following], hop.continuation.sites[following]
        here = site == self.driver.name
        if not here or segment.kind != "merge":
            return False
        step, before = segment.steps[0], hop.plan.segments[hop.continuation.last].steps
        if isinstance(step, Order):
            return step.buckets is None
        return isinstance(step, Take) or continues(before[-1] if before else None, step)

    def residuals(self, hop: Hop) -> tuple[str, ...]:
        """Give what of the continuation's segments has no native program here, and why."""
        return () if self.card is not None else self.program(hop).residuals

    def _schema(self, hop: Hop) -> pa.Schema:
        """Give the columns that the continuation's segments take."""
        return segment_schemas(hop.plan)[hop.continuation.first]

    def _on_card(self, hop: Hop) -> CudaStage:
        """Give the continuation's segments as a card runs them, planned once."""
        stages = hop.installed.on_cards
        if hop.segments not in stages:
            stages[hop.segments] = on_card(hop.plan, *hop.segments)
        return stages[hop.segments]

    def program(self, hop: Hop) -> Program:
        """Give the program of the continuation's segments, rendered once."""
        programs = hop.installed.programs
        if hop.segments not in programs:
            programs[hop.segments] = program_of(hop.plan, *hop.segments)
        return programs[hop.segments]


def _needed(source: Source, hop: Hop) -> tuple[ChunkRef, ...]:
    steps = next((s.steps for s in hop.plan.segments if s.steps), ())
    return needed_chunks(source, bind(steps, hop.literals))
