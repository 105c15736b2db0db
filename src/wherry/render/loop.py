"""The loop over the lanes of a block, and the few ways in which its code reads memory.

A block of 64 rows is worked on in loops of LANES rows, so that the code of a program is small and
compiles in milliseconds. What does not change within a block (addresses, constants, words of bits)
is loaded before the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
from llvmlite import ir
from msgspec import Struct

from wherry.data.types import layout_of
from wherry.ir.expr import Node
from wherry.ir.resolve import type_of
from wherry.kernels.layout import LANES
from wherry.render.intervals import INT64, Bounds, interval, within

_LINE: Final = 64
_AHEAD: Final = 256
"""Rows that memory is asked for ahead: it would rest while a block is added up, and a core that
does both in turn took 1.2 to 1.3 times as long (64 to 1024 rows measured alike)."""
I1, I8, I32, I64, I128 = (ir.IntType(n) for n in (1, 8, 32, 64, 128))
F32, F64 = ir.FloatType(), ir.DoubleType()
BITS: Final = ir.IntType(LANES)

OWN: Final = "\0"
"""Begins the name of what a pass adds to the columns of a chunk: no other column's holds it."""

Slot = tuple[str, str]
"""What one entry of a context holds: its kind, and the column, table or pattern it belongs to."""


class Value(Struct, frozen=True):
    """The values of LANES rows and which of them are valid; `valid` None: all are."""

    data: Any
    valid: Any = None


class Variant(Struct, frozen=True):
    """What a compiled program takes for granted: bounds of columns, and which can be null."""

    bounds: Bounds
    nullable: frozenset[str]


def codes_name(column: str) -> str:
    """Give what the codes of a dictionary column are called, as a column of their own."""
    return f"{OWN}codes of {column}"


def vector(element: Any, lanes: int = LANES) -> Any:
    """Give the vector type of `lanes` elements."""
    return ir.VectorType(element, lanes)


def constant(element: Any, value: float) -> Any:
    """Give a vector that holds `value` in every lane."""
    return ir.Constant(vector(element), [value] * LANES)


def element_of(node: Node, variant: Variant) -> Any:
    """Give the LLVM type one value of `node` is computed in; decimals by what is proven of them."""
    t = type_of(node)
    if pa.types.is_decimal(t):
        return I64 if within(interval(node, variant.bounds), INT64) else I128
    return stored_element(t)


def stored_element(t: pa.DataType) -> Any:
    """Give the LLVM type of a value in Arrow's memory."""
    if pa.types.is_floating(t):
        return F32 if t.bit_width == 32 else F64
    return ir.IntType(t.bit_width)


class Loop:
    """The loop over the lanes of one block, open for code: `head` runs once, `body` per LANES rows.

    Parameters
    ----------
    lower : callable
        Gives the values of a node in a loop.
    function : ir.Function
        Gets the blocks of the loop; its first two arguments are context and row.
    head : ir.IRBuilder
        Where code before the loop goes.
    slots : dict
        Context entries in use, extended as they are needed.
    needed : ir.Value
        The rows whose values matter, as a word of 64 bits; None for all.
    """

    def __init__(
        self,
        function: Any,
        head: Any,
        slots: dict[Slot, int],
        variant: Variant,
        lower: Callable[[Node, Loop], Value],
        *,
        needed: Any = None,
    ) -> None:
        self.head, self.variant = head, variant
        self._slots, self._function, self._lower = slots, function, lower
        self.needed = ir.Constant(I64, -1) if needed is None else needed
        self._once: dict[Any, Any] = {}
        self._values: dict[Node, Value] = {}
        self._carried: list[tuple[Any, Any]] = []
        self._streams: dict[Any, int] = {}
        self.body = ir.IRBuilder(function.append_basic_block("lanes"))
        self.lane = self.body.phi(I64, "lane")
        self.lane.add_incoming(ir.Constant(I64, 0), head.block)
        self._row = function.args[1]

    def value(self, node: Node) -> Value:
        """Give the values of `node`, computed once in this loop."""
        if node not in self._values:
            self._values[node] = self._lower(node, self)
        return self._values[node]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Give what `make` emitted into the head the first time `key` was asked for."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def slot(self, kind: str, name: str = "") -> Any:
        """Give the int64 in a context entry, loaded once before the loop."""
        number = self._slots.setdefault((kind, name), len(self._slots))

        def make() -> Any:
            at = self.head.add(self._function.args[0], ir.Constant(I64, 8 * number))
            return load(self.head, at, I64)

        return self.once(("slot", kind, name), make)

    def word(self, kind: str, name: str) -> Any:
        """Give the 64 bits of this block in a bitmap."""

        def make() -> Any:
            byte = self.head.lshr(self._row, ir.Constant(I64, 3))
            return load(self.head, self.head.add(self.slot(kind, name), byte), I64)

        return self.once(("word", kind, name), make)

    def slice(self, word: Any) -> Any:
        """Give this iteration's bits of a word of 64."""
        return self.body.trunc(self.body.lshr(word, self.lane), BITS)

    def valid(self, name: str) -> Any:
        """Give the validity bits of a column, None when it has no nulls in this variant."""
        if name not in self.variant.nullable:
            return None
        return self.slice(self.word("valid", name))

    def row(self) -> Any:
        """Give the number of this iteration's first row."""
        return self.body.add(self._row, self.lane)

    def lanes_at(self, address: Any, element: Any, first: Any = None) -> Any:
        """Load LANES values from an array that begins at `address`."""
        size = ir.Constant(I64, element_bytes(element))
        row = self.row() if first is None else first
        self.streams_from(address, element_bytes(element))
        at = self.body.add(address, self.body.mul(row, size))
        return load(self.body, at, vector(element))

    def streams_from(self, address: Any, width: int) -> None:
        """Note that rows of `width` bytes are loaded one after the other from `address` on."""
        self._streams[address] = width

    def prefetch(self) -> None:
        """Ask for what a later iteration loads; behind the end of a buffer that is void."""
        b, ahead = self.body, self.body.add(self.row(), ir.Constant(I64, _AHEAD))
        pointer = ir.PointerType(I8)
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = declare(b.module, "llvm.prefetch.p0", kind)
        read, keep, data = (ir.Constant(I32, n) for n in (0, 3, 1))
        for address, width in self._streams.items():
            first = b.add(address, b.mul(ahead, ir.Constant(I64, width)))
            for line in range(0, LANES * width, _LINE):
                at = b.inttoptr(b.add(first, ir.Constant(I64, line)), pointer)
                b.call(function, [at, read, keep, data])

    def test_text(self, name: str, t: pa.DataType, operand: tuple[Any, Any], test: int) -> Any:
        """Give the word of the block's rows whose text passes a test of `kernels.numba.strings`."""
        address, base, data = (
            self.slot("test", layout_of(t)),
            self.slot("text", name),
            self.slot("data", name),
        )
        needed = self.needed
        if name in self.variant.nullable:
            # The bytes of a null view may be anything, so they are never followed.
            needed = self.head.and_(needed, self.word("valid", name))
        kind = ir.PointerType(ir.FunctionType(I64, [I64] * 7))
        pointer = self.head.inttoptr(address, kind)
        rest = [*operand, ir.Constant(I64, test)]
        return self.head.call(pointer, [base, data, self._row, needed, *rest])

    def test_codes(self, table: str, column: str, codes: pa.DataType) -> Any:
        """Give the word of the block's rows whose code is of a table's few true ones."""

        def make() -> Any:
            kind = ir.PointerType(ir.FunctionType(I64, [I64] * 5))
            pointer = self.head.inttoptr(self.slot("test", "codes"), kind)
            every = ir.Constant(I64, -1)
            valid = self.word("valid", column) if column in self.variant.nullable else every
            place = self.slot("values", codes_name(column))
            width = ir.Constant(I64, codes.bit_width // 8)
            few = self.slot("few", table)
            return self.head.call(pointer, [place, width, self._row, few, valid])

        return self.once(("codes", table), make)

    def splat(self, scalar: Any) -> Any:
        """Give a vector with `scalar` in every lane, made before the loop."""
        return splat(self.head, scalar)

    def carry(self, initial: Any) -> Any:
        """Give a value that lives across iterations; `keep` says what it becomes."""
        # Phis stand at the beginning of the loop; code is added at the end of what there is.
        block = self.body.block
        self.body.position_at_start(self.lane.parent)
        phi = self.body.phi(initial.type)
        self.body.position_at_end(block)
        phi.add_incoming(initial, self.head.block)
        return phi

    def keep(self, carried: Any, value: Any) -> None:
        """Let a carried value be `value` in the next iteration."""
        self._carried.append((carried, value))

    def gather_word(self, bits: Any) -> Callable[[], Any]:
        """Collect bits of every iteration into a word; call the result after `close` for it."""
        word = self.carry(ir.Constant(I64, 0))
        more = self.body.or_(word, self.body.shl(self.body.zext(bits, I64), self.lane))
        self.keep(word, more)
        return lambda: more

    def block(self, name: str) -> Any:
        """Give a new block within the loop, for a case of its own."""
        return self._function.append_basic_block(name)

    def meet(self, block: Any, found: list[tuple[Any, Any]]) -> Any:
        """Go on at `block`; give the value found in whichever block came before it."""
        self.body.position_at_end(block)
        phi = self.body.phi(found[0][0].type)
        for value, source in found:
            phi.add_incoming(value, source)
        return phi

    def close(self) -> Any:
        """End the loop; give the builder for what comes after it."""
        following = self.body.add(self.lane, ir.Constant(I64, LANES))
        self.lane.add_incoming(following, self.body.block)
        for carried, value in self._carried:
            carried.add_incoming(value, self.body.block)
        after = self._function.append_basic_block("after")
        more = self.body.icmp_unsigned("<", following, ir.Constant(I64, 64))
        self.body.cbranch(more, self.lane.parent, after)
        self.head.branch(self.lane.parent)
        return ir.IRBuilder(after)


def element_bytes(element: Any) -> int:
    """Give the bytes of one element."""
    if isinstance(element, ir.IntType):
        return int(element.width) // 8
    return 4 if isinstance(element, ir.FloatType) else 8


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Load from an address of any alignment: Arrow promises little for slices."""
    value = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    value.align = 1
    return value


def store(builder: Any, value: Any, address: Any) -> None:
    """Store to an address of any alignment."""
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type))).align = 1


def flags(builder: Any, bits: Any) -> Any:
    """Give LANES bits as a vector of conditions."""
    return builder.bitcast(bits, vector(I1))


def both(builder: Any, left: Any, right: Any) -> Any:
    """Give the bits set in both; None stands for all bits."""
    if left is None or right is None:
        return right if left is None else left
    return builder.and_(left, right)


def splat(builder: Any, scalar: Any) -> Any:
    """Give a vector with `scalar` in every lane."""
    unset = ir.Constant(vector(scalar.type), ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(vector(I32), [0] * LANES))


def widen(builder: Any, data: Any, element: Any) -> Any:
    """Give signed integers in a type at least as wide."""
    return data if data.type.element == element else builder.sext(data, vector(element))


def declare(module: Any, name: str, kind: Any) -> Any:
    """Give the module's function of that name, declared the first time."""
    found = module.globals.get(name)
    return ir.Function(module, kind, name) if found is None else found
