"""What is made of expressions in CUDA programs, word for word; skeletons stand in kernels/cuda."""

from collections.abc import Callable

import pytest
from support.chunks import SCHEMA, rows_of, staged
from support.cuda_cases import NARROW, by_code, dictionaries, forecast
from support.cuda_shim import SHARED

from wherry import col
from wherry.ir.stage import Order, Pass, SortKey
from wherry.render.cuda.program import plan_pass, skeleton
from wherry.render.cuda.share import render

SKELETONS = ("prelude", "texts", "reduce", "filter", "totals", "groups", "top")


def without_skeletons(text: str) -> str:
    for name in SKELETONS:
        text = text.replace(skeleton(name), f"// {name}.cu\n")
    return text.rstrip("\n")


@pytest.mark.parametrize("case", [forecast, by_code, dictionaries], ids=lambda case: case.__name__)
def test_texts(case: Callable, golden: Callable[[str, str], None]) -> None:
    plan = plan_pass(case()[0].steps[0], SCHEMA, NARROW)
    text = render(plan, frozenset({"f64", "c"}), {"c": 9}, SHARED).program.text
    golden(f"cuda_{case.__name__}", without_skeletons(text))


def test_first_rows(golden: Callable[[str, str], None]) -> None:
    keys = (SortKey("f64", descending=True), SortKey("i64", descending=False))
    stage, _ = staged(Pass(None, rows_of(f64=col("f64"), i64=col("i64"))), Order(keys, 10))
    plan = plan_pass(stage.steps[0], SCHEMA, NARROW, stage.steps[1])
    text = render(plan, frozenset({"f64", "i64"}), {}, SHARED).program.text
    golden("cuda_first_rows", without_skeletons(text))
