"""CUDA programs piece by piece: kernels over many blocks, what is kept of NVRTC, refusals."""

import numpy as np
import pyarrow as pa
import pytest
from support.chunks import SCHEMA, calls_of, rows_of
from support.cuda_cases import NARROW, every_type, forecast
from support.cuda_shim import SHARED, ShimDevice

from wherry import col
from wherry.base.errors import InputError, Refused, WherryError
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve
from wherry.ir.stage import Groups, Pass, Rows, Stage
from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.filter import SCANNED, SCANNING
from wherry.render.cuda.program import CudaProgram, plan_pass
from wherry.render.cuda.share import render


def rendered(case):
    return render(plan_pass(case()[0].steps[0], SCHEMA, NARROW), frozenset(), {}, SHARED).program


def launched(program, device, entry, words, grid=1, block=256):
    found = [words.get(kind, 0) for (kind, _), _ in program.slots]
    device.launch(program.text, entry, grid, block, np.array(found, np.uint64).tobytes())


@pytest.mark.parametrize("tiles", [1, 255, 1024, 16_384, 16_385, 40_000])
def test_any_number_of_tiles_is_scanned(tiles):
    counts = np.random.default_rng(1).integers(0, 2049, tiles).astype(np.uint32)
    device = ShimDevice()
    offsets, put = device.room((tiles + 1) * 8), device.put(counts.view(np.uint8))
    words = {"rows": tiles * 2048, "offsets": offsets.address, "counts": put.address}
    launched(rendered(every_type), device, "scan_pass", words, -(-tiles // SCANNED), SCANNING)
    found = device.get(offsets.address, (tiles + 1) * 8).view(np.uint64)
    assert found.tolist() == [0, *np.cumsum(counts, dtype=np.uint64).tolist()]


@pytest.mark.parametrize("spans", [0, 1, 257, 1000])
def test_any_number_of_partial_states_is_folded(spans):
    kept = np.dtype([("rows", "<i8"), ("value", "<f8")])
    states = np.zeros(spans + 1, kept)
    states["rows"][:spans] = np.arange(spans)
    # Sums of these are exact.
    states["value"][:spans] = 2.0 ** (np.arange(spans) % 50)
    device = ShimDevice()
    block = device.put(states.view(np.uint8))
    words = {"rows": spans * 32768, "span": 32768, "states": block.address}
    launched(rendered(forecast), device, "fold_pass", words)
    found = device.get(block.address, (spans + 1) * kept.itemsize).view(kept)[spans]
    assert found["rows"] == states["rows"][:spans].sum()
    assert found["value"] == states["value"][:spans].sum()


def test_older_cards_are_refused(tmp_path):
    with pytest.raises(InputError, match="sm_80 and later, not on sm_75"):
        compile_program(rendered(forecast), "sm_75", tmp_path)


def test_cubins_are_kept(tmp_path):
    program = render(
        plan_pass(forecast()[0].steps[0], SCHEMA, NARROW), frozenset(), {}, SHARED
    ).program
    first, again = (compile_program(program, "sm_90", tmp_path) for _ in range(2))
    assert (first.cached, again.cached) == (False, True)
    assert again.image == first.image
    assert again.kernels == first.kernels
    assert not compile_program(program, "sm_80", tmp_path).cached


def test_what_does_not_compile_is_quoted(tmp_path):
    with pytest.raises(WherryError, match="nonsense"):
        compile_program(CudaProgram("nonsense;", ()), "sm_90", tmp_path)


def test_names_do_not_change_the_text():
    texts = []
    for column in ("x", "*/ #error"):
        schema = pa.schema({column: pa.float64()})
        test = resolve((col(column) > 1).node, schema)
        sink = Rows((("out", resolve((col(column) * 2).node, schema)),))
        stage, _ = lift(Stage((Pass(test, sink),)))
        texts.append(
            render(plan_pass(stage.steps[0], schema, {}), frozenset(), {}, SHARED).program.text
        )
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ({"s": col("s")}, "string as output"),
        ({"n": col("f64").cast(pa.int64())}, "a cast that may fail"),
        ({"n": col("s").str.like("a_")}, "a pattern with _"),
        ({"n": col("w") * col("w") * col("w")}, "may need more than 38 digits"),
    ],
)
def test_refusals_say_why(outputs, why):
    with pytest.raises(Refused) as refused:
        plan_pass(Pass(None, rows_of(**outputs)), SCHEMA, {})
    assert why in str(refused.value)


def test_floats_by_unbounded_keys_are_refused():
    keys = (("i8", resolve(col("i8").node, SCHEMA)), ("b", resolve(col("b").node, SCHEMA)))
    step = lift(Stage((Pass(None, Groups(keys, calls_of(x=col("f64").sum()))),)))[0].steps[0]
    plan = plan_pass(step, SCHEMA, {"i8": (-128, 127)})
    with pytest.raises(Refused, match="no fixed order"):
        render(plan, frozenset(), {}, SHARED)
