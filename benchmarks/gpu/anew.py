"""Workloads whose rows are brought to the card anew each time: from memory, and from a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from wherry.benchmarks.gpu import ours
from wherry.benchmarks.gpu.engines import brought, scanning
from wherry.benchmarks.gpu.goals import Limit
from wherry.benchmarks.gpu.measure import OURS, several
from wherry.benchmarks.gpu.questions import Question, differs, wanted
from wherry.benchmarks.gpu.row import Row, row_of
from wherry.benchmarks.gpu.world import World
from wherry.devices.pinned import PinnedReader
from wherry.devices.proc import usable_cores
from wherry.run.on_device import card_of
from wherry.session.cards import using
from wherry.session.result import Result


def pinned(question: Question, world: World) -> Row:
    """Ask of rows in memory that the card may read by itself; it holds none of them."""
    data = world.data.first(world.file_rows)
    table = data.table()
    with ExitStack() as stack:
        for name in question.columns:
            stack.callback(world.device.registered(data.pages(name)).close)
        name = f"pinned-{question.name}"
        return _loaded(name, question, world, source=lambda: table, limit="to device")


def cached(question: Question, world: World) -> Row:
    """Ask of a file whose pages lie in the page cache."""
    read_all(world.file)
    name, source = f"cached-{question.name}", lambda: world.file
    return _loaded(name, question, world, source=source, limit="page cache and link")


def cold(question: Question, world: World) -> Row:
    """Ask of a file that the page cache has nothing of, and that is read past it."""

    def source() -> Path:
        forget(world.file)
        return world.file

    name = f"cold-{question.name}"
    reader = PinnedReader(world.device, way="either")
    with closing(reader), using(card_of(world.device, reader)):
        return _loaded(name, question, world, source=source, limit="drive")


def _loaded(
    name: str,
    question: Question,
    world: World,
    *,
    source: Callable[[], Any],
    limit: Limit,
) -> Row:
    """Ask anew each time, of a source that was never seen, so that nothing is held yet."""
    data = world.data.first(world.file_rows)
    right = wanted(question, data)
    row = row_of(name, data, limit, question.stored_bytes * data.rows)

    def ours_anew(where: Any) -> Result:
        return ours.asked(question, where, world.system, world.site)()

    once = partial(_once, ours_anew, source)
    first, second = (once()[1] for _ in range(2))
    said = differs(question.read(first.table), right, exact=False)
    half, rounds = several(lambda: once()[0], world.patience_s)
    others = _others(question, world, source, right)
    wrong = [] if said is None else [f"{OURS}: {said}"]
    return replace(
        row,
        answer_ms=half,
        peers=others.ms,
        failed=others.failed,
        answers="; ".join([*wrong, *others.wrong]) or "equal",
        same_bits=first.table.equals(second.table),
        ways=ours.ways_of(first),
        rounds=rounds,
    )


def _once(ask: Callable[[Any], Any], source: Callable[[], Any]) -> tuple[float, Any]:
    """Give how many milliseconds an answer took, and the answer."""
    where = source()
    begun = time.perf_counter_ns()
    found = ask(where)
    return (time.perf_counter_ns() - begun) / 1e6, found


class _Others(Struct):
    """The times of others by name, how their answers differ, and what those who failed said."""

    ms: dict[str, float] = {}
    wrong: list[str] = []
    failed: dict[str, str] = {}


def _others(
    question: Question, world: World, source: Callable[[], Any], right: list[Any]
) -> _Others:
    """Ask array code, to whose arrays the rows are brought anew each time, and DuckDB."""
    seen = _Others()
    with scanning(question, usable_cores()) as engines:
        asks: dict[str, Callable[[Any], Any]] = {"cupy": partial(brought, world.cp, question)}
        for name, ask in {**asks, **engines}.items():
            try:
                found = _once(ask, source)[1]
                arrays = found if isinstance(found, list) else question.read(found)
                said = differs(arrays, right, exact=False)
                seen.wrong += [] if said is None else [f"{name}: {said}"]
                seen.ms[name] = _median(ask, source, world.patience_s / 2)
            except Exception as error:  # noqa: BLE001  whatever one raises is its own matter
                seen.failed[name] = f"{type(error).__name__}: {error}"
    return seen


def _median(ask: Callable[[Any], Any], source: Callable[[], Any], patience_s: float) -> float:
    return several(lambda: _once(ask, source)[0], patience_s)[0]


def read_all(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        room = bytearray(16 << 20)
        while file.readinto(room):
            pass


def forget(path: Path) -> None:
    """Let go of a file's pages in the page cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)  # Pages that are not written yet would stay.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
