"""Wherry as it is asked here: by its public face, and by what that does on a card alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.benchmarks.gpu.lineitem import SCHEMA, Lineitem, array
from wherry.benchmarks.gpu.questions import Question
from wherry.devices.accelerator import Accelerator
from wherry.devices.cards import cards
from wherry.devices.cuda import cuda_devices
from wherry.ir import stage
from wherry.ir.expr import Literal
from wherry.ir.fuse import fuse
from wherry.pipeline import Pipeline, scan
from wherry.plan.query import Query, prepare
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import DeviceColumn, facts_of, put_column
from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.program import CudaPass, CudaProgram, plan_pass
from wherry.render.cuda.share import begin, rendered_for
from wherry.run.on_device import Card
from wherry.session.cards import card
from wherry.session.options import SystemLike
from wherry.session.result import Result

_NEAR: Final = {"near", "partial"}
"""Segments that run on the card."""
_LOADED: Final = "loaded onto "
"""How the ledger begins to say why bytes were copied there (`wherry.run.on_device`)."""


def asked(question: Question, source: Any, system: SystemLike, site: str) -> Callable[[], Result]:
    """Give what asks Wherry by its public face, of a source that is opened once.

    What it reads is kept on the card from the first answer on.

    Parameters
    ----------
    source : pyarrow.Table or path
        What `wherry.scan` takes.
    system, site : System and str
        This machine, and which device of it runs what a card can.
    """
    pipeline = question.pipeline(scan(source))
    pins = _pins(pipeline, site)
    return lambda: pipeline.run(system, placement=pins, strict=True)


def ready(question: Question, source: Any, system: SystemLike, site: str) -> Callable[[], pa.Table]:
    """Give what asks Wherry for an answer alone, planned once; parameters as of `asked`."""
    pipeline = question.pipeline(scan(source))
    return pipeline.prepare(system, placement=_pins(pipeline, site), strict=True).collect


def _pins(pipeline: Pipeline, site: str) -> dict[str, str]:
    kinds = [str(segment.kind) for segment in _prepared(pipeline).plan.segments]
    return {kind: site for kind in kinds if kind in _NEAR}


def ways_of(result: Result) -> dict[str, int]:
    """Give the bytes that were brought to the card, by the way they took."""
    found: dict[str, int] = {}
    for entry in result.ledger.entries:
        if entry.why.startswith(_LOADED):
            way = entry.why.rpartition(": ")[2]
            found[way] = found.get(way, 0) + entry.copied_bytes
    return found


class Pass(Struct, frozen=True):
    """A question's pass over rows that a card holds, planned."""

    plan: CudaPass
    literals: tuple[Literal, ...]
    columns: Mapping[str, DeviceColumn]
    rows: int

    def ask(self, constants: Constants) -> list[pa.RecordBatch]:
        """Give what it makes of all rows, in one piece."""
        facts = {name: column.facts for name, column in self.columns.items()}
        share = begin(self.plan, facts, self.literals, constants, [self.rows])
        share.add(self.columns, self.rows)
        return share.finish()


def planned(question: Question, table: pa.Table) -> tuple[CudaPass, tuple[Literal, ...]]:
    """Give the pass that a card has of a question, and the values of its parameters."""
    prepared = _prepared(question.pipeline(scan(table)))
    parts = [segment for segment in prepared.plan.segments if segment.kind in _NEAR]
    (step,) = fuse([step for segment in parts for step in segment.steps])
    assert isinstance(step, stage.Pass)
    names = [name for name, *_ in prepared.plan.fields]
    schema = pa.schema([table.schema.field(name) for name in names])
    return plan_pass(step, schema, prepared.plan.bounds_map()), prepared.literals


def resident(question: Question, data: Lineitem, device: Accelerator) -> Pass:
    """Put the question's columns on a device, each as a whole."""
    plan, literals = planned(question, data.table())
    columns = {
        name: put_column(device, array(SCHEMA.field(name), data.columns[name]))
        for name in plan.columns
    }
    return Pass(plan, literals, columns, data.rows)


def _prepared(pipeline: Pipeline) -> Query:
    return prepare(pipeline.source, pipeline.operators, pipeline.schema)


class Watched:
    """A device whose launches can be waited for and timed.

    Attributes
    ----------
    took_ns : int
        Of the launches since it was set to 0.
    """

    def __init__(self, device: Accelerator, wait: Callable[[], None]) -> None:
        self._device, self._wait = device, wait
        self.took_ns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, *args: Any, **kwargs: Any) -> None:
        """Run a kernel as the device does, and wait for it."""
        self._wait()
        begun = time.perf_counter_ns()
        self._device.launch(*args, **kwargs)
        self._wait()
        self.took_ns += time.perf_counter_ns() - begun


def card_ms(found: Pass, device: Accelerator, wait: Callable[[], None]) -> Callable[[], float]:
    """Give what asks and tells for how many milliseconds the card computed."""
    watched = Watched(device, wait)
    constants = Constants(watched)

    def once() -> float:
        watched.took_ns = 0
        found.ask(constants)
        return watched.took_ns / 1e6

    return once


def program(question: Question, table: pa.Table, shared_bytes: int) -> CudaProgram:
    """Give the program of a question over columns without nulls."""
    plan, _ = planned(question, table)
    facts = facts_of({name: table[name].chunk(0) for name in plan.columns})
    return rendered_for(plan, facts, shared_bytes).program


def first_card() -> Card:
    """Give the first card of this machine, as queries use it.

    Raises
    ------
    InputError
        If there is none that this process may use.
    """
    found = cards()
    if not found:
        count = len(cuda_devices())  # or what is missing
        raise InputError(f"CUDA knows {count} cards, none of which is a device of this machine")
    return card(found[0].name)


def compile_ms(made: CudaProgram, arch: str, folder: Path, load: Callable[[bytes], None]) -> float:
    """Give the milliseconds until a program is loaded, whose machine code may lie in a folder."""
    begun = time.perf_counter_ns()
    load(compile_program(made, arch, folder).image)
    return (time.perf_counter_ns() - begun) / 1e6
