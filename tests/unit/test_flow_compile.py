"""Where functions are found, what messages point at, tracebacks, what is proven."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import Any

import pytest
from support.movables import VOCABULARY, Movable, compiled, declare, note, sleep

from wherry.base.errors import InputError
from wherry.flow.compile import compile_function
from wherry.flow.marks import effect_mark
from wherry.flow.nodes import Program, identity
from wherry.flow.proof import proof, proof_json
from wherry.flow.run import compiled_of
from wherry.flow.source import Rejected
from wherry.flow.verify import decode_program
from wherry.ir.codec import encode


def _within(limit: int) -> Program:
    async def inner(n: int) -> str:
        # a comment at the left edge, and a text that dedenting would change
        text = """a
        b"""
        for i in range(limit):
            await sleep(i + n)
        return text

    return compile_function(inner, VOCABULARY)


def test_a_function_within_a_function_keeps_its_constants_and_texts() -> None:
    machine = compiled_of(_within(0))
    assert machine.start((1,))[1] == "a\n        b"
    assert compiled_of(_within(2)).start((1,))[2] == (1,)
    assert identity(_within(2)) != identity(_within(3))


def test_a_name_that_is_bound_later_is_refused() -> None:
    async def inner(n: int) -> int:
        return n + later

    with pytest.raises(Rejected, match="later has no value yet"):
        compile_function(inner, VOCABULARY)
    later = 3
    assert compiled_of(compile_function(inner, VOCABULARY)).start((1,))[1] == 1 + later


def test_all_reasons_come_at_once_in_the_order_of_lines() -> None:
    text = "async def f(n):\n    x = [1]\n    with x: pass\n    größe = print(n)\n"
    text += "    return 'ä' + [2]\n"
    with pytest.raises(Rejected) as refused:
        compile_function(declare(text), VOCABULARY)
    reasons = refused.value.reasons
    assert [reason.line for reason in reasons] == [1, 2, 3, 4, 5]
    assert reasons[3].text[reasons[3].column - 1 :] == "print(n)"
    assert reasons[4].text[reasons[4].column - 1 :] == "[2]"
    assert isinstance(refused.value, InputError)


def test_an_error_has_the_line_of_the_function(tmp_path: Path) -> None:
    file = tmp_path / "moves.py"
    file.write_text(
        "from support.movables import sleep\n\n"
        "async def f(n: int) -> int:\n"
        "    await sleep(n)\n"
        "    m = n\n"
        "    return 10 // m  # this line\n"
    )
    spec = importlib.util.spec_from_file_location("moves", file)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = compile_function(module.f, VOCABULARY)
    step = compiled_of(program).start((0,))
    with pytest.raises(ZeroDivisionError) as raised:
        compiled_of(program).resume(step[0], step[1], None)
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == (str(file), 6, "return 10 // m  # this line")


def test_a_file_named_in_a_message_is_not_shown() -> None:
    text = "async def f(n: int) -> int:\n    return 10 // n + 977\n"
    data = encode(compiled(text)).replace(b"<test ", b"</etc/")
    machine = compiled_of(decode_program(data, VOCABULARY.methods))
    with pytest.raises(ZeroDivisionError) as raised:
        machine.start((0,))
    assert traceback.extract_tb(raised.value.__traceback__)[-1].filename == "<movable f>"


def test_stack_tells_every_movable_that_waits() -> None:
    text = """
@movable
async def one(n: int) -> int:
    return await note("x", n)
@movable
async def two(n: int) -> int:
    m = await one(n)
    return m + 1
async def f(n: int) -> int:
    m = await two(n)
    return m + n
"""
    program = compiled(text, movable=Movable)
    machine = compiled_of(program)
    position, values, operands = machine.start((4,))
    stack = machine.stack(position, values)
    assert [(p.name, at.text) for p, at in stack] == [
        ("f", "m = await two(n)"),
        ("two", "m = await one(n)"),
        ("one", 'return await note("x", n)'),
    ]
    assert machine.waiting(position, values) is stack[-1][1]
    assert operands == ("x", 4)
    assert machine.resume(position, values, 7) == (-1, 12, None)
    with pytest.raises(ValueError, match="lost"):
        machine.throw(position, values, ValueError("lost"))


def test_movables_nested_too_deep_are_refused() -> None:
    text = "@movable\nasync def f0(n: int) -> int:\n    return n\n"
    for i in range(1, 8):
        text += f"@movable\nasync def f{i}(n: int) -> int:\n    return await f{i - 1}(n)\n"
    text += "async def f8(n: int) -> int:\n    return await f7(n)\n"
    with pytest.raises(Rejected, match="movables are nested 9 deep"):
        compiled(text, movable=Movable)


def test_an_errors_text_is_cut() -> None:
    text = """
async def f(n: int) -> str:
    try:
        await sleep(n)
    except ValueError as e:
        await tell(str(e))
        return str(e)
    return ""
"""
    machine = compiled_of(compiled(text))
    position, values, _ = machine.start((1,))
    said = machine.throw(position, values, ValueError("ä" * 300))[2][0]
    assert said.endswith("...")
    assert 250 < len(said.encode()) <= 256


def test_proof_says_what_each_await_needs() -> None:
    text = """
async def f(n: int, to: str) -> Rows:
    rows = await scan("t").filter(lambda r: r.n > n).sort("n").limit(n)
    count = await note(to, n)
    paid = await pay(count, to)
    return await respond(rows)
"""
    found = proof_json(proof(compiled(text)))
    assert [row["effect"] for row in found["positions"]] == [
        "pure",
        "idempotent(to)",
        "once",
        "pure",
    ]
    assert found["positions"][0]["needs"] == ["filter", "sort", "limit"]
    assert found["positions"][0]["live"] == [
        {"name": "n", "type": "int", "bytes": 9},
        {"name": "to", "type": "str", "bytes": 259},
    ]
    assert found["frame_bytes"] == 3 + 259 + 170
    assert found["effect"] == "once"
    assert found["needs"] == ["filter", "limit", "respond", "sort"]


def test_effects_are_declared_completely() -> None:
    async def plain(a, b: int) -> None: ...  # type: ignore[no-untyped-def]
    async def several(*a: int) -> None: ...
    async def keyed(a: int) -> None: ...

    with pytest.raises(InputError, match="must be a plain, annotated parameter"):
        effect_mark(plain, "once")
    with pytest.raises(InputError, match="must be a plain, annotated parameter"):
        effect_mark(several, "once")
    with pytest.raises(InputError, match="needs key=PARAMETER"):
        effect_mark(keyed, "idempotent")
    with pytest.raises(InputError, match="no parameter 'b'"):
        effect_mark(keyed, "idempotent", "b")
    with pytest.raises(InputError, match="no effect class 'twice'"):
        effect_mark(keyed, "twice")
    assert note.__wherry__.key == "to"
