"""What expressions become in CUDA C++: typed names, whether they are valid, entries of the context.

A kernel takes one argument, `Context`: words of 8 bytes, each an address or a number, in the order
in which the text first asks for them. Constants lie there too, where all threads read them at once.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from msgspec import Struct, field

from wherry.data.types import layout_of
from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.render.intervals import INT64, interval, within
from wherry.render.loop import OWN, Slot, Variant

WORD: Final = 8
"""Bytes of an entry of the context."""
MOST_WORDS: Final = 512
"""A kernel's arguments are 4 KiB at most, on every architecture and driver."""


ROW: Final = Column(f"{OWN}row", pa.uint32())
"""The number of a row in its piece, as if it were a column."""


class Value(Struct, frozen=True):
    """A value of one row as text: `data` has the node's C type, `valid` is bool or None: always."""

    data: str
    valid: str | None = None


class Frame(Struct):
    """The entries of a context, by what they hold, with their C types."""

    types: dict[Slot, str] = field(default_factory=dict)

    def entry(self, kind: str, name: str, ctype: str) -> str:
        """Give the text that reads an entry, adding it if it is new.

        Skeletons know entries by kind that have no name.
        """
        self.types.setdefault((kind, name), ctype)
        return f"c.{self._called((kind, name))}"

    def _called(self, slot: Slot) -> str:
        kind, name = slot
        return f"{kind}_{list(self.types).index(slot)}" if name else kind

    @property
    def text(self) -> str:
        """Give the declaration of Context."""
        fields = [f"  {ctype} {self._called(slot)};" for slot, ctype in self.types.items()]
        size = f"static_assert(sizeof(Context) == {WORD * len(fields)});"
        return "\n".join(["struct Context {", *fields, "};", size])


class Body:
    """The statements of one function, in static single assignment: each node is computed once.

    What a row's columns hold is read before anything is computed, by a function of its own: so a
    thread asks for many rows at once, and waits for memory once.
    """

    def __init__(self, frame: Frame, variant: Variant) -> None:
        self.frame, self.variant = frame, variant
        self.lines: list[str] = []
        self.values: dict[Node, Value] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._read: dict[str, tuple[str, str]] = {}

    def name(self, ctype: str, text: str) -> str:
        """Give a name for the value of `text`, the same one for the same text."""
        if (ctype, text) not in self._named:
            made = f"v{len(self.lines)}"
            self._named[ctype, text] = self._named[ctype, made] = made
            self.lines.append(f"const {ctype} {made} = {text};")
        return self._named[ctype, text]

    def read(self, ctype: str, text: str) -> str:
        """Give a name for what `text` reads of the row's columns; it knows `c` and `row` only."""
        if text not in self._read:
            self._read[text] = (f"r{len(self._read)}", ctype)
        made = f"r.{self._read[text][0]}"
        self._named[ctype, made] = made
        return made

    def valid(self, column: str) -> str | None:
        """Give whether a column's value is valid; None if it always is."""
        if column not in self.variant.nullable:
            return None
        bits = self.frame.entry("valid", column, "const u8*")
        return self.read("bool", f"bit_at({bits}, {self.frame.entry('from', column, 'i64')} + row)")

    @property
    def text(self) -> str:
        """Give the statements, indented; they know `c`, `row` and `r`, what `reader` reads."""
        return "".join(f"  {line}\n" for line in self.lines)

    @property
    def reads_texts(self) -> bool:
        """Tell whether some value is as long as its row has it."""
        return any(ctype == "Text" for _, ctype in self._read.values())

    @property
    def at_once(self) -> int:
        """Give for how many rows a thread reads before it computes: 8 at most."""
        if self.reads_texts:
            # What is made of a text is long, and would be there as often.
            return 1
        row = sum(_HELD.get(ctype, 4) for _, ctype in self._read.values())
        loads = len(self._read)
        fit = [n for n in (2, 4, 8) if n * row <= _READ_BYTES and n * loads <= _LOADS]
        return max(fit, default=1)

    def reader(self, function: str) -> str:
        """Give `Read_function` and `read_function(c, row)`, which fills one."""
        fields = [f"  {ctype} {name};" for name, ctype in self._read.values()]
        reads = [f"  r.{name} = {text};" for text, (name, _) in self._read.items()]
        head = f"DEVICE Read_{function} read_{function}(const Context& c, const i64 row) {{"
        return "\n".join(
            [
                *(f"struct Read_{function} {{", *fields, "};"),
                *(head, f"  Read_{function} r;", *reads, "  return r;", "}"),
            ]
        )


_HELD: Final = {"i64": 8, "u64": 8, "double": 8, "i128": 16, "Text": 16}
"""Bytes of registers; of any other C type 4."""
_READ_BYTES: Final = 144
"""Of a thread's registers, for what is read of several rows."""
_LOADS: Final = 24
"""Loads of a thread that are under way at once; with more, NVRTC took seconds."""


def stored_ctype(t: pa.DataType) -> str:
    """Give the C type of a value of fixed width in Arrow's memory; 128 bits are read as words."""
    if pa.types.is_boolean(t):
        return "u8"
    if pa.types.is_floating(t):
        return "float" if t.bit_width == 32 else "double"
    return f"{'u' if pa.types.is_unsigned_integer(t) else 'i'}{t.bit_width}"


def ctype_of(node: Node, variant: Variant) -> str:
    """Give the C type a node is computed in; decimals by what is proven of them."""
    t = type_of(node)
    if pa.types.is_boolean(t):
        return "bool"
    if pa.types.is_decimal(t):
        return "i64" if within(interval(node, variant.bounds), INT64) else "i128"
    return stored_ctype(t)


def both(one: str | None, other: str | None) -> str | None:
    """Give the validity of what two values make."""
    if one is None or one == other:
        return other
    return one if other is None else f"({one} & {other})"


def text_of(node: Node, body: Body) -> str:
    """Give the Text of a column in the row at hand."""
    assert isinstance(node, Column)
    entry, layout = body.frame.entry, layout_of(type_of(node))
    if layout == "views":
        views, buffers = entry("values", node.name, "const u32*"), "const u64*"
        found = f"view_at({views}, {entry('buffers', node.name, buffers)}, row)"
        known = body.valid(node.name)
        # Arrow does not say what stands in the view of a null: it may lead anywhere.
        return body.read("Text", found if known is None else f"{known} ? {found} : Text{{}}")
    offsets = entry("values", node.name, f"const {'i64' if layout == 'wide' else 'i32'}*")
    return body.read("Text", f"text_at({offsets}, {entry('data', node.name, 'const u8*')}, row)")
