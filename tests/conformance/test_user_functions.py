"""Users' functions: what they mean, what is refused, and when they are compiled anew."""

import math
import subprocess
import sys

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

import wherry as wh
from wherry import col
from wherry.base.errors import CorruptError, InputError
from wherry.ir.codec import decode, encode
from wherry.ir.reference import evaluate
from wherry.ir.resolve import resolve
from wherry.ir.user import known_kernel
from wherry.ops.operator import one_batch

ROUNDS = 3
SHIFT = -1.5


@wh.kernel
def half(x: float) -> float:
    return x / 2


@wh.kernel
def mixed(x: float, n: int, flag: bool) -> float:
    """Names a constant, a loop, math and another kernel."""
    total = SHIFT
    for i in range(ROUNDS):
        if n > i and not flag:
            total += math.sqrt(x) + math.exp(-x)
        elif i == 1:
            continue
    return total + half(x) if x < 100 else math.inf


@wh.kernel
def wraps(n: int, m: int) -> int:
    return n * m + (n // 3 if m > 0 else -n)


@wh.kernel
def small(a: pa.int8(), b: pa.uint16(), c: pa.float32()) -> pa.float32():  # type: ignore[valid-type]
    return a * c + b


@wh.kernel
def assigned(x: float) -> float:
    """Every name has a value before it is read, on ways that differ."""
    for i in range(2):
        y = x + i
        if y > 1:
            z = y
            break
        z = 1.0
    if z < 0:
        return x
    w = z
    return w + y + i


@wh.kernel
def truth(x: float, flag: bool) -> bool:
    return x > 0.5 or flag


FLOATS = st.sampled_from([0.0, -0.0, 1.5, -4.0, 99.0, 1e300, math.inf, math.nan, None])
INTEGERS = st.sampled_from([0, 1, -1, 7, 1 << 40, -(1 << 63), (1 << 63) - 1, None])
TRUTHS = st.sampled_from([True, False, None])


def columns(draw, rows):
    kinds = {"x": (pa.float64(), FLOATS), "n": (pa.int64(), INTEGERS), "m": (pa.int64(), INTEGERS)}
    kinds |= {"f": (pa.bool_(), TRUTHS)}
    found = {}
    for name, (t, values) in kinds.items():
        some = draw(st.lists(values, min_size=1, max_size=9))
        found[name] = pa.array([some[i % len(some)] for i in range(rows)], t)
    return pa.table(found)


@given(data=st.data(), rows=st.sampled_from([0, 1, 63, 64, 130]))
def test_functions_mean_what_python_computes(data, rows):
    table = columns(data.draw, rows)
    expressions = {
        "a": mixed(col("x"), col("n"), col("f")),
        "b": wraps(col("n"), col("m")),
        "c": truth(col("x"), col("f")),
        "d": half(mixed(col("x"), 2, False)),
        "e": assigned(col("x")),
    }
    made = wh.scan(table).select(**expressions).collect()
    for name, expression in expressions.items():
        node, batch = resolve(expression.node, table.schema), one_batch(table)
        wanted = evaluate(node, batch).to_pylist()
        for one, other in zip(made[name].to_pylist(), wanted, strict=True):
            assert same(one, other), (name, one, other)


def same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    return one == other


def test_narrow_types_are_passed_as_they_are():
    table = pa.table(
        {
            "a": pa.array([1, -128, None], pa.int8()),
            "b": pa.array([2, 65535, 1], pa.uint16()),
            "c": pa.array([0.5, 2.0, 1.0], pa.float32()),
        }
    )
    made = wh.scan(table).select(y=small(col("a"), col("b"), col("c"))).collect()
    assert made["y"].to_pylist() == [2.5, 65279.0, None]
    assert made.schema.field("y").type == pa.float32()


def test_functions_filter_group_and_aggregate_on_devices():
    table = pa.table({"x": [1.0, -1.0, None, 8.0] * 50, "k": [1, 2, 3, 4] * 50})
    query = wh.scan(table).filter(truth(col("x"), False))
    query = query.group_by(h=wraps(col("k"), 1)).agg(t=half(col("x")).sum())
    found = query.run("dpu-csd-host", strict=True).table.sort_by("h").to_pydict()
    assert found == {"h": [1, 5], "t": [25.0, 200.0]}


def test_plain_numbers_give_plain_numbers():
    assert half(3.0) == 1.5
    assert mixed(200.0, 1, True) == math.inf


def test_a_plan_names_a_function_by_digest():
    node = resolve(half(col("x")).node, pa.schema({"x": pa.float64()}))
    again = decode(encode(node))
    assert again == node
    assert known_kernel(again.digest, "half") is half
    assert b"x / 2" not in encode(node)
    with pytest.raises(InputError, match=r"the function half of digest 00.* is not declared here"):
        known_kernel(bytes(16), "half")
    with pytest.raises(CorruptError):
        decode(encode(node).replace(b"Apply", b"Applx"))


def test_the_digest_follows_what_the_value_depends_on(tmp_path):
    text = (
        "import wherry as wh\nC = {c}\n@wh.kernel\ndef f(x: float) -> float:\n    return x {op} C\n"
    )
    text += "print(f.digest.hex())\n"
    seen = []
    for c, op in ((1, "+"), (1, "+"), (2, "+"), (1, "-")):
        path = tmp_path / "f.py"
        path.write_text(text.format(c=c, op=op))
        command = [sys.executable, path]
        seen.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


def test_types_must_fit():
    with pytest.raises(InputError, match="half takes 1 values; got 2"):
        half(col("x"), 1.0)
    table = pa.table({"s": ["a"], "x": [1.5]})
    with pytest.raises(InputError, match="half takes double as value 1; s is string: cast it"):
        wh.scan(table).select(y=half(col("s")))
    with pytest.raises(InputError, match="wraps takes int64 as value 1; x is double"):
        wh.scan(table).select(y=wraps(col("x"), 1))


REFUSED = {
    "while x > 0: x -= 1": "write `for i in range(CONSTANT)`",
    "for i in range(int(x)): x += 1": "bounds of a loop must be whole constants",
    "for i in range(400):\n  for j in range(400): x += 1": "at most 100000",
    "x = [1]": "there are no lists",
    "x = 'a'": "'a' is no number",
    "y = open": "'open' is neither an argument nor a number",
    "y = abs(x).real": "only these of `math` are known",
    "y = print(x)": "can call abs, bool",
    "try:\n  x = 1\nexcept ValueError: pass": "test with `if`",
    "import os": "only `math` can be used",
    "a, b = 1, 2": "assign one name",
    "if x > 1: return x": None,
    "if x > 1: y = 1.0\nx = y": "'y' may have no value yet here: assign it on every way",
    "for i in range(3):\n  if x > i: break\n  y = x\nx = y": "'y' may have no value yet here",
    "for i in range(0): y = x\nx = y": "'y' may have no value yet here",
    "y += x": "'y' may have no value yet here",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_is_no_arithmetic_is_refused(tmp_path, body):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    ending = "" if REFUSED[body] is None else "    return x\n"
    path = tmp_path / "user.py"
    path.write_text(f"import wherry as wh\n@wh.kernel\ndef f(x: float) -> float:\n{lines}{ending}")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    message = REFUSED[body] or "ends without `return`"
    assert message in done.stderr
    assert f"{path}:" in done.stderr


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: wh.kernel(lambda x: x), "needs an annotation"),
        (lambda: wh.kernel(len), "cannot be read|needs an annotation|plain argument"),
    ],
)
def test_what_is_no_function_of_numbers_is_refused(declare, message):
    with pytest.raises(InputError, match=message):
        declare()
