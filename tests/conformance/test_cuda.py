"""CUDA programs without a CUDA device: what they compute, on a CPU, and that NVRTC compiles them.

Each program runs as it is, on a shim (`support/cuda_shim.hpp`), against the slow interpreter; and
NVRTC compiles each for two architectures. Only a device shows races and how fast they are.
"""

import pytest
from support.chunks import SCHEMA, batch_of, same
from support.cuda_cases import FILTERS, NARROW
from support.cuda_shim import ShimDevice

from wherry.render.cuda.compile import compile_program
from wherry.render.cuda.program import plan_pass
from wherry.render.cuda.run import render_pass, run_pass
from wherry.render.reference import run_reference

REGISTERS_MOST = 128
"""Of a thread: with more, fewer than 16 warps fit on a core, and loads do not overlap."""
CHUNKS = [(0, 0.0, 0), (1, 0.0, 0), (63, 0.3, 3), (2048, 0.0, 5), (5000, 0.3, 3), (300, 1.0, 0)]


def checked(case, batch, blocks=3):
    stage, literals = case()
    plan = plan_pass(stage.steps[0], batch.schema, NARROW)
    found = run_pass(plan, batch, literals, ShimDevice(blocks))
    same(found, run_reference(stage, batch, literals))
    return found


def name(case):
    return case.__name__


@pytest.mark.parametrize("case", FILTERS, ids=name)
def test_filters(case):
    passed = [checked(case, batch_of(rows, nulls, 3, at)).num_rows for rows, nulls, at in CHUNKS]
    assert passed[3] > 0


@pytest.mark.parametrize("case", FILTERS, ids=name)
@pytest.mark.parametrize("nulls", [frozenset(), frozenset(SCHEMA.names)], ids=["full", "nulls"])
def test_nvrtc_compiles(case, nulls, tmp_path, record_property):
    program = render_pass(plan_pass(case()[0].steps[0], SCHEMA, NARROW), nulls)
    for arch in ("sm_80", "sm_90"):
        for entry, kernel in compile_program(program, arch, tmp_path).kernels.items():
            record_property(f"{arch} {entry} registers", kernel.registers)
            assert kernel.spilled_bytes == 0, entry
            assert kernel.registers <= REGISTERS_MOST, entry
