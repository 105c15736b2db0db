"""How long placing a query takes: every segment on any of eight unlike devices, exactly.

`python -m wherry.benchmarks.planning` prints medians of warm placements, in processor
time of the one thread that places; nothing is remembered
between them but what follows from system and query alone.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from wherry.devices.altered import loaded
from wherry.devices.figures import Figure
from wherry.devices.profile import load_profile
from wherry.devices.routes import Link
from wherry.devices.system import System
from wherry.devices.topology import Dataset
from wherry.ir.builder import col
from wherry.ops.operator import keep
from wherry.pipeline import Pipeline, scan
from wherry.plan.place import Wish, choose
from wherry.plan.query import Query, prepare, segment_schemas
from wherry.plan.sample import sampled
from wherry.plan.segments import Segment

_PROFILES = (
    "sapphire-rapids", "genoa", "graviton4", "bluefield-2", "bluefield-3", "pensando-elba",
    "newport", "smartssd",
)  # fmt: skip
"""The host first; data lie on the two drives."""
_ROUNDS = 25
_FILES, _ROWS = 8, 200_000


def eight() -> System:
    """Give a system of eight devices of which no two are alike, on one switch."""
    profiles = {f"{name}-0": load_profile(name) for name in _PROFILES}
    source = "estimate: a round figure, for a system that is only planned for"
    links = tuple(
        Link((name, "switch"), Figure(8.0 + n, source), Figure(2.0, source), "full")
        for n, name in enumerate([*profiles, "client"])
    )
    names = list(profiles)
    drives = tuple(names[-2:])
    return System(
        name="eight",
        title="Eight unlike devices",
        host=names[0],
        client="client",
        devices=profiles,
        switches=("switch",),
        links=links,
        datasets=(Dataset("*", drives, "files"),),
    )


def queries() -> dict[str, Query]:
    """Give queries of five and six segments over rows made of numbers."""
    values = np.random.default_rng(1)
    table = pa.table(
        {
            "day": values.integers(0, 2500, _FILES * _ROWS).astype("int32"),
            "price": values.random(_FILES * _ROWS),
            "flag": values.integers(0, 3, _FILES * _ROWS).astype("int8"),
        }
    )
    rows = scan(pa.Table.from_batches(table.to_batches(max_chunksize=_ROWS // 4)))
    kept = rows.filter(col("day") < 100)
    pipelines = {
        "totals": kept.agg(total=col("price").sum()),
        "groups": kept.group_by("flag").agg(total=col("price").sum()),
        "groups, encoded": kept.group_by("flag").agg(total=col("price").sum()).respond("zstd"),
        "rows": kept,
    }
    found = {title: _query(pipeline) for title, pipeline in pipelines.items()}
    return found | {"groups, two passes": two_passes(found["groups"])}


def two_passes(query: Query) -> Query:
    """Give the query with a segment more: rows that pass go through another one on their way.

    No pipeline is cut into so many segments; a longer one would be searched like this.
    """
    at = [segment.kind for segment in query.segments].index("near")
    more = Segment("near", ("select",), (keep(segment_schemas(query.plan)[at + 1]),))
    both = query.segments, query.plan.segments
    segments, planned = ((*every[: at + 1], more, *every[at + 1 :]) for every in both)
    flows = (*query.flows[: at + 1], *query.flows[at:])
    plan = replace(query.plan, segments=planned)
    return replace(query, segments=segments, plan=plan, flows=flows, known={})


def _query(pipeline: Pipeline) -> Query:
    return sampled(prepare(pipeline.source, pipeline.operators, pipeline.schema))


def placed_ms(query: Query, system: System, wish: Wish) -> tuple[float, int]:
    """Give the median milliseconds of processor time, and how many placements are possible."""
    possible, taken = choose(query, system, wish).possible, []
    for _ in range(_ROUNDS):
        begin = time.thread_time_ns()
        choose(query, system, wish)
        taken.append(time.thread_time_ns() - begin)
    return median(taken) / 1e6, possible


def main() -> None:
    """Print a line for each query."""
    system = eight()
    busy = loaded(system, {"newport-0": 0.5})
    for title, query in queries().items():
        for where, of in (("", system), (", a busy drive", busy)):
            took, possible = placed_ms(query, of, Wish())
            print(
                f"{title}{where}: {len(query.segments)} segments, {len(of.devices)} devices, "
                f"{possible:,} placements: {took:.1f} ms"
            )


if __name__ == "__main__":
    main()
