"""One case: a plan, its message or its rows are changed, and a device is asked to run them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from fuzz.case import Finding
from fuzz.plan_mutations import mutated_plan, mutated_rows, mutated_values
from fuzz.plan_queries import queries, source
from wherry.base.errors import InputError, WherryError
from wherry.base.ids import digest
from wherry.data.arrays import empty_batch, plain
from wherry.data.segment import SegmentPool
from wherry.devices.here import HereDriver
from wherry.devices.profile import load_profile
from wherry.ir.build import Build, image_of
from wherry.ir.literals import bind
from wherry.ir.stage import output_schema
from wherry.plan.query import Plan, Query
from wherry.render import program
from wherry.render.gather import batches_of, parts_of
from wherry.render.reference import run_step
from wherry.run.carrier import Carrier
from wherry.run.commands import ALL, Read, Run
from wherry.run.continuation import Continuation, freeze
from wherry.run.worker import Hop, Worker

_KEY = bytes(range(32))
_HERE = "csd0"


class _Case(Struct, frozen=True):
    """What a device is sent.

    Attributes
    ----------
    stages : tuple of (int, int)
        First and last segment of each; chosen as if the plan were sound.
    together : bool
        All chunks are run as one share; else each is read and then run.
    moved : bool
        Rows come to the first stage from elsewhere.
    """

    query: Query
    plan: bytes
    values: tuple[Any, ...]
    together: bool
    moved: bool
    draw: random.Random


def plans() -> Mapping[str, bytes]:
    """Give the sound plans by number."""
    return {f"{number:03}": query.plan_bytes for number, query in enumerate(queries())}


def run_plan_case(seed: int, number: int, sound: Mapping[str, bytes], folder: Path) -> str:
    """Try one case; give `refused` or `ran`.

    Raises
    ------
    Finding
        When it gives other rows than its plan says, or an error that is not one of Wherry's.
    """
    # Programs of mutants are of no use to anybody: they are not to push others out of the cache.
    objects = folder / "objects"
    program.object_folder = lambda: objects  # type: ignore[assignment]
    draw = random.Random(f"plan {seed} {number}")
    case = _drawn(draw, sound)
    try:
        return _tried(case)
    except WherryError:
        return "refused"
    except Finding as finding:
        raise Finding(f"{finding} [{_what(case)}]") from None
    except (Exception, pa.ArrowException) as error:
        raise Finding(f"{type(error).__name__} {error!s:.300} [{_what(case)}]") from error
    finally:
        shutil.rmtree(objects, ignore_errors=True)


def run_sound(number: int) -> str:
    """Run a query's own plan, as one share and chunk by chunk; give `ran`.

    Raises
    ------
    Finding
        When it gives other rows than the interpreter.
    """
    query = queries()[number]
    values = tuple(image_of(literal) for literal in query.literals)
    for together in (True, False):
        draw = random.Random(number)
        outcome = _tried(_Case(query, query.plan_bytes, values, together, moved=False, draw=draw))
    return outcome


def _drawn(draw: random.Random, sound: Mapping[str, bytes]) -> _Case:
    number = draw.randrange(len(sound))
    query = queries()[number]
    values = tuple(image_of(literal) for literal in query.literals)
    case = _Case(query, query.plan_bytes, values, draw.random() < 0.5, draw.random() < 0.2, draw)
    if draw.random() < 0.8:
        return replace(case, plan=mutated_plan(query.plan_bytes, list(sound.values()), draw))
    if draw.random() < 0.5:
        return replace(case, values=mutated_values(values, draw))
    return replace(case, moved=True)


def _what(case: _Case) -> str:
    number = queries().index(case.query) if case.query in queries() else -1
    return f"query {number}, together {case.together}, moved {case.moved}"


@cache
def _pool() -> SegmentPool:
    return SegmentPool(1 << 30)  # as an agent bounds a tenant's


def _tried(case: _Case) -> str:
    worker = Worker(HereDriver(_HERE, load_profile("newport")), (source(),), _KEY, _pool())
    worker.install(case.plan)
    for literal in case.query.literals:
        if isinstance(literal.value, Build):
            worker.keep(literal.value)
    plan = next(iter(worker.plans.values())).plan
    stages = _stages(plan, case.draw, together=case.together)
    sites = _sites(plan, stages, case.draw)
    hops = [_received(worker, case, plan, stage, sites) for stage in stages]
    carrier = Carrier({_HERE: worker}, b"")
    for number, hop in enumerate(hops):
        carrier.open(_HERE, number, hop)
    seen = _ran(carrier, case, plan, stages)
    wanted = _meant(plan, hops, case, stages)
    _compare(seen, wanted)
    return "ran"


def _stages(plan: Plan, draw: random.Random, *, together: bool) -> list[tuple[int, int]]:
    """Give what a planner might: what works chunk by chunk, in one stage or more; then the rest."""
    kinds = [segment.kind for segment in plan.segments]
    last = len(kinds) - 1
    apart = kinds.index("merge") if "merge" in kinds else last + 1
    # Of a share that no row of passes, a stage of its own makes one partial row, not one a chunk.
    some = 0.0 if together else 0.5
    cuts = [n for n in range(2, apart) if n < last and draw.random() < some]
    ends = [*cuts, *([apart] if apart <= last else [])]
    firsts = [1, *ends]
    return list(zip(firsts, [*(n - 1 for n in ends), last], strict=True))


def _sites(plan: Plan, stages: Sequence[tuple[int, int]], draw: random.Random) -> tuple[str, ...]:
    apart = draw.random() < 0.5
    found = ["host0"]
    for number, (first, last) in enumerate(stages):
        found += ["csd9" if apart and number else _HERE] * (last - first + 1)
    return tuple(found)


def _received(
    worker: Worker, case: _Case, plan: Plan, stage: tuple[int, int], sites: tuple[str, ...]
) -> Hop:
    said = Continuation(
        query=b"q" * 16, epoch=0, hop=1, plan=digest(case.plan), first=stage[0], last=stage[1],
        values=case.values, chunks=source().chunks(), sites=sites,
    )  # fmt: skip
    return worker.receive(freeze(said, _KEY))


def _ran(carrier: Carrier, case: _Case, plan: Plan, stages: Sequence[tuple[int, int]]) -> pa.Table:
    refs = source().chunks()
    chunks = list(range(1 if case.together and not case.moved else len(refs)))
    for chunk in chunks:
        if case.together and not case.moved:
            carrier.leave(Read(_HERE, _HERE, chunk, refs))
        elif case.moved:
            carrier.hold((-1, chunk), _moved(case, plan)[chunk])
        else:
            carrier.leave(Read(_HERE, _HERE, chunk, (refs[chunk],)))
    for number, (first, _) in enumerate(stages):
        whole = any(s.kind == "merge" for s in plan.segments[: first + 1])
        if whole:
            given = tuple((number - 1, chunk) for chunk in chunks)
            carrier.run(Run(_HERE, number, ALL, given))
            chunks = [ALL]
            continue
        for chunk in chunks:
            carrier.run(Run(_HERE, number, chunk, ((number - 1, chunk),)))
    pieces = [carrier.pieces[len(stages) - 1, chunk] for chunk in chunks]
    parts = parts_of(pieces)
    batches = [batch for part in parts for batch in batches_of(part)]
    return pa.Table.from_batches(batches, _out_schema(plan))


def _out_schema(plan: Plan) -> pa.Schema:
    schema = plan.schema
    for segment in plan.segments:
        for step in segment.steps:
            schema = output_schema(step, schema)
    return schema


def _moved(case: _Case, plan: Plan) -> list[pa.RecordBatch]:
    """Give rows as they may come from elsewhere; the same each time they are asked for."""
    draw = random.Random(case.draw.getstate()[1][0])
    names = [name for name, _ in plan.fields]
    rows = [source().read(ref, names) for ref in source().chunks()]
    changed = draw.random() < 0.7
    return [mutated_rows(batch, draw) if changed else batch for batch in rows]


def _meant(
    plan: Plan, hops: Sequence[Hop], case: _Case, stages: Sequence[tuple[int, int]]
) -> pa.Table:
    """Give what the plan says, by the interpreter."""
    names = [name for name, _ in plan.fields]
    rows = [source().read(ref, names) for ref in source().chunks()]
    rows = _moved(case, plan) if case.moved else rows
    literals = hops[-1].literals if len(hops) == 1 else _literals(hops)
    try:
        for segment in plan.segments:
            if segment.kind == "merge":
                rows = [pa.concat_batches(rows or [empty_batch(plan.schema)])]
            for step in bind(segment.steps, literals):
                rows = [run_step(step, batch) for batch in rows]
    except (InputError, pa.ArrowException, OverflowError) as problem:
        raise Finding(f"the interpreter gives no rows: {problem!s:.200}") from None
    return pa.Table.from_batches(rows)


def _literals(hops: Sequence[Hop]) -> tuple[Any, ...]:
    """Give the constants with the rows of joins at hand, wherever they are read."""
    return tuple(
        next((v for v in each if isinstance(v.value, Build)), each[0])
        for each in zip(*(hop.literals for hop in hops), strict=True)
    )


def _compare(seen: pa.Table, wanted: pa.Table) -> None:
    if seen.schema.names != wanted.schema.names or seen.schema.types != wanted.schema.types:
        raise Finding(f"rows of {seen.schema}, not of {wanted.schema}")
    seen.validate(full=True)
    if seen.num_rows != wanted.num_rows:
        raise Finding(f"{seen.num_rows} rows, not {wanted.num_rows}")
    for name, one, other in zip(seen.schema.names, seen.columns, wanted.columns, strict=True):
        pairs = zip(_values(one), _values(other), strict=True)
        for row, (a, b) in enumerate(pairs):
            if not _same(a, b):
                raise Finding(f"row {row} of {name!r} is {a!r:.80}, not {b!r:.80}")


def _values(column: pa.ChunkedArray) -> list[Any]:
    found: list[Any] = []
    for chunk in column.chunks:
        array = plain(chunk)
        if pa.types.is_temporal(array.type):
            array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
        found += array.to_pylist()
    return found


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, float) and isinstance(other, float):
        both_nan = one != one and other != other
        return both_nan or isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
    return bool(one == other)
