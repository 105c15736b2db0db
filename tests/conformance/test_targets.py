"""The same answers from code for other processors: aarch64 as on DPUs, x86 without AVX-512."""

from __future__ import annotations

from decimal import Decimal

import llvmlite.binding as llvm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.aarch64 import Aarch64
from support.clusters import cluster, store
from support.parquet_damage import WRITINGS, written

import wherry as wh
from wherry import col
from wherry.data.parquet_columns import decode_column
from wherry.data.parquet_native import decode, open_chunk
from wherry.kernels import skeletons as native
from wherry.kernels.engine import Engine, Target
from wherry.ops.operator import Case
from wherry.render import passes, program
from wherry.testing import cases, check_case

STEP = 11
"""Every eleventh case."""


class Haswell(Engine):
    """This processor as if it had no AVX-512; keeps the assembly of what it compiles."""

    def __init__(self, folder):
        super().__init__(folder, Target(llvm.get_process_triple(), "haswell", ""))
        self.assembly = ""

    def object_of(self, module):
        made = super().object_of(module)
        self.assembly += self._compiler.emit_assembly(module)
        return made


TARGETS = {"aarch64": Aarch64, "haswell": Haswell}


@pytest.fixture(scope="module", params=TARGETS)
def engine(request, tmp_path_factory):
    """Let everything be compiled for, and run on, another processor."""
    made = TARGETS[request.param](tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        for module in (native, passes):
            patch.setattr(module, "engine", lambda _: made)
        for name in native.modules():
            patch.setattr(native.skeletons(name), "__dict__", vars(native.Skeletons(name)))
        program._rendered.cache_clear()
        yield made
        program._rendered.cache_clear()


def longer(case: Case) -> Case:
    """Give a case with several whole blocks of rows."""
    return Case(case.title, case.operator, pa.concat_tables([case.rows] * 12).combine_chunks())


CASES = [longer(case) for case in cases()]


@pytest.mark.parametrize("part", range(8))
def test_cases_hold_on_other_processors(engine, part):
    for case in CASES[part * STEP :: 8 * STEP]:
        check_case(case)


def test_keys_that_ascend_on_other_processors(engine):
    rng, rows = np.random.default_rng(7), 3000
    numbers = rng.integers(-50, 50, rows)
    table = pa.table(
        {
            "k": np.sort(rng.integers(0, rows // 3, rows)),
            "v": numbers.astype(np.float64),
            "n": pa.array(numbers.astype(np.int8), mask=rng.random(rows) < 0.3),
            "exact": pa.array([Decimal(int(n)) for n in numbers], pa.decimal128(38, 2)),
        }
    )
    kept = wh.scan(table).filter(col("v") < 40)
    calls = {"v": "sum", "n": "min", "exact": "sum"}
    found = kept.group_by("k").agg(**{name: getattr(col(name), f)() for name, f in calls.items()})
    passed = table.filter(pc.less(table["v"], 40)).group_by("k").aggregate(list(calls.items()))
    wanted = passed.rename_columns(["k", *calls]).cast(found.schema)
    assert found.collect().to_pylist() == wanted.to_pylist()


def test_the_code_is_of_the_other_processor(engine):
    before = engine.calls if isinstance(engine, Aarch64) else 0
    check_case(CASES[0])
    if isinstance(engine, Aarch64):
        assert engine.calls > before
    else:
        assert "ymm" in engine.assembly
        assert "zmm" not in engine.assembly


@pytest.mark.parametrize("writing", WRITINGS)
def test_parquet_decodes_on_other_processors(engine, writing):
    file = written(writing, 3)
    for column in range(len(file.schema)):
        assert decode(open_chunk(file, 0, column)).to_pylist() == (
            decode_column(file, 0, column).to_pylist()
        )


def test_agents_on_other_processors(engine, tmp_path):
    """What agents are asked runs as code of their processor, from plan to handed-over answer."""
    table = pa.table(
        {
            "k": [n % 5 for n in range(600)],
            "x": [None if n % 7 == 2 else n / 2 for n in range(600)],
            "s": [f"text {n % 11} of some length" for n in range(600)],
        }
    )
    store(tmp_path, table, "rows", rows=150)
    store(tmp_path, table, "packed", rows=150, form="parquet", compression="snappy")
    before = getattr(engine, "calls", 0)
    with cluster(tmp_path, "csd0", "csd1", emulate=False) as there:
        for name in ("rows", "packed"):
            rows = there.scan(name).filter(col("x") > 100, col("s").str.starts_with("text 1"))
            found = rows.select("s", y=col("x") * 2).run(there.system, placement={"near": "home"})
            wanted = table.filter((pc.field("x") > 100) & pc.starts_with(pc.field("s"), "text 1"))
            assert found.table["s"].to_pylist() == wanted["s"].to_pylist()
            assert found.table["y"].to_pylist() == [2 * x for x in wanted["x"].to_pylist()]
            sums = there.scan(name).group_by("k").agg(t=col("x").sum()).collect(there.system)
            wanted = table.group_by("k").aggregate([("x", "sum")])
            assert sums["t"].to_pylist() == wanted["x_sum"].to_pylist()
    assert not hasattr(engine, "calls") or engine.calls > before
