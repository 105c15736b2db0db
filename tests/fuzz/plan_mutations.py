"""Changes to plans, messages and rows: most of them wrong, some of them another sound query."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

_INTEGERS = (0, 1, -1, 2, 3, 7, 16, 63, 64, 127, 255, 1 << 15, 1 << 31, 1 << 40, -(1 << 31))
_EXTREMES = ((1 << 63) - 1, -(1 << 63), (1 << 64) - 1)
_TYPES = (
    *("int8", "int32", "int64", "uint8", "uint64", "float", "double", "bool", "string"),
    *("large_string", "string_view", "binary", "fixed_size_binary[16]", "date32[day]"),
    *("timestamp[us]", "timestamp[ns, tz=UTC]", "time32[s]", "duration[us]", "decimal128(9, 2)"),
    *("decimal128(38, 2)", "dictionary<int8, string>", "dictionary<int32, int64>"),
    [["a", "int32", True]],
    "fixed_size_binary[2000000000]",
)
_WORDS = (
    *("+", "-", "*", "/", "==", "!=", "<", ">=", "and", "or", "like", "contains", "starts_with"),
    *("sum", "min", "max", "count", "first", "last", "moments", "var", "mean", "count_distinct"),
    *("near", "partial", "merge", "respond", "routing", "year", "hash", "range", "lz4"),
    *("i", "s", "m", "k", "$0", "$code 0", "codes of e", "table 0", "", "\0", "no such column"),
)
_CLASSES = (
    *("Compare", "Arithmetic", "Negate", "Not", "IsNull", "Column", "Literal", "Cast", "Take"),
    *("Rows", "Totals", "Groups", "Logic", "DatePart", "Match", "Order", "Pass", "Parameter"),
)

Place = tuple[Any, Any]
"""A list or map, and the number or key of something in it."""


def mutated_plan(plan: bytes, others: list[bytes], r: random.Random) -> bytes:
    """Give the bytes of a plan with some of it changed."""
    if r.random() < 0.1:
        return _flipped(plan, r)
    tree = msgspec.msgpack.decode(plan)
    donor = msgspec.msgpack.decode(r.choice(others) if r.random() < 0.2 else plan)
    for _ in range(r.choice((1, 1, 1, 2, 3))):
        _change(tree, donor, r)
    try:
        return msgspec.msgpack.encode(tree)
    except OverflowError:
        return _flipped(plan, r)


def _flipped(data: bytes, r: random.Random) -> bytes:
    bad = bytearray(data)
    for _ in range(r.randint(1, 3)):
        bad[r.randrange(len(bad))] ^= 1 << r.randrange(8)
    return bytes(bad)


def _change(tree: Any, donor: Any, r: random.Random) -> None:
    """Change one thing in a tree in place; nothing, if there is no such thing in it."""
    places = list(_places(tree))
    how = r.randrange(10)
    if how == 0:
        _change_bounds(tree, r)
    elif how == 1:
        _change_node(places, "Parameter", r)
    elif how == 2:
        _change_node(places, r.choice(("Order", "Take", "Shard", "Matches", "Cast", "Call")), r)
    elif how <= 5:
        _exchange(places, list(_places(donor)), r)
    elif how == 6:
        _change_list([p for p in places if type(p[0][p[1]]) is list and p[0][p[1]]], r)
    elif how == 7:
        _set([p for p in places if p[1] == "t"], r.choice(_TYPES), r)
    elif how == 8:
        _set([p for p in places if p[1] == "n"], r.choice(_CLASSES), r)
    else:
        place = r.choice(places)
        place[0][place[1]] = _other_value(place[0][place[1]], r)


def _places(tree: Any) -> Iterator[Place]:
    waiting = [tree[1]]
    while waiting:
        here = waiting.pop()
        keys = range(len(here)) if type(here) is list else list(here)
        for key in keys:
            yield here, key
            if type(here[key]) in {list, dict}:
                waiting.append(here[key])


def _set(places: list[Place], value: Any, r: random.Random) -> None:
    if places:
        here, key = r.choice(places)
        here[key] = value


def _change_bounds(tree: Any, r: random.Random) -> None:
    """Let bounds lie: narrower than what is stored, beside it, or of what has none."""
    try:
        bounds = tree[1]["f"][3]
        one = r.choice(bounds)
        name, low, high = one
    except (TypeError, KeyError, IndexError, ValueError):
        return  # An earlier change left none.
    if type(low) is not int or type(high) is not int:
        return
    if r.random() < 0.1:
        bounds.append([r.choice(_WORDS), low, high])
    match r.randrange(4):
        case 0:
            one[:] = [name, low, low]
        case 1:
            one[:] = [name, low + (high - low) // 3, low + (high - low) // 2]
        case 2:
            one[:] = [name, 0, 1]
        case 3:
            one[r.randint(1, 2)] = r.choice((*_INTEGERS, *_EXTREMES))


def _change_node(places: list[Place], name: str, r: random.Random) -> None:
    found = [here[key] for here, key in places if _name(here[key]) == name]
    if not found:
        return
    fields = r.choice(found).get("f")
    if not isinstance(fields, list) or not fields:
        return
    number = r.randrange(len(fields))
    fields[number] = _other_value(fields[number], r)


def _name(value: Any) -> str | None:
    return value.get("n") if type(value) is dict else None


def _exchange(places: list[Place], given: list[Place], r: random.Random) -> None:
    """Put another part of a plan where one stood: mostly one that looks alike."""
    here, key = r.choice(places)
    old = here[key]
    alike = [h[k] for h, k in given if _looks_like(h[k], old)] or [h[k] for h, k in given]
    here[key] = msgspec.msgpack.decode(msgspec.msgpack.encode(r.choice(alike)))


def _looks_like(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if type(one) is not dict:
        return True
    fields = [v.get("f") if isinstance(v.get("f"), list) else [] for v in (one, other)]
    types = [[f for f in each if type(f) is dict and "t" in f] for each in fields]
    return ("n" in one) == ("n" in other) and types[0] == types[1]


def _change_list(places: list[Place], r: random.Random) -> None:
    if not places:
        return
    here, key = r.choice(places)
    items = here[key]
    at = r.randrange(len(items))
    match r.randrange(4):
        case 0:
            del items[at]
        case 1:
            items.insert(at, r.choice(items))
        case 2:
            items.reverse()
        case 3:
            items[at:at] = items * r.choice((1, 3, 30))


def _other_value(value: Any, r: random.Random) -> Any:
    """Give another value: one of the same kind, more often than not."""
    if r.random() < 0.15:
        return r.choice((None, True, -1, 1.5, "x", b"x", [], {"t": "int64"}, {"d": "1e999999"}))
    match value:
        case bool():
            return not value
        case int():
            return r.choice((value + 1, value - 1, r.choice(_INTEGERS), r.choice(_EXTREMES)))
        case str():
            return r.choice(_WORDS)
        case bytes():
            return r.randbytes(16)
        case dict() if "t" in value:
            return {"t": r.choice(_TYPES)}
        case list() if value and r.random() < 0.5:
            return value[1:]
        case None:
            return r.choice((0, 1, 5, "lz4"))
    return value


def mutated_values(values: tuple[Any, ...], r: random.Random) -> tuple[Any, ...]:
    """Give the constants of a message with some changed."""
    found = list(values)
    for _ in range(r.randint(1, 2)):
        at = r.randrange(len(found) + 1)
        if at == len(found) or r.random() < 0.1:
            found.insert(at, r.choice(_INTEGERS))
        elif r.random() < 0.1:
            del found[at]
        else:
            found[at] = _other_constant(found[at], r)
    return tuple(found)


def _other_constant(value: Any, r: random.Random) -> Any:
    if r.random() < 0.3:
        return r.choice((None, True, 10**18, 1.5, "near", "1e999999", "NaN", "-0.001", "9" * 50))
    if isinstance(value, str):
        return r.choice(("", "x" * 70, "12.345", "99999999.99", value + "0"))
    if isinstance(value, bool | float) or value is None or not isinstance(value, int):
        return r.choice((False, float("nan"), 1e300, value))
    return r.choice((value + 1, *_INTEGERS, *_EXTREMES[:2]))


def mutated_rows(batch: pa.RecordBatch, r: random.Random) -> pa.RecordBatch:
    """Give rows of which one column has other values, another type, or another name."""
    at = r.randrange(batch.num_columns)
    array, name = batch.column(at), batch.schema.names[at]
    match r.randrange(5):
        case 0:
            name = r.choice(_WORDS)
        case 1:
            return batch.select([n for n in batch.schema.names if n != name])
        case 2:
            array = pa.array(["x"] * len(array))
        case _:
            array = _other_rows(array, r)
    return batch.set_column(at, name, array)


def _other_rows(array: pa.Array, r: random.Random) -> pa.Array:
    if not pa.types.is_integer(array.type):
        return pa.nulls(len(array), array.type)
    half = 1 << (array.type.bit_width - 2)
    values = [r.choice((0, 1, half, 2 * half - 1)) for _ in range(len(array))]
    return pa.array(values, array.type)
