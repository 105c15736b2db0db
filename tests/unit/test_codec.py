"""Expressions as bytes: what is written is read, and hostile bytes give one kind of error."""

from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from support.duals import schema_of
from support.expressions import condition, scalar
from support.tables import drawn_table

from wherry import CorruptError, InputError, col, scan
from wherry.ir.codec import VERSION, decode, encode
from wherry.ir.expr import Column, Literal, Node, Not, Parameter, walk
from wherry.ir.literals import bind, lift, parameters
from wherry.ir.resolve import resolve
from wherry.plan.query import prepare


@st.composite
def resolved(draw: st.DrawFn) -> Node:
    """Give a resolved expression over random columns."""
    _, columns = drawn_table(draw)
    made = draw(st.sampled_from((scalar, condition)))(draw, columns, 3)
    return resolve(made.expr.node, schema_of(columns))


@given(resolved())
def test_decode_gives_back_what_encode_took(node: Node) -> None:
    assert decode(encode(node)) == node
    assert encode(decode(encode(node))) == encode(node)


@given(resolved())
def test_lifting_leaves_no_constant_and_binding_restores_them(node: Node) -> None:
    lifted, literals = lift(node)
    assert bind(lifted, literals) == node
    assert [p.index for p in parameters(lifted)] == list(range(len(literals)))
    assert all(p.type == v.type for p, v in zip(parameters(lifted), literals, strict=True))
    left = [n for n in walk(lifted) if isinstance(n, Literal) and n.value is not None]
    assert all(isinstance(n.value, str) for n in left), "only patterns of text stay"


def test_queries_that_differ_in_constants_share_a_plan() -> None:
    table = pa.table({"x": [1, 2, 3]})
    queries = [scan(table).filter(col("x") > n) for n in (1, 2, 7)]
    digests = {prepare(q.source, q.operators, q.schema).plan_digest for q in queries}
    assert len(digests) == 1


@pytest.mark.parametrize(("value", "digits"), [(0, 1), (-999, 3), (Decimal("1.25"), 3)])
def test_parameters_say_how_long_their_integers_are(value: object, digits: int) -> None:
    t = pa.int64() if isinstance(value, int) else pa.decimal128(5, 2)
    assert lift(Literal(value, t))[0] == Parameter(0, t, digits)


@given(st.binary(max_size=200))
def test_random_bytes_are_corrupt(data: bytes) -> None:
    _reads_or_is_corrupt(data)


@settings(max_examples=400)
@given(resolved(), st.data())
def test_mutated_bytes_are_corrupt_or_another_plan(node: Node, data: st.DataObject) -> None:
    mutated = bytearray(encode(node))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.sampled_from(("change", "cut", "double"))):
            case "change":
                mutated[place] = data.draw(st.integers(0, 255))
            case "cut":
                del mutated[place : place + data.draw(st.integers(1, 4))]
            case "double":
                mutated[place:place] = mutated[place : place + 4]
        if not mutated:
            break
    _reads_or_is_corrupt(bytes(mutated))


def _reads_or_is_corrupt(data: bytes) -> None:
    # Any other exception than CorruptError fails the test.
    with suppress(CorruptError):
        decode(data)


def _nested(levels: int) -> object:
    """Give the image of a struct of structs."""
    image: object = "int8"
    for _ in range(levels):
        image = [["a", image, True]]
    return image


HOSTILE = {
    "deep lists": b"\x91" * 100_000 + b"\x90",
    "deep maps": b"\x92\x01" + b"\x81\xa1n" * 50_000 + b"\x01",
    "no array": msgspec.msgpack.encode(5),
    "one item": msgspec.msgpack.encode([1]),
    "another version": msgspec.msgpack.encode([VERSION + 1, None]),
    "a true version": msgspec.msgpack.encode([True, None]),
    **{
        f"value {number}": msgspec.msgpack.encode([VERSION, value])
        for number, value in enumerate(
            (
                {"n": "os.system", "f": ["true"]},
                {"n": ["Column"], "f": []},
                {"n": "Column", "f": ["a"]},
                {"n": "Column", "f": "ab"},
                {"n": "Column", "f": ["a", None], "more": 1, "x": {"y": 1}} | {"n": "Kolumn"},
                {"x": 1},
                {5: 5},
                {"d": "1e999999999999999999999"},
                {"d": "one"},
                {"D": 5},
                {"D": "2020-13-01"},
                {"T": "now"},
                {"T": ["2020-01-01T00:00:00", "Europe/../../../etc/passwd"]},
                {"T": ["2020-01-01T00:00:00", "America"]},
                {"t": 5},
                {"t": "halffloat"},
                {"t": "decimal128(99999999999999999999999, 2)"},
                {"t": "decimal128(5, 99)"},
                {"t": "dictionary<int8, string_view>"},
                {"t": "dictionary<int8, dictionary<int8, string>>"},
                {"t": "timestamp[h]"},
                {"t": "decimal32(10, 2)"},
                {"t": "fixed_size_binary[-1]"},
                {"t": "fixed_size_binary[99999999999]"},
                {"t": [["a", "int8", 1]]},
                {"t": [["a", "int8", True], ["a", "int8", True]]},
                {"t": _nested(17)},
                {"t": _nested(300)},
                {"c": "25:00"},
                {"c": 5},
                {"u": "1"},
                {"u": None},
            )
        )
    },
}


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_bytes_are_corrupt(title: str) -> None:
    with pytest.raises(CorruptError):
        decode(HOSTILE[title])


def test_the_writer_refuses_what_no_reader_takes() -> None:
    node: Node = Column("a", pa.bool_())
    for _ in range(300):
        node = Not(node)
    with pytest.raises(InputError, match="more than 200 levels deep"):
        encode(node)
    with pytest.raises(TypeError, match="a plan cannot hold a set"):
        encode({1})


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**63), 2**64 - 1, 1.5, float("inf"), "", "ü", b"\0"),
        *(Decimal("-0.050"), date(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)),
        *(datetime(2020, 1, 1, tzinfo=UTC), pa.timestamp("ns", "+02:00"), pa.decimal128(38, 38)),
        *(pa.dictionary(pa.uint16(), pa.large_utf8()), pa.string_view(), (1, (2, ()))),
    ],
)
def test_every_kind_of_value_survives(value: object) -> None:
    assert repr(decode(encode(value))) == repr(value)
