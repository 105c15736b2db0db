"""What is made of expressions in CUDA programs, word for word; skeletons stand in kernels/cuda."""

from collections.abc import Callable

import pytest
from support.chunks import SCHEMA
from support.cuda_cases import NARROW, by_code, dictionaries, forecast
from support.cuda_shim import SHARED

from wherry.render.cuda.program import plan_pass, skeleton
from wherry.render.cuda.share import render


@pytest.mark.parametrize("case", [forecast, by_code, dictionaries], ids=lambda case: case.__name__)
def test_texts(case: Callable, golden: Callable[[str, str], None]) -> None:
    plan = plan_pass(case()[0].steps[0], SCHEMA, NARROW)
    text = render(plan, frozenset({"f64", "c"}), {"c": 9}, SHARED).program.text
    for name in ("prelude", "texts", "reduce", "filter", "totals", "groups"):
        text = text.replace(skeleton(name), f"// {name}.cu\n")
    golden(f"cuda_{case.__name__}", text.rstrip("\n"))
