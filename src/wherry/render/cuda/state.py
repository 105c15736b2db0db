"""What an aggregate keeps, as a struct of CUDA C++, and what is read of it.

A state has fields of 8 and 16 bytes: the number of rows, of groups the first row's number, and of
each aggregate its value and, where its argument may be null, how many values there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.ir.expr import Call, Column, Node
from wherry.ir.resolve import call_type, type_of
from wherry.ir.text import call_text
from wherry.render.cuda.expressions import value
from wherry.render.cuda.values import Body, Frame, Value, ctype_of
from wherry.render.intervals import Bounds, within
from wherry.render.loop import Variant
from wherry.render.state import values_range

_ROWS: Final = 1 << 40
"""No chunk has more."""
_INT128: Final = (-(1 << 127), (1 << 127) - 1)
_KINDS: Final = frozenset({"sum", "min", "max", "count"})
_NUMPY: Final = {"i64": "<i8", "u64": "<u8", "double": "<f8", "i128": ("<u8", (2,))}


class Field(Struct, frozen=True):
    """A field of a state: `begin` is its value before any row; `kind` how two are merged."""

    name: str
    ctype: str
    begin: str
    kind: str

    @property
    def nbytes(self) -> int:
        """Give its size, and alignment."""
        return 16 if self.ctype == "i128" else 8


class Cell(Struct, frozen=True):
    """An aggregate: the fields that hold its value and the number of values; None: of rows.

    Attributes
    ----------
    high : str or None
        What holds the sum of upper halves, if `value` is one of lower halves.
    """

    call: Call
    t: pa.DataType
    value: str | None
    count: str | None
    high: str | None = None


class State(Struct, frozen=True, dict=True):
    """The fields of a state in memory, the widest first, and the aggregates they are of."""

    fields: tuple[Field, ...]
    cells: tuple[Cell, ...]
    text: str

    @cached_property
    def nbytes(self) -> int:
        """Give the size of a state."""
        return nbytes_of(self.fields)

    @cached_property
    def stored(self) -> np.dtype[np.void]:
        """Give how a state lies in memory."""
        sizes = [field.nbytes for field in self.fields]
        begins = [sum(sizes[:k]) for k in range(len(sizes))]
        formats = [_NUMPY[field.ctype] for field in self.fields]
        names = [field.name for field in self.fields]
        layout = {"names": names, "formats": formats, "offsets": begins, "itemsize": self.nbytes}
        return np.dtype(layout)  # type: ignore[call-overload]

    def read(self, states: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Give states, which are bytes, by the names of their fields; 128 bits are two uint64."""
        return states.view(self.stored)


def nbytes_of(fields: Sequence[Field]) -> int:
    """Give the size of a struct of fields, the widest first: a multiple of its alignment."""
    size, align = sum(f.nbytes for f in fields), max(f.nbytes for f in fields)
    return -(-size // align) * align


def refuse_call(call: Call) -> str | None:
    """Give why an aggregate has no CUDA form, or None if it has one."""
    if call.kind not in _KINDS:
        return f"{call_text(call)}: {call.kind} has no CUDA form"
    return None


def in_halves(call: Call, node: Node, bounds: Bounds) -> bool:
    """Tell whether a sum may need more than 128 bits, so that halves of 64 are added apart."""
    if call.kind != "sum" or not pa.types.is_decimal(type_of(node)):
        return False
    low, high = values_range(node, bounds)
    return not within((low * _ROWS, high * _ROWS), _INT128)


def halves(found: Value) -> tuple[Value, Value]:
    """Give the lower and the upper half of a value of 128 bits: the lower is never negative."""
    low, high = f"(u64){found.data}", f"({found.data} >> 64)"
    return Value(low, found.valid), Value(high, found.valid)


def state_of(
    frame: Frame,
    variant: Variant,
    calls: Sequence[tuple[Call, Node | None]],
    *,
    ordered: bool = False,
) -> State:
    """Give the state of aggregates, with the text of State, zero, add, merge and down.

    Parameters
    ----------
    calls : sequence
        Each with its argument in terms that kernels know.
    ordered : bool
        Keep the number of the first row, for groups: that of the piece's first is in the context.
    """
    making = _Making(Body(frame, variant), variant)
    if ordered:
        making.fields.append(Field("first", "i64", "I64_MOST", "min"))
        begun = making.body.frame.entry("first", "", "i64")
        making.adds.append(f"state.first = lesser(state.first, {begun} + row);")
    cells = tuple(making.cell(*found) for found in calls)
    fields = sorted(making.fields, key=lambda f: -f.nbytes)
    text = _text(fields, making.body, making.adds)
    rows = f"constexpr int AT_ONCE = {making.body.at_once};"
    return State(tuple(fields), cells, f"{text}\n{rows}")


class _Making:
    """A state in the making: what several aggregates need is kept once."""

    def __init__(self, body: Body, variant: Variant) -> None:
        self.body, self.variant = body, variant
        self.fields = [Field("rows", "i64", "0", "sum")]
        self.adds = ["state.rows += 1;"]
        self._counts: dict[str, str] = {}
        self._values: dict[tuple[str, Node, Value], str] = {}

    def cell(self, call: Call, node: Node | None) -> Cell:
        """Give an aggregate, with its fields added if they are new."""
        t = call_type(call)
        if node is None:
            return Cell(call, t, None, None)
        found = argument(call, node, self.body)
        count = None if found.valid is None else self._count(found.valid)
        if call.kind == "count":
            return Cell(call, t, None, count)
        if in_halves(call, node, self.variant.bounds):
            low, high = halves(found)
            values = (self._value(call, node, low), self._value(call, node, high))
            return Cell(call, t, values[0], count, values[1])
        return Cell(call, t, self._value(call, node, found), count)

    def _count(self, valid: str) -> str:
        if valid not in self._counts:
            name = self._counts[valid] = f"count_{len(self._counts)}"
            self.fields.append(Field(name, "i64", "0", "sum"))
            self.adds.append(f"state.{name} += {valid};")
        return self._counts[valid]

    def _value(self, call: Call, node: Node, found: Value) -> str:
        if (call.kind, node, found) not in self._values:
            name = self._values[call.kind, node, found] = f"value_{len(self._values)}"
            # Sums of decimals of 64 bits need more.
            summed = call.kind == "sum" and pa.types.is_decimal(type_of(node))
            field = _field(name, call.kind, "i128" if summed else ctype_of(node, self.variant))
            self.fields.append(field)
            self.adds.append(_merged(field, f"state.{name}", _widened(field, found)))
        return self._values[call.kind, node, found]


def argument(call: Call, node: Node, body: Body) -> Value:
    """Give the argument of an aggregate; of a count only whether it is there."""
    if call.kind == "count" and isinstance(node, Column):
        # Of texts and codes too it can be told whether they are there.
        return Value("", body.valid(node.name))
    return value(node, body)


def _field(name: str, kind: str, ctype: str) -> Field:
    """Give the field that holds the sum, least or greatest of values of a C type."""
    unsigned = ctype.startswith("u")
    held = "double" if ctype in {"float", "double"} else "u64" if unsigned else "i64"
    held = "i128" if ctype == "i128" else held
    if kind == "sum":
        return Field(name, held, "0", kind)
    least, most = {
        "double": ("NOT_A_NUMBER", "NOT_A_NUMBER"),
        "u64": ("0", "~0ull"),
        "i64": ("I64_LEAST", "I64_MOST"),
        "i128": ("wide(0, I64_LEAST)", "wide(~0ull, I64_MOST)"),
    }[held]
    return Field(name, held, most if kind == "min" else least, kind)


def _widened(field: Field, found: Value) -> str:
    """Give a value in the type of its field; one that is null changes nothing."""
    text = f"({field.ctype}){found.data}"
    return text if found.valid is None else f"{found.valid} ? {text} : ({field.ctype}){field.begin}"


def _merged(field: Field, place: str, other: str) -> str:
    """Give the statement that merges a value into a field."""
    if field.kind != "sum":
        return f"{place} = {'lesser' if field.kind == 'min' else 'greater'}({place}, {other});"
    if field.ctype in {"double", "i128"}:
        return f"{place} += {other};"
    # Sums of integers wrap.
    return f"{place} = ({field.ctype})((u64){place} + (u64)({other}));"


def _text(fields: Sequence[Field], body: Body, adds: Sequence[str]) -> str:
    def function(head: str, lines: Sequence[str]) -> str:
        return "\n".join([f"DEVICE {head} {{", *(f"  {line}" for line in lines), "}"])

    members = [f"  {field.ctype} {field.name};" for field in fields]
    begins = [f"state.{f.name} = {f.begin};" for f in fields]
    merges = [_merged(f, f"state.{f.name}", f"other.{f.name}") for f in fields]
    downs = [f"other.{f.name} = down(state.{f.name}, by);" for f in fields]
    return "\n".join(
        [
            body.reader("add"),
            *("struct State {", *members, "};"),
            f"static_assert(sizeof(State) == {nbytes_of(fields)});",
            function("State zero()", ["State state;", *begins, "return state;"]),
            function("void merge(State& state, const State& other)", merges),
            function(
                "State down(const State& state, const int by)",
                ["State other;", *downs, "return other;"],
            ),
            function(
                "void add(const Context& c, const i64 row, const Read_add& r, State& state)",
                [*body.lines, *adds],
            ),
        ]
    )
