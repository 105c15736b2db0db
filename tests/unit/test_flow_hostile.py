"""Hostile bytes: programs and frames that no compiler wrote are refused, and build nothing else."""

from __future__ import annotations

import random
import textwrap
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from support.movable_good import BY_HAND, CHAIN, CHAINS
from support.movables import VOCABULARY, Movable, Script, as_machine, declare, made

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.flow.compile import compile_function
from wherry.flow.frame import freeze_frame, thaw_frame
from wherry.flow.nodes import (
    Attribute,
    Await,
    Block,
    Constant,
    FunctionCall,
    Get,
    Jump,
    Let,
    MethodCall,
    Position,
    Program,
    Return,
    Slot,
    identity,
)
from wherry.flow.run import compiled_of
from wherry.flow.types import INT, NONE, STR, Sized
from wherry.flow.verify import decode_program, verify
from wherry.ir.codec import encode

TEXTS = {
    **{name: BY_HAND[name] for name in ("calls_that_fail", "try_nested", "top_orders", "effects")},
    **{name: BY_HAND[name] for name in ("for_nested", "becomes_option", "event_bytes")},
    "chain": CHAIN.format(chain=CHAINS["filter_arithmetic"]),
}


def _program(name: str) -> Program:
    return compile_function(declare(textwrap.dedent(TEXTS[name]), movable=Movable), VOCABULARY)


def _swapped(tree: Any, chance: random.Random, rate: float, parts: list[Any]) -> Any:
    """Give the tree with some parts replaced by others of it, or by odd values."""
    if chance.random() < rate:
        odd = [None, -1, 1 << 31, 1 << 63, "__class__", "x" * 300, b"", 1.5, True, [], "eval"]
        return chance.choice([*odd, chance.choice(parts)])
    if isinstance(tree, list):
        return [_swapped(item, chance, rate, parts) for item in tree]
    if isinstance(tree, dict):
        return {key: _swapped(item, chance, rate, parts) for key, item in tree.items()}
    return tree


def _parts(tree: Any) -> list[Any]:
    found = [tree]
    for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        found += _parts(item)
    return found


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_swapped_programs_are_refused_or_sound(name: str) -> None:
    program = _program(name)
    plain = msgspec.msgpack.decode(encode(program))
    parts = _parts(plain)
    chance = random.Random(name)
    sound = 0
    for turn in range(150):
        data = msgspec.msgpack.encode(
            _swapped(plain, chance, chance.choice([1, 3]) / len(parts), parts)
        )
        try:
            found = decode_program(data, VOCABULARY.methods)
        except CorruptError:
            continue
        sound += 1
        arguments = tuple(made(slot.type, chance) for slot in found.parameters)
        as_machine(found, arguments, Script(turn, most=20))
    assert sound < 150


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_flipped_programs_are_refused_or_sound(name: str) -> None:
    good = encode(_program(name))
    chance = random.Random(name)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = chance.randrange(len(data)) if chance.random() < 0.1 else len(data)
        try:
            compiled_of(decode_program(bytes(data[:cut]), VOCABULARY.methods))
        except CorruptError:
            continue


def test_frames_of_flipped_bytes_are_refused_or_hold_their_types() -> None:
    program = compile_function(
        declare(
            "async def f(a: int, s: str, xs: tuple[int, ...], m: date | None, r: Rows, d: Decimal,"
            " t: datetime) -> str:\n"
            "    await sleep(a)\n"
            "    return f'{a}{s}{xs[0]}{m}{r.num_rows}{d}{t}'\n"
        ),
        VOCABULARY,
    )
    chance = random.Random(7)
    refused = 0
    for _ in range(3000):
        values = tuple(made(slot.type, chance) for slot in program.positions[1].slots)
        data = bytearray(freeze_frame(program, 1, values))
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            thawed = thaw_frame(program, 1, bytes(data))
        except CorruptError:
            refused += 1
            continue
        assert thaw_frame(program, 1, freeze_frame(program, 1, thawed)) is not None
    assert refused > 500


def test_frames_of_any_bytes_are_refused() -> None:
    program = _program("calls_that_fail")
    chance = random.Random(8)
    for _ in range(2000):
        data = chance.randbytes(chance.randrange(40))
        for position in (-1, 0, 1, 2, 99):
            try:
                thaw_frame(program, position, data)
            except CorruptError:
                continue


def _one(*statements: Any, end: Any = None, **fields: Any) -> Program:
    given: dict[str, Any] = {
        "name": "f",
        "parameters": (Slot("s", STR),),
        "variables": (),
        "result": NONE,
        "blocks": (Block(statements, end or Return(Constant(None))),),
        "positions": (Position(0, None, NONE, None, (), (Slot("s", STR),)),),
        "callees": (),
        "places": _program("effects").places,
    }
    return Program(**{**given, **fields})


S = Get("s")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (_one(Let("x", Attribute(S, "__class__"))), "no attribute '__class__'"),
        (_one(Let("x", MethodCall(S, "format", (S,)))), "no method 'format'"),
        (_one(Let("x", MethodCall(S, "__reduce__", ()))), "no method '__reduce__'"),
        (_one(Let("x", FunctionCall("eval", (S,)))), "eval(str) has no type"),
        (_one(Let("x", FunctionCall("__import__", (S,)))), "__import__(str) has no type"),
        (_one(Let("x y", S)), "the name 'x y'"),
        (_one(Let("1.other", S)), "the name '1.other'"),
        (_one(Let("x", Get("y"))), "'y' may have no value"),
        (_one(Let("x", Constant(1 << 70))), "the constant"),
        (_one(Let("x", Constant((((((1,),),),),)))), "the constant"),
        (_one(end=Jump(7)), "a block that does not exist"),
        (_one(end=Jump(-1)), "a block that does not exist"),
        (_one(end=Await(0)), "an await without a position"),
        (_one(end=Return(S)), "it returns str, and declares None"),
        (_one(result=Sized("str", 1 << 40)), "the type Sized"),
        (_one(parameters=(Slot("s", INT),)), "position 0 is not the entry"),
        (_one(blocks=()), "0 blocks"),
        (_one(name="f()"), "the name 'f()'"),
        (_one(name=5), "a program holds int 5"),
        (_one(blocks=(1, 2)), "a program holds int 2"),
    ],
)
def test_programs_made_by_hand_are_refused(program: Program, said: str) -> None:
    with pytest.raises(CorruptError) as refused:
        verify(program)
    assert said in str(refused.value)


def test_other_slots_are_refused() -> None:
    program = _program("for_nested")
    for number, position in enumerate(program.positions[1:], 1):
        for slots in (
            position.slots[:-1],
            position.slots[::-1],
            (*position.slots, Slot("z", INT)),
            tuple(replace(slot, type=STR) for slot in position.slots),
        ):
            changed = list(program.positions)
            changed[number] = replace(position, slots=slots)
            with pytest.raises(CorruptError, match=f"the slots of position {number}"):
                verify(replace(program, positions=tuple(changed)))


def test_deep_and_large_programs_are_refused() -> None:
    deep: Any = S
    for _ in range(80):
        deep = FunctionCall("str", (deep,))
    with pytest.raises(CorruptError, match="64 levels"):
        verify(_one(Let("x", deep)))
    with pytest.raises(CorruptError, match="50000 nodes"):
        verify(_one(*(Let("x", S) for _ in range(60_000))))
    with pytest.raises(CorruptError, match="bytes; at most"):
        decode_program(b"x" * (2 << 20), frozenset())


def test_an_operator_that_pipelines_do_not_have_is_refused() -> None:
    data = encode(_program("top_orders"))
    with pytest.raises(CorruptError, match="no operator 'filter'"):
        decode_program(data, VOCABULARY.methods - {"filter"})


def test_what_grows_is_stopped() -> None:
    text = """
        async def f(s: str) -> int:
            for i in range(100000):
                s = s + s
            return len(s)
        """
    machine = compiled_of(compile_function(declare(textwrap.dedent(text)), VOCABULARY))
    with pytest.raises(OverflowError, match="65535"):
        machine.start(("ab",))
    text = (
        "async def f(n: int) -> int:\n    for i in range(100):\n        n = n * n\n    return n\n"
    )
    machine = compiled_of(compile_function(declare(text), VOCABULARY))
    with pytest.raises(OverflowError, match="64"):
        machine.start((3,))


def test_a_step_ends() -> None:
    text = "async def f(n: int) -> int:\n    for i in range(n):\n        n = i\n    return n\n"
    machine = compiled_of(compile_function(declare(text), VOCABULARY))
    with pytest.raises(WherryError, match="1,000,000 turns"):
        machine.start((1 << 40,))


def test_what_arrives_is_checked() -> None:
    program = _program("effects")
    machine = compiled_of(program)
    with pytest.raises(InputError, match="n needs int; got str"):
        machine.start(("a", "b"))
    with pytest.raises(InputError, match="takes \\(n: int, to: str\\); got 1 values"):
        machine.start((1,))
    with pytest.raises(InputError, match="takes 300 bytes; at most 256"):
        machine.start((1, "x" * 300))
    step = machine.start((1, "a"))
    with pytest.raises(InputError, match="needs bool; got int 1"):
        machine.resume(step[0], step[1], 1)
    with pytest.raises(InputError, match="has 64 bits"):
        machine.start((1 << 63, "a"))


def test_identity_ignores_comments_and_lines_but_not_constants() -> None:
    text = "async def f(n: int) -> int:\n    await sleep(n)\n    return n + {}\n"
    one = compile_function(declare(text.format(1)), VOCABULARY)
    same = compile_function(declare("# a comment\n\n" + text.format("1  # one")), VOCABULARY)
    other = compile_function(declare(text.format(2)), VOCABULARY)
    assert identity(one) == identity(same)
    assert one.positions[1].line != same.positions[1].line
    assert identity(one) != identity(other)
    kind = compile_function(declare(text.format("True")), VOCABULARY)
    assert identity(one) != identity(kind)


def test_a_function_without_source_is_refused() -> None:
    names: dict[str, Any] = {}
    exec("async def f():\n    pass", names)
    with pytest.raises(InputError, match="its source cannot be read"):
        compile_function(names["f"], VOCABULARY)
    with pytest.raises(InputError, match="this is a builtin_function_or_method"):
        compile_function(len, VOCABULARY)
