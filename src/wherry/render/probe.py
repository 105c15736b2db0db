"""Keys tested against the bits in front of a join's table, LANES at a time.

Most keys that have no match are told by one gather of 32-bit words. Where the bits are exact (one
for every possible key) that is the answer; where they are those of hashes, the skeletons look the
few keys that are left up in the table.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from wherry.ir.expr import Node, Parameter
from wherry.kernels import layout
from wherry.kernels.layout import LANES
from wherry.render.keys import store_words, table_words
from wherry.render.loop import (
    BITS,
    I1,
    I32,
    I64,
    Loop,
    both,
    constant,
    declare,
    flags,
    load,
    splat,
    vector,
)

_PRIME = -7046029254386353131


class Table:
    """A join's table as block functions see it: its description, loaded before the loop."""

    def __init__(self, loop: Loop, address: Any) -> None:
        self._loop, self.address = loop, address

    def entry(self, place: int) -> Any:
        """Give an entry of the description (`kernels.layout`)."""

        def make() -> Any:
            at = self._loop.head.add(self.address, ir.Constant(I64, 8 * place))
            return load(self._loop.head, at, I64)

        return self._loop.once(("table", id(self.address), place), make)

    def exact(self) -> Any:
        """Tell whether there is a bit for every possible key."""
        return self._loop.head.icmp_signed("!=", self.entry(layout.RANGE), ir.Constant(I64, 0))

    def within(self, b: Any, word: Any, needed: Any) -> Any:
        """Give the bits of the needed lanes whose one-word key has its bit set."""
        place = b.sub(word, splat(b, self.entry(layout.LOW)))
        inside = b.icmp_unsigned("<", place, splat(b, self.entry(layout.RANGE)))
        asked = b.and_(flags(b, needed), inside)
        found = self._gather(b, b.lshr(place, constant(I64, 5)), asked)
        return self._all_set(b, found, _bit(b, place), asked)

    def perhaps(self, b: Any, words: list[Any], needed: Any) -> Any:
        """Give the bits of the needed lanes whose hash has both its bits set."""
        hashed = constant(I64, 0)
        for word in words:
            hashed = b.mul(b.xor(hashed, word), constant(I64, _PRIME))
            hashed = b.xor(hashed, b.lshr(hashed, constant(I64, 32)))
        asked = flags(b, needed)
        place = b.lshr(hashed, splat(b, self.entry(layout.SHIFT)))
        marks = b.or_(_bit(b, hashed), _bit(b, b.lshr(hashed, constant(I64, 5))))
        return self._all_set(b, self._gather(b, place, asked), marks, asked)

    def _gather(self, b: Any, places: Any, asked: Any) -> Any:
        at = b.add(splat(b, self.entry(layout.BITS)), b.shl(places, constant(I64, 2)))
        pointers = b.inttoptr(at, vector(ir.PointerType(I32)))
        name = f"llvm.masked.gather.v{LANES}i32.v{LANES}p0"
        kind = ir.FunctionType(vector(I32), [pointers.type, I32, vector(I1), vector(I32)])
        none = constant(I32, 0)
        return b.call(declare(b.module, name, kind), [pointers, ir.Constant(I32, 4), asked, none])

    def _all_set(self, b: Any, found: Any, marks: Any, asked: Any) -> Any:
        same = b.icmp_unsigned("==", b.and_(found, marks), marks)
        return b.bitcast(b.and_(same, asked), BITS)


def _bit(b: Any, places: Any) -> Any:
    low = b.and_(b.trunc(places, vector(I32)), constant(I32, 31))
    return b.shl(constant(I32, 1), low)


def candidates(loop: Loop, table: Table, words: list[Any], needed: Any) -> Any:
    """Give the bits of the needed lanes that may have a match."""
    if len(words) > 1:
        return table.perhaps(loop.body, words, needed)
    exact, hashed = (loop.block(name) for name in ("exact", "hashed"))
    loop.body.cbranch(loop.once(("exact", id(table.address)), table.exact), exact, hashed)
    following = loop.block("tested")
    found = []
    for block, test in ((exact, table.within), (hashed, table.perhaps)):
        b = ir.IRBuilder(block)
        found.append((test(b, words[0] if block is exact else words, needed), block))
        b.branch(following)
    return loop.meet(following, found)


def member(loop: Loop, keys: tuple[Node, ...], build: Parameter) -> Any:
    """Give the bits of the lanes whose keys are in a build."""
    words, valid = table_words(loop, keys)
    needed = both(loop.body, loop.slice(loop.needed), valid)
    at = loop.head.add(loop.slot("literals"), ir.Constant(I64, 16 * build.index))
    table = Table(loop, loop.once(("build", build.index), lambda: load(loop.head, at, I64)))
    perhaps = candidates(loop, table, words, needed)
    exact = loop.once(("exact", id(table.address)), table.exact)
    none = loop.body.icmp_signed("==", perhaps, ir.Constant(BITS, 0))
    before, look, following = loop.body.block, loop.block("look"), loop.block("known")
    loop.body.cbranch(loop.body.or_(exact, none), following, look)
    b = ir.IRBuilder(look)
    room = loop.head.alloca(vector(I64, LANES * len(words)))
    room.align = 64
    rows = loop.head.ptrtoint(room, I64)
    store_words(b, words, rows, LANES, ir.Constant(I64, 0))
    kind = ir.PointerType(ir.FunctionType(I64, [I64] * 3))
    function = loop.head.inttoptr(loop.slot("member"), kind)
    found = b.call(function, [table.address, rows, b.zext(perhaps, I64)])
    found = b.trunc(found, BITS)
    b.branch(following)
    return loop.meet(following, [(perhaps, before), (found, look)])
