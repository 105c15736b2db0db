"""Answers do not depend on where chunks go, not even if that changes after every chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle, pairwise

import pyarrow as pa
import pytest
from msgspec import Struct
from support.skewed import PASSING, skewed

from wherry import Pipeline, col, count, load_system, scan
from wherry.data.chunk import ChunkRef
from wherry.data.encoded import decode
from wherry.plan.place import Choice, Wish
from wherry.plan.placement import Way
from wherry.plan.query import Query
from wherry.plan.replan import Decision, Going
from wherry.plan.split import alike
from wherry.plan.watch import Seen, Watch
from wherry.run import machine, orders
from wherry.session import Options, run, running
from wherry.session import journey as journeys

PIPELINES = {
    "rows": lambda rows: rows.filter(PASSING),
    "computed": lambda rows: rows.filter(PASSING).select("k", twice=col("v0") * 2),
    "encoded": lambda rows: rows.filter(PASSING).respond("lz4"),
    "totals": lambda rows: rows.filter(PASSING).agg(v=col("v0").sum(), n=count()),
    "groups": lambda rows: rows.filter(PASSING).group_by("k").agg(v=col("v1").max(), n=count()),
    "many groups": lambda rows: rows.group_by("v0").agg(n=count()),
    "first": lambda rows: rows.filter(PASSING).top_k(9, by="v2"),
    "order": lambda rows: rows.filter(PASSING, col("v0") < 1 << 38).sort("v1"),
    "joined": lambda rows: rows.filter(PASSING).join(_side(rows), on="v0").select("v0", "w"),
    "semi": lambda rows: rows.filter(PASSING).join(_side(rows), on="v0", how="semi"),
}
SYSTEMS = ("dpu-csd-host", "gpu-direct-host", "rack-16")


def _side(rows: Pipeline) -> Pipeline:
    few = rows.filter(col("v0") < 1 << 36).collect()
    return scan(few).select("v0", w=col("v1"))


class Restless(Struct, frozen=True):
    """Sends what is left another way whenever it is asked."""

    ways: Iterator[tuple[Way, ...]]
    watch: Watch

    def decide(self, seen: Seen, left: Sequence[Going], begun: Sequence[Going]) -> Decision:
        refs: list[ChunkRef] = [ref for each in (*left, *begun) for ref in each.chunks]
        assert len(refs) == len(set(refs))
        return Decision(seen, len(refs), "", "", next(self.ways), 0, 0)


def restless(query: Query, system: object, choice: Choice, wish: Wish) -> Restless:
    """Give every way that agrees with the first, one after the other, and pairs of them."""
    ways = [one.sites for one in alike(query, choice.allowed, choice.chosen.placement)]
    pairs = [(Way(a, 2), Way(b, 1)) for a, b in pairwise(ways)]
    every = [part for one in ways for part in ((Way(one, 1),), *pairs[:3])]
    return Restless(cycle(every), Watch(0.0, 0.0))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return skewed(tmp_path_factory.mktemp("rows"), "falling", batches=24, rows=300)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run think again after every chunk, devices working on two at once."""
    seen = Seen(1, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(orders, "windows_of", lambda system: dict.fromkeys(system.devices, 2))
    monkeypatch.setattr(machine, "saw", lambda watch, *_, **__: (watch, seen))
    monkeypatch.setattr(journeys, "replanner", restless)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("title", PIPELINES)
def test_answers_are_those_of_a_run_that_is_not_replanned(rows, title, system):
    pipeline = PIPELINES[title](rows)
    result = run(pipeline, load_system(system))
    assert sum(r.decision.ways is not None for r in result.revisions) > 3
    assert result.table.equals(pipeline.collect())
    again = run(pipeline, load_system(system))
    assert (again.time, again.timeline) == (result.time, result.timeline)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("title", PIPELINES)
def test_the_account_is_that_of_what_ran(rows, title):
    result = run(PIPELINES[title](rows), load_system("dpu-csd-host"))
    made: Counter[tuple[int, str]] = Counter()
    for entry in result.ledger.entries:
        if entry.stage == 0 and entry.device != "client":
            made[entry.stage, entry.device] += entry.referenced_bytes + entry.copied_bytes
    ran = [e for e in result.evidence if e.stage == 0]
    assert sorted(e.chunk for e in ran) == list(range(96))
    assert len({e.device for e in ran}) > 1
    assert set(made) == {(e.stage, e.device) for e in ran}
    for stage, device in made:
        mine = [e for e in ran if (e.stage, e.device) == (stage, device)]
        if title != "encoded":
            assert made[stage, device] == sum(e.nbytes for e in mine)
        receipt = next(r for r in result.receipts if (r.stage, r.device) == (stage, device))
        assert receipt.core_ns >= sum(e.time.ns for e in mine) > 0


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("title", ["rows", "encoded", "totals", "first", "joined"])
def test_the_executor_sends_shares_elsewhere_too(rows, title):
    """This machine is one device; a system of several, carried out here and now, is not."""
    pipeline, system = PIPELINES[title](rows), load_system("dpu-csd-host")
    workers = journeys.workers(system, [pipeline.source], Options())
    options = Options()
    ask = partial(run, system=system, options=options)
    journey = journeys.journey_of(pipeline, system, options, workers, ask)
    executor = running.executor_of(journey, 600)
    pieces = list(executor.answer(journey.machine))
    answer = running.answer_of(journey, pieces)
    table = answer if isinstance(answer, pa.Table) else decode(answer)
    assert table.equals(pipeline.collect())
    assert len(executor.revisions) > 3
    spans = [span.end_ns for span in executor.spans if span.kind == "replan"]
    assert spans == [revision.at.ns for revision in executor.revisions]
    assert len({e.device for e in journey.carrier.evidence if e.stage == 0}) > 1
