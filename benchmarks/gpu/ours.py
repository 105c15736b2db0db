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
from wherry.devices.cuda import CudaDevice, cuda_devices
from wherry.ir import stage
from wherry.ir.expr import Literal
from wherry.ir.fuse import fuse
from wherry.kernels.objects import object_folder
from wherry.pipeline import Pipeline, scan
from wherry.plan.query import Query, prepare
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.columns import DeviceColumn, put_column
from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.program import CudaPass, CudaProgram, plan_pass
from wherry.render.cuda.share import begin, render

_NEAR: Final = {"near", "partial"}
"""Segments that run on the card."""


def asked(question: Question, source: Any, site: str) -> Callable[[], pa.Table]:
    """Give what asks Wherry by its public face, of a source that is opened once.

    Parameters
    ----------
    source : pyarrow.Table or path
        What `wherry.scan` takes.
    site : str
        The device that runs what a card can.
    """
    pipeline = question.pipeline(scan(source))
    kinds = [str(segment.kind) for segment in _prepared(pipeline).plan.segments]
    pins = {kind: site for kind in kinds if kind in _NEAR}
    return lambda: pipeline.run(placement=pins, strict=True).table


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


def program(question: Question, table: pa.Table) -> CudaProgram:
    """Give the program of a question over columns without nulls."""
    plan, _ = planned(question, table)
    sizes = {
        name: len(column.chunk(0).dictionary)
        for name, column in zip(table.schema.names, table.columns, strict=True)
        if pa.types.is_dictionary(column.type) and name in plan.columns
    }
    return render(plan, frozenset(), sizes).program


def first_device() -> Accelerator:
    """Give the first card of this machine.

    Raises
    ------
    InputError
        If there is none that this process may use.
    """
    cards = cuda_devices()
    if not cards:
        raise InputError("CUDA knows no card that this process may use")
    return CudaDevice(cards[0], _compiled)


def _compiled(text: str, arch: str) -> bytes:
    return compile_program(CudaProgram(text, ()), arch, object_folder()).image


def compile_ms(made: CudaProgram, arch: str, folder: Path) -> float:
    """Give the milliseconds until a program's machine code is there, which may lie in a folder."""
    begun = time.perf_counter_ns()
    compile_program(made, arch, folder)
    return (time.perf_counter_ns() - begun) / 1e6
