"""What programs are made of: the listing of each kind, and the LLVM IR of two, word for word.

The IR is built for no processor in particular, so it is the same on every machine.
"""

from collections.abc import Callable

import pyarrow as pa
import pytest

from wherry import Pipeline, col, count, scan
from wherry.ir.stage import Stage, output_schema
from wherry.plan.query import prepare
from wherry.render.program import Program, render

Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def rows() -> Pipeline:
    numbers = range(2000)
    table = pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "kind": pa.array([i % 5 for i in numbers], pa.int8()),
            "price": pa.array([i * 0.25 for i in numbers], pa.float64()),
            "cents": pa.array([i % 700 for i in numbers], pa.decimal128(9, 2)),
            "note": pa.array([None if i % 7 == 0 else f"note {i % 97}" for i in numbers]),
            "size": pa.array([None if i % 3 == 0 else i % 90 for i in numbers], pa.int32()),
        }
    )
    return scan(table)


def filtered(rows: Pipeline) -> Pipeline:
    kept = rows.filter((col("size") > 20) | col("note").is_null(), col("note") != "note 5")
    return kept.select("id", size=col("size") + 1)


def totals(rows: Pipeline) -> Pipeline:
    kept = rows.filter(col("size").is_between(10, 40))
    return kept.agg(paid=(col("price") * (1 - col("price"))).sum(), n=count(), c=col("cents").sum())


def few_groups(rows: Pipeline) -> Pipeline:
    return rows.group_by("kind").agg(paid=col("price").sum(), least=col("size").min(), n=count())


def hashed_groups(rows: Pipeline) -> Pipeline:
    return rows.group_by("id", "note").agg(most=col("price").max(), mean=col("cents").mean())


def largest(rows: Pipeline) -> Pipeline:
    return rows.filter(col("size") < 50).select("id", "price").top_k(10, by="price")


def residual(rows: Pipeline) -> Pipeline:
    return rows.filter(col("note").str.like("note _")).select("id", day=col("size").cast(pa.int8()))


QUERIES = [filtered, totals, few_groups, hashed_groups, largest, residual]


def programs(made: Pipeline) -> dict[str, Program]:
    """Give the program of every segment that has steps, for what the scan reads."""
    plan = prepare(made.source, made.operators, made.schema).plan
    found, schema = {}, pa.schema(plan.fields)
    for segment in plan.segments:
        if segment.steps:
            found[segment.kind] = render(Stage(segment.steps), schema, {})
            for step in segment.steps:
                schema = output_schema(step, schema)
    return found


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: q.__name__)
def test_listings(query: Callable[[Pipeline], Pipeline], rows: Pipeline, golden: Golden) -> None:
    texts = []
    for kind, program in programs(query(rows)).items():
        lines = [kind, program.listing, *(f"residual: {r}" for r in program.residuals)]
        texts.append("\n".join(lines).rstrip("\n"))
    golden(f"program_{query.__name__}", "\n\n".join(texts))


@pytest.mark.parametrize(("query", "kind"), [(filtered, "near"), (totals, "partial")])
def test_code(
    query: Callable[[Pipeline], Pipeline], kind: str, rows: Pipeline, golden: Golden
) -> None:
    golden(f"code_{query.__name__}", programs(query(rows))[kind].text.rstrip("\n"))
