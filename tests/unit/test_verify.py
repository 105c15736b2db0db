"""A plan from a stranger makes no program unless the planner could have made it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from fuzz.plan_queries import queries, source, tilted
from msgspec.structs import replace

from wherry import InputError, col, lit, scan
from wherry.base.errors import CorruptError, Refused
from wherry.base.ids import digest
from wherry.data.segment import SegmentPool
from wherry.devices.here import HereDriver
from wherry.devices.profile import load_profile
from wherry.ir.build import Build, image_of
from wherry.ir.codec import encode
from wherry.ir.expr import Arithmetic, Cast, Column, Compare, Member, Negate, Node, Parameter
from wherry.ir.stage import Matches, Order, Pass, Rows, SortKey, Take
from wherry.ir.user import kernel
from wherry.plan.query import Plan, Query, prepare
from wherry.plan.segments import Segment
from wherry.plan.verify import verified
from wherry.run.carrier import Carrier
from wherry.run.commands import ALL, Read, Run
from wherry.run.continuation import Continuation, freeze
from wherry.run.worker import Hop, Worker

KEY = bytes(range(32))
I64 = pa.int64()
TABLE = pa.table(
    {
        "x": pa.array([3, 7, 5], I64),
        "d": pa.array([30, 40, 50], pa.decimal128(19, 2)),
        "s": ["a", "b", None],
    }
)
SOURCE = scan(TABLE).source


def planned(*steps: object, kind: str = "near", **changes: object) -> Plan:
    """Give a plan over x, d and s."""
    middle = [Segment("near", (), (Pass(None, Rows((("x", Column("x", I64)),))),))]
    own = Segment(kind, (), steps)
    segments = [own] if kind == "near" else [*middle, own]
    fields = tuple((f.name, f.type) for f in TABLE.schema)
    made = Plan(
        "memory", SOURCE.fingerprint, fields, (),
        (Segment("routing", (), ()), *segments, Segment("respond", (), ())),
    )  # fmt: skip
    return replace(made, **changes)


def rows(*nodes: Node) -> Pass:
    return Pass(None, Rows(tuple((f"c{number}", node) for number, node in enumerate(nodes))))


def refusal(plan: Plan) -> str:
    with pytest.raises(CorruptError) as caught:
        verified(plan)
    return str(caught.value)


X = Column("x", I64)


def test_plans_of_the_planner_pass() -> None:
    for query in queries():
        facts = verified(query.plan)
        assert len(facts.parameters) == len(query.literals)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Column("y", I64), "no column 'y'"),
        (Column("x", pa.int32()), "column 'x' is said to be int32; it is int64"),
        (Arithmetic("+", X, X, pa.float64()), "result of \\+ is said to be double; it is int64"),
        (Arithmetic("%", X, X, I64), "the operator '%'"),
        (Compare("==", X, Column("s", pa.utf8())), "== does not apply to int64 and string"),
        (Negate(Column("s", pa.utf8())), "- does not apply to string"),
        (Cast(X, pa.utf8()), "no cast from int64 to string"),
        (Cast(Column("s", pa.utf8()), pa.binary(1 << 30)), "values of 1073741824 bytes each"),
        (Parameter(0, I64, 10**9), "constant 0 of 1000000000 digits"),
        (Parameter(1, I64, 3), "numbered up to 1, and there are 1"),
        (Column("x", "int64"), "is said to be int64"),  # type: ignore[arg-type]
        ("x", "str is no expression"),
        (Member((X,), Parameter(0, I64, 1)), "as the rows of a join"),
    ],
)
def test_what_has_another_type_than_it_says_is_refused(node: Node, why: str) -> None:
    with pytest.raises(CorruptError, match=why):
        verified(planned(rows(X, node)))


def test_the_place_is_named() -> None:
    node = Arithmetic("+", X, Negate(Column("y", I64)), I64)
    said = refusal(planned(rows(X, node)))
    place = "segment 1 (near), step 0.sink.outputs[1].right.operand: no column 'y'"
    assert said == f"plan: {place}"


def test_one_constant_has_one_type() -> None:
    text = Compare("==", Column("s", pa.utf8()), Parameter(0, pa.utf8()))
    number = Compare("==", X, Parameter(0, I64, 3))
    assert "different types" in refusal(planned(rows(text, number)))


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (planned(rows(X), bounds=(("x", 7, 3),)), r"\.bounds of 'x': 7 to 3"),
        (planned(rows(X), bounds=(("s", 0, 1),)), "there are no bounds of 's'"),
        (planned(rows(X), bounds=(("x", 0, 1 << 70),)), "0 to 1180591620717411303424"),
        (planned(rows(X), fields=(("x", I64), ("x", I64))), "two columns of one name"),
        (planned(rows(X), fields=(("\0x", I64),)), "is no name of a column"),
        (planned(rows(X), segments=()), "possible: 1 to"),
        (planned(rows(X), kind="partial"), "partial rows that nobody merges"),
        (planned(Take(3)), "step 0 is a Take"),
        (planned(Take(-1), kind="merge"), "takes no number of rows"),
        (planned(Order((SortKey("z", False),), 3), kind="merge"), r"\.by names 'z'"),
        (planned(Order((SortKey("x", False),), None, 4), kind="merge"), "'x' has 0 numbers"),
        (planned(rows(*[X] * (1 << 15))), "possible: 1 to 16384"),
    ],
)
def test_what_the_planner_does_not_make_is_refused(plan: Plan, why: str) -> None:
    with pytest.raises(CorruptError, match=why):
        verified(plan)


def test_passes_that_grow_when_they_are_fused_are_refused() -> None:
    twice = Arithmetic("+", X, X, I64)
    step = Pass(None, Rows((("x", twice),)))
    verified(planned(*[step] * 4))
    assert "fused" in refusal(planned(*[step] * 60))


def test_a_function_that_is_not_declared_here_is_refused() -> None:
    @kernel
    def local(x: float) -> float:
        return x + 1.0

    node = local(col("x").cast(pa.float64())).node
    assert isinstance(node, type(tilted(1.0, 1)) | Node)
    pipeline = scan(SOURCE).select(y=local(col("x").cast(pa.float64())))
    plan = prepare(pipeline.source, pipeline.operators, pipeline.schema).plan
    verified(plan)
    ((name, call),) = plan.segments[1].steps[0].sink.outputs
    for changed, kind in (
        (replace(call, digest=bytes(16)), Refused),
        (replace(call, type=pa.int8()), CorruptError),
        (replace(call, operations=7), CorruptError),
        (replace(call, arguments=(X,)), CorruptError),
    ):
        with pytest.raises(kind):
            verified(planned(Pass(None, Rows(((name, changed),)))))


def worker(data: object = SOURCE) -> Worker:
    return Worker(HereDriver("csd0", load_profile("newport")), (data,), KEY, SegmentPool())


def opened(device: Worker, query: Query, plan: Plan, stage: tuple[int, int], **more: object) -> Hop:
    """Install a plan and open a continuation of it."""
    device.install(encode(plan))
    for literal in query.literals:
        if isinstance(literal.value, Build):
            device.keep(literal.value)
    said = Continuation(
        query=b"q" * 16, epoch=0, hop=1, plan=digest(encode(plan)), first=stage[0], last=stage[1],
        values=tuple(image_of(literal) for literal in query.literals), chunks=query.chunks,
        sites=("csd0",) * len(plan.segments),
    )  # fmt: skip
    return device.receive(freeze(replace(said, **more), KEY))


def asked() -> Query:
    """Give a query whose decimals are computed in 64 bits because bounds say that they fit."""
    pipeline = scan(SOURCE).filter(col("x") > 4).select(y=col("d") * col("d"), x=col("x"))
    return prepare(pipeline.source, pipeline.operators, pipeline.schema)


def test_bounds_that_are_not_true_of_what_is_read_are_refused() -> None:
    query = asked()
    assert {n: (lo, hi) for n, lo, hi in query.plan.bounds}["d"] == (3000, 5000)
    for bounds in ((("d", 3000, 4999),), (("d", 3001, 5000),), (("x", 0, 6),)):
        device = worker()
        carrier = Carrier({"csd0": device}, b"")
        carrier.open("csd0", 0, opened(device, query, replace(query.plan, bounds=bounds), (1, 1)))
        carrier.leave(Read("csd0", "csd0", 0, query.chunks))
        with pytest.raises(CorruptError, match="is said to hold"):
            carrier.run(Run("csd0", 0, 0, ((-1, 0),)))


def run_over(query: Query, batch: pa.RecordBatch, stage: tuple[int, int] = (1, 1)) -> pa.Table:
    device = worker()
    carrier = Carrier({"csd0": device}, b"")
    carrier.open("csd0", 0, opened(device, query, query.plan, stage))
    carrier.hold((-1, 0), batch)
    carrier.run(Run("csd0", 0, ALL if stage[0] > 1 else 0, ((-1, 0),)))
    return pa.Table.from_batches([carrier.pieces[0, ALL if stage[0] > 1 else 0]])


def test_rows_from_elsewhere_are_looked_at() -> None:
    query, names = asked(), ["x", "d"]
    (sound,) = TABLE.select(names).to_batches()
    assert run_over(query, sound)["x"].to_pylist() == [7, 5]
    wide = sound.set_column(1, "d", pa.array([30, 40, 50_000_000], pa.decimal128(19, 2)))
    with pytest.raises(CorruptError, match=r"'d', from elsewhere, is said to hold 3000 to 5000"):
        run_over(query, wide)
    for wrong in (sound.select(["x"]), sound.select(["d", "x"]), sound.rename_columns(["x", "e"])):
        with pytest.raises(CorruptError, match="possible: x int64, d decimal128"):
            run_over(query, wrong)
    with pytest.raises(CorruptError, match="rows of x string, d decimal128"):
        run_over(query, sound.set_column(0, "x", pa.array(["a", "b", "c"])))


def test_numbers_of_buckets_from_elsewhere_are_looked_at() -> None:
    pipeline = scan(SOURCE).route("x", shards=3).select("shard", "x")
    query = prepare(pipeline.source, pipeline.operators, pipeline.schema)
    stage = next(n for n, s in enumerate(query.segments) if s.kind == "merge")
    x = pa.array([1, 2, 3], I64)
    names = ["x", "shard"]
    sound = pa.RecordBatch.from_arrays([x, pa.array([2, 0, 1], pa.int32())], names)
    assert run_over(query, sound, (stage, stage))["x"].to_pylist() == [2, 3, 1]
    for numbers in ([0, 1, 3], [-1, 0, 1], [0, None, 1]):
        wrong = pa.RecordBatch.from_arrays([x, pa.array(numbers, pa.int32())], names)
        with pytest.raises(CorruptError, match="possible: 0 to 2"):
            run_over(query, wrong, (stage, stage))


def test_unwritten_rows_of_another_plan_are_refused() -> None:
    grouped = scan(SOURCE).group_by("x").agg(n=col("d").sum())
    query = prepare(grouped.source, grouped.operators, grouped.schema)
    device = worker()
    carrier = Carrier({"csd0": device}, b"")
    carrier.open("csd0", 0, opened(device, query, query.plan, (1, 2)))
    other = asked()
    carrier.open("csd0", 1, opened(device, other, other.plan, (2, 2)))
    carrier.leave(Read("csd0", "csd0", 0, query.chunks))
    carrier.run(Run("csd0", 0, 0, ((-1, 0),)))
    with pytest.raises(CorruptError, match=r"possible: y decimal128\(38, 4\), x int64"):
        carrier.run(Run("csd0", 1, 0, ((0, 0),)))


def test_stored_rows_go_into_no_later_stage() -> None:
    query = prepare(SOURCE, *_sorted())
    device = worker()
    carrier = Carrier({"csd0": device}, b"")
    carrier.open("csd0", 1, opened(device, query, query.plan, (2, 3)))
    carrier.leave(Read("csd0", "csd0", 0, query.chunks))
    with pytest.raises(CorruptError, match="takes no stored rows"):
        carrier.run(Run("csd0", 1, ALL, ((-1, 0),)))


def _sorted() -> tuple[object, pa.Schema]:
    pipeline = scan(SOURCE).select(y=col("x") + 1).sort("y")
    return pipeline.operators, pipeline.schema


@pytest.mark.parametrize("value", [None, "7", 7.5, True, 10**6])
def test_a_constant_has_the_type_and_the_digits_of_its_parameter(value: object) -> None:
    query = asked()
    assert query.literals[0].value == 4
    with pytest.raises(InputError):
        opened(worker(), query, query.plan, (1, 1), values=(value,))


@pytest.mark.parametrize("value", ["1e999999", "NaN", "0.001", "123456789012345678.5", "x"])
def test_a_decimal_has_the_digits_of_its_parameter(value: str) -> None:
    pipeline = scan(SOURCE).filter(col("d") > 3.25)
    query = prepare(pipeline.source, pipeline.operators, pipeline.schema)
    with pytest.raises(InputError):
        opened(worker(), query, query.plan, (1, 1), values=(value,))


def test_every_segment_has_a_site() -> None:
    query = asked()
    with pytest.raises(CorruptError, match="1 sites for 3 segments"):
        opened(worker(), query, query.plan, (1, 1), sites=("csd0",))


def test_columns_are_those_of_the_source() -> None:
    query = asked()
    fields = (("x", pa.int32()), ("d", pa.decimal128(19, 2)))
    # The source is known by a fingerprint that the stranger says.
    plan = planned(rows(Column("x", pa.int32())), fields=fields)
    hop = opened(worker(), replace(query, literals=()), plan, (1, 1))
    with pytest.raises(CorruptError, match="'x' of 'memory' is said to be int32; there is int64"):
        worker().route(hop)


def test_a_constant_text_is_not_written_for_more_rows_than_fit() -> None:
    many = scan(pa.table({"x": pa.array(range(4000), I64)}))
    pipeline = many.select(x=col("x"), y=col("x").is_null(), z=_text(1 << 10))
    query = prepare(pipeline.source, pipeline.operators, pipeline.schema)
    values = ("z" * 1_000_000,)
    device = worker(many.source)
    hop = opened(device, query, query.plan, (1, 1), values=values)
    batch = device.read(hop, query.chunks[0])
    with pytest.raises(InputError, match=r"constant texts would take .* in 4000 rows"):
        device.run(hop, batch)


def _text(length: int) -> object:
    return lit("z" * (length // 2))


def test_every_join_is_looked_up_by_as_many_keys_as_its_rows_have() -> None:
    query = next(q for q in queries() if any(isinstance(v.value, Build) for v in q.literals))
    place = next(n for n, v in enumerate(query.literals) if isinstance(v.value, Build))
    image = image_of(query.literals[place])
    values = [image_of(literal) for literal in query.literals]
    values[place] = type(image)(image.digest, image.rows, image.nbytes, image.bounds * 2)
    with pytest.raises(CorruptError, match="keys of a join by"):
        opened(worker(source()), query, query.plan, (1, 1), values=tuple(values))
    steps = [s for segment in query.plan.segments for s in segment.steps]
    assert any(isinstance(getattr(s, "sink", None), Matches) for s in steps)
