"""What explain says of three queries, and the segments they are cut into: word for word."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import ipc

from wherry import Pipeline, col, count, scan, when
from wherry.ir.expr import Node
from wherry.ir.stage import Groups, Matches, Order, Pass, Step, Take, Totals
from wherry.ir.text import call_text, to_text
from wherry.ops.select import output_text
from wherry.plan.joins import with_builds
from wherry.plan.query import prepare
from wherry.testing import build_side

ROWS, FILES = 8192, 4


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("golden") / "lines"
    folder.mkdir()
    for number in range(FILES):
        numbers = range(number * ROWS, (number + 1) * ROWS)
        table = pa.table(
            {
                "order": pa.array([i // 4 for i in numbers], pa.int64()),
                "day": pa.array([i % 2500 for i in numbers], pa.int32()).cast(pa.date32()),
                "price": pa.array([Decimal(i % 9973) / 100 for i in numbers], pa.decimal128(12, 2)),
                "quantity": pa.array([i % 50 for i in numbers], pa.int8()),
                "flag": pa.array("ANR"[i % 3] for i in numbers).dictionary_encode(),
                "note": pa.array([f"note {i % 97}" for i in numbers]),
            }
        )
        with ipc.new_file(folder / f"part{number}.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=ROWS // 2)
    return scan(folder)


def revenue(lines: Pipeline) -> Pipeline:
    kept = lines.filter(
        col("day").is_between(date(1971, 1, 1), date(1971, 12, 31)), col("quantity") < 24
    )
    return kept.agg(revenue=(col("price") * (1 - col("price"))).sum(), n=count())


def by_flag(lines: Pipeline) -> Pipeline:
    kind = when(col("note").str.contains("7")).then("seven").otherwise("other")
    grouped = lines.with_columns(kind=kind).group_by("flag", "kind")
    return grouped.agg(total=col("price").sum(), mean=col("quantity").mean()).sort("flag", "kind")


def largest(lines: Pipeline) -> Pipeline:
    return lines.route("order", 1234).select("order", "price", "note").top_k(3, by="price")


def matched(lines: Pipeline) -> Pipeline:
    wanted = lines.filter(col("note") == "note 7").select("order", "price", letter=col("flag"))
    kept = lines.filter(col("quantity") < 24).join(wanted, on="order", how="semi")
    joined = kept.join(wanted, left_on="flag", right_on="letter", how="left")
    return joined.group_by("flag").agg(n=count(), most=col("price_right").max())


QUERIES = [revenue, by_flag, largest, matched]
each_query = pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.__name__)
Golden = Callable[[str, str], None]


@each_query
def test_explain(query: Callable[[Pipeline], Pipeline], lines: Pipeline, golden: Golden) -> None:
    explained = query(lines).explain("dpu-csd-host")
    # Which programs are native is what the programs' own golden texts say.
    stages = tuple(replace(stage, residuals=()) for stage in explained.stages)
    golden(f"explain_{query.__name__}", str(replace(explained, stages=stages)))


@each_query
def test_segments(query: Callable[[Pipeline], Pipeline], lines: Pipeline, golden: Golden) -> None:
    made = with_builds(query(lines), build_side)
    plan = prepare(made.source, made.operators, made.schema).plan
    text = [f"reads {', '.join(f'{name} {t}' for name, t in plan.fields)}"]
    for segment in plan.segments:
        text.append(f"{segment.kind} [{', '.join(segment.operators)}]")
        text += [f"  {line}" for step in segment.steps for line in step_lines(step)]
    golden(f"segments_{query.__name__}", "\n".join(text))


def step_lines(step: Step) -> list[str]:
    match step:
        case Order(by, limit):
            keys = ", ".join(f"{k.column}{' desc' if k.descending else ''}" for k in by)
            return [f"order by {keys}" + ("" if limit is None else f", first {limit}")]
        case Take(limit):
            return [f"take {limit}"]
        case Pass(predicate, sink):
            lines = [] if predicate is None else [f"where {to_text(predicate)}"]
            match sink:
                case Totals(calls):
                    return [*lines, f"totals {named(calls)}"]
                case Groups(keys, calls):
                    return [*lines, f"groups {outputs(keys)}: {named(calls)}"]
                case Matches(keys, build, outer, columns, added):
                    new = ", ".join(name for name, _, _ in added)
                    kind = "all with" if outer else "with"
                    text = f"{', '.join(map(to_text, keys))} in {to_text(build)}: {new}"
                    return [*lines, f"rows {outputs(columns)} {kind} {text}"]
            return [*lines, f"rows {outputs(sink.outputs)}"]
    raise AssertionError(step)


def outputs(pairs: tuple[tuple[str, Node], ...]) -> str:
    return ", ".join(output_text(name, node) for name, node in pairs)


def named(calls: tuple[tuple[str, object], ...]) -> str:
    return ", ".join(f"{name} = {call_text(call)}" for name, call in calls)


def test_the_comparison_itself_can_fail(golden: Golden, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden", default=False):
        pytest.skip("nothing is compared while golden texts are rewritten")
    text = (Path(__file__).parent / "segments_revenue.txt").read_text().rstrip("\n")
    golden("segments_revenue", text)
    with pytest.raises(AssertionError):
        golden("segments_revenue", text + "x")
    with pytest.raises(AssertionError, match=r"no nowhere\.txt"):
        golden("nowhere", "")
