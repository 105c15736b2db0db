"""The workloads: each gives its row, once it has been asked for, checked and timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.benchmarks.gpu import ours
from wherry.benchmarks.gpu.anew import cached, cold, pinned
from wherry.benchmarks.gpu.engines import (
    hosted,
    on_the_card,
    on_the_host,
    uploaded,
)
from wherry.benchmarks.gpu.goals import GOALS, described, met
from wherry.benchmarks.gpu.lineitem import Lineitem
from wherry.benchmarks.gpu.loads import LOADS, load
from wherry.benchmarks.gpu.measure import asked, median_ms, percentiles
from wherry.benchmarks.gpu.questions import Question, differs, questions, wanted
from wherry.benchmarks.gpu.row import Row, row_of
from wherry.benchmarks.gpu.world import SMALL_ROWS, World
from wherry.devices.proc import usable_cores
from wherry.render.cuda.bind import Constants
from wherry.session.result import Result

Workload = Callable[[World], Row]


def workloads() -> dict[str, Workload]:
    """Give all of them by name, in order."""
    named = questions()
    q6, q1 = named["q6"], named["q1"]
    return {
        **{name: partial(_resident, question) for name, question in named.items()},
        "small": partial(_small, q6),
        "small-run": partial(_small_run, q6),
        "small-pass": partial(_small_pass, q6),
        **{f"pinned-{q.name}": partial(pinned, q) for q in (q6, q1)},
        **{f"cached-{q.name}": partial(cached, q) for q in (q6, q1)},
        "cold-q6": partial(cold, q6),
        **{name: partial(load, name) for name in LOADS},
        **{f"compile-{q.name}": partial(_compile, q) for q in (q6, q1)},
        **{f"kept-{q.name}": partial(_kept, q) for q in (q6, q1)},
    }


def judged(name: str, row: Row, world: World) -> Row:
    """Fill in what follows from the times: the limit, the share of it, whether the goal is met."""
    goal = GOALS[name]
    limit_ms = world.limit_ms(row.limit, row.bytes) if row.limit else None
    took = row.card_ms if goal.of == "card" else row.answer_ms
    return replace(
        row,
        limit_ms=limit_ms,
        share=None if limit_ms is None or not took else float(f"{limit_ms / took:.3g}"),
        goal=described(goal),
        met=met(
            goal,
            scale_factor=row.scale_factor,
            answer_ms=row.answer_ms,
            card_ms=row.card_ms,
            limit_ms=limit_ms,
        ),
    )


def _resident(question: Question, world: World) -> Row:
    """Ask of rows that the card holds: Wherry, array code there, engines on the processor."""
    data = world.data
    row = row_of(question.name, data, question.limit, question.row_bytes * data.rows)
    right = wanted(question, data)
    found = ours.resident(question, data, world.device)
    card_ms = median_ms(ours.card_ms(found, world.device, world.cuda.wait))
    del found
    table = data.table()
    with on_the_host(question, table, usable_cores()) as engines:
        columns = uploaded(world.cp, question, data)
        seen = asked(
            question,
            _table_of(ours.asked(question, table, world.system, world.site)),
            peers=on_the_card(world.cp, world.torch, question, columns),
            engines=engines,
            right=right,
            hosted=partial(hosted, world.cp),
            patience_s=world.patience_s,
        )
    return replace(row, card_ms=card_ms, **seen)


def _small(question: Question, world: World) -> Row:
    """Ask of a million rows that the card holds, very often, planned once."""
    data = world.data.first(SMALL_ROWS)
    ask = ours.ready(question, data.table(), world.system, world.site)
    return _often("small", question, data, world, read=lambda: question.read(ask()), ask=ask)


def _small_run(question: Question, world: World) -> Row:
    """Ask the same with everything that a run does besides: planning, messages, an account."""
    data = world.data.first(SMALL_ROWS)
    ask = _table_of(ours.asked(question, data.table(), world.system, world.site))
    return _often("small-run", question, data, world, read=lambda: question.read(ask()), ask=ask)


def _table_of(ask: Callable[[], Result]) -> Callable[[], pa.Table]:
    return lambda: ask().table


def _small_pass(question: Question, world: World) -> Row:
    """Ask the same of the card alone: what is left once a query is planned."""
    data = world.data.first(SMALL_ROWS)
    found, constants = ours.resident(question, data, world.device), Constants(world.device)

    def read() -> list[Any]:
        return question.read(pa.Table.from_batches(found.ask(constants)))

    ask = partial(found.ask, constants)
    return _often("small-pass", question, data, world, read=read, ask=ask)


def _often(
    name: str,
    question: Question,
    data: Lineitem,
    world: World,
    *,
    read: Callable[[], list[Any]],
    ask: Callable[[], Any],
) -> Row:
    right = wanted(question, data)
    first, second = read(), read()
    said = differs(first, right, exact=False)
    half, most, rounds = percentiles(ask, world.patience_s)
    return replace(
        row_of(name, data, "read", question.row_bytes * data.rows),
        answer_ms=half,
        p99_ms=most,
        answers=said or "equal",
        same_bits=all(map(np.array_equal, first, second)),
        rounds=rounds,
    )


def _compile(question: Question, world: World) -> Row:
    """Compile a program that nobody has compiled before, and load it."""
    with _program(question, world) as compile_ms:
        times = [compile_ms(anew=True) for _ in range(3)]
    return _timed_compile(f"compile-{question.name}", times)


def _kept(question: Question, world: World) -> Row:
    """Find a program's machine code on disk, and load it."""
    with _program(question, world) as compile_ms:
        times = [compile_ms(anew=False) for _ in range(16)][1:]
    return _timed_compile(f"kept-{question.name}", times)


def _timed_compile(name: str, times: list[float]) -> Row:
    half = float(f"{np.median(times):.4g}")
    return Row(
        workload=name, scale_factor=0, rows=0, answer_ms=half, answers="none", rounds=len(times)
    )


@contextmanager
def _program(question: Question, world: World) -> Iterator[Any]:
    made = ours.program(question, world.data.first(1).table(), world.device.shared_bytes)
    with tempfile.TemporaryDirectory(prefix="wherry-gpu-") as folder:

        def compile_ms(*, anew: bool) -> float:
            where = tempfile.mkdtemp(dir=folder) if anew else folder
            return ours.compile_ms(made, world.device.arch, Path(where), world.cuda.load)

        compile_ms(anew=True)  # The first time in a process loads the compiler.
        yield compile_ms
