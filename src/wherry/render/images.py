"""Images of keys: what a block's keys are compared by, as narrow as they are stored.

images(context, row, needed, target) -> bits     64 keys side by side; the rows whose key fits
match(images, needed, known, groups, masks) -> bits   a mask a known group; the rows of none
learn(images, lane, target) -> 0                 one row's key as int64 words

Equal keys have equal images: -0.0 is 0.0, there is one NaN, a null's image is zero and its bit is
set in a word of nulls. Words are those of `functions.write_keys`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from llvmlite import ir
from msgspec import Struct, field

from wherry.ir.expr import Node
from wherry.ir.resolve import type_of
from wherry.kernels.layout import BLOCK
from wherry.render.encode import NULL_BITS
from wherry.render.functions import Writer
from wherry.render.keys import float_image
from wherry.render.loop import (
    I1,
    I8,
    I32,
    I64,
    I128,
    Loop,
    constant,
    element_bytes,
    flags,
    load,
    store,
    vector,
)
from wherry.render.textkeys import Head, TextKey, write_bytes, write_words


class Image(Struct, frozen=True):
    """One vector of 64 elements of a block's keys; element I1 stands for a word of bits.

    Parameters
    ----------
    offset : int
        Bytes from the target of `images`.
    """

    offset: int
    element: Any
    unsigned: bool

    @property
    def nbytes(self) -> int:
        """Give the bytes of the vector."""
        return 8 if self.element is I1 else BLOCK * element_bytes(self.element)


class Images(Struct):
    """The images of keys, complete once `images` is written.

    Parameters
    ----------
    keys : int
        How many there are.
    of : dict
        By number of key: its images. Texts are written first, wherever they stand.
    nulls : list of (int, int)
        By nullable key: its number, and the offset of its word.
    """

    keys: int
    of: dict[int, list[Image]] = field(default_factory=dict)
    nulls: list[tuple[int, int]] = field(default_factory=list)
    nbytes: int = 0

    @property
    def found(self) -> list[Image]:
        """Give the images of all keys in their order: that of the words of a key."""
        return [image for number in range(self.keys) for image in self.of[number]]

    @property
    def widths(self) -> tuple[int, ...]:
        """Give how many images each key has."""
        return tuple(len(self.of[number]) for number in range(self.keys))

    def add(self, number: int, element: Any, *, unsigned: bool = False) -> int:
        """Give the offset of one more image of a key."""
        image = Image(self.nbytes, element, unsigned)
        self.of.setdefault(number, []).append(image)
        self.nbytes += image.nbytes
        return image.offset

    def add_nulls(self, number: int) -> int:
        """Give the offset of the word of nulls of a key."""
        self.nulls.append((number, self.nbytes))
        self.nbytes += 8
        return self.nbytes - 8

    @property
    def null_words(self) -> int:
        """Give how many words of null bits a key has."""
        return -(-self.keys // NULL_BITS) if self.nulls else 0

    @property
    def words(self) -> int:
        """Give the int64 words of a key."""
        return len(self.found) + self.null_words


def write_images(w: Writer, keys: Sequence[Node | TextKey]) -> Images:
    """Write `images`; give how they lie."""
    function, b = w.begin("images", 4)
    needed, target = function.args[2], function.args[3]
    made, head = Images(len(keys)), Head(w.slots, w.variant, function, b)
    fits: Any = ir.Constant(I64, -1)
    bits: list[tuple[int, Any]] = []
    for number, key in enumerate(keys):
        if isinstance(key, TextKey):
            valid = head.valid(key.column)
            asked = needed if valid is None else b.and_(needed, valid)
            offsets = [made.add(number, I64) for _ in range(key.words)]
            offsets = offsets or [made.add(number, I8, unsigned=True)]
            at = b.add(target, ir.Constant(I64, offsets[0]))
            fit = (write_words if key.words else write_bytes)(head, key, asked, at)
            # A null needs no room, and a row that is not needed no image.
            fits = b.and_(fits, b.or_(fit, b.not_(asked)))
            if valid is not None:
                null = b.not_(valid)
                bits.append((made.add_nulls(number), lambda null=null: null))
    loop = w.loop(function, b, needed)
    for number, key in enumerate(keys):
        if not isinstance(key, TextKey):
            bits += _write_fixed(loop, number, key, made, target)
    after = loop.close()
    for offset, word in bits:
        store(after, word(), after.add(target, ir.Constant(I64, offset)))
    after.ret(fits)
    return made


def _write_fixed(
    loop: Loop, number: int, key: Node, made: Images, target: Any
) -> list[tuple[int, Any]]:
    """Write the images of a key; give words of bits that are complete after the loop."""
    value, b, t = loop.value(key), loop.body, type_of(key)
    found: list[tuple[int, Any]] = []
    if value.valid is not None:
        found.append((made.add_nulls(number), loop.gather_word(b.not_(value.valid))))
    if pa.types.is_boolean(t):
        truth = value.data if value.valid is None else b.and_(value.data, value.valid)
        return [*found, (made.add(number, I1), loop.gather_word(truth))]
    unsigned = pa.types.is_unsigned_integer(t)
    parts = _parts(loop, value.data, t)
    for part in parts:
        element, image = part.type.element, part
        if value.valid is not None:
            image = b.select(flags(b, value.valid), part, constant(element, 0))
        size = ir.Constant(I64, element_bytes(element))
        at = b.add(target, ir.Constant(I64, made.add(number, element, unsigned=unsigned)))
        store(b, image, b.add(at, b.mul(loop.lane, size)))
    return found


def _parts(loop: Loop, data: Any, t: pa.DataType) -> list[Any]:
    if pa.types.is_floating(t):
        return [float_image(loop.body, data)]
    if data.type.element.width < I128.width:
        return [data]
    high = loop.body.ashr(data, constant(I128, 64))
    return [loop.body.trunc(part, vector(I64)) for part in (data, high)]


def write_match(w: Writer, images: Images) -> None:
    """Write `match` for keys whose images lie as `images` says."""
    function, head = w.begin("match", 5)
    where, needed, known, groups, masks = function.args
    words = ir.Constant(I64, 8 * images.words)
    block, done = (function.append_basic_block(n) for n in ("group", "done"))
    head.cbranch(head.icmp_unsigned("!=", groups, ir.Constant(I64, 0)), block, done)
    b = ir.IRBuilder(block)
    group, rest = b.phi(I64, "group"), b.phi(I64, "rest")
    group.add_incoming(ir.Constant(I64, 0), head.block)
    rest.add_incoming(needed, head.block)
    key = b.add(known, b.mul(group, words))
    mask = needed
    for number, image in enumerate(images.found):
        word = load(b, b.add(key, ir.Constant(I64, 8 * number)), I64)
        mask = b.and_(mask, _equal(b, b.add(where, ir.Constant(I64, image.offset)), image, word))
    for number, offset in images.nulls:
        place, shift = divmod(number, NULL_BITS)
        bits = load(b, b.add(key, ir.Constant(I64, 8 * (len(images.found) + place))), I64)
        one = b.and_(b.lshr(bits, ir.Constant(I64, shift)), ir.Constant(I64, 1))
        null = load(b, b.add(where, ir.Constant(I64, offset)), I64)
        mask = b.and_(mask, b.not_(b.xor(null, b.sub(ir.Constant(I64, 0), one))))
    store(b, mask, b.add(masks, b.mul(group, ir.Constant(I64, 8))))
    left, following = b.and_(rest, b.not_(mask)), b.add(group, ir.Constant(I64, 1))
    group.add_incoming(following, block)
    rest.add_incoming(left, block)
    b.cbranch(b.icmp_unsigned("<", following, groups), block, done)
    b = ir.IRBuilder(done)
    result = b.phi(I64)
    result.add_incoming(needed, head.block)
    result.add_incoming(left, block)
    b.ret(result)


def _equal(b: Any, at: Any, image: Image, word: Any) -> Any:
    """Give the bits of the rows whose image is that of a key word."""
    if image.element is I1:
        return b.not_(b.xor(load(b, at, I64), b.sub(ir.Constant(I64, 0), word)))
    element = image.element
    kind = vector(element, BLOCK)
    value = word if element is I64 else b.trunc(word, element)
    unset = ir.Constant(kind, ir.Undefined)
    first = b.insert_element(unset, value, ir.Constant(I32, 0))
    every = b.shuffle_vector(first, unset, ir.Constant(vector(I32, BLOCK), [0] * BLOCK))
    return b.bitcast(b.icmp_signed("==", load(b, at, kind), every), I64)


def write_learn(w: Writer, images: Images) -> None:
    """Write `learn` for keys whose images lie as `images` says."""
    function, b = w.begin("learn", 3)
    where, lane, target = function.args
    one = ir.Constant(I64, 1)

    def bit(offset: int) -> Any:
        word = load(b, b.add(where, ir.Constant(I64, offset)), I64)
        return b.and_(b.lshr(word, lane), one)

    words = []
    for image in images.found:
        if image.element is I1:
            words.append(bit(image.offset))
            continue
        size = ir.Constant(I64, element_bytes(image.element))
        at = b.add(b.add(where, ir.Constant(I64, image.offset)), b.mul(lane, size))
        value = load(b, at, image.element)
        extend = b.zext if image.unsigned else b.sext
        words.append(value if image.element is I64 else extend(value, I64))
    nulls = [ir.Constant(I64, 0) for _ in range(images.null_words)]
    for number, offset in images.nulls:
        place, shift = divmod(number, NULL_BITS)
        nulls[place] = b.or_(nulls[place], b.shl(bit(offset), ir.Constant(I64, shift)))
    for number, word in enumerate((*words, *nulls)):
        store(b, word, b.add(target, ir.Constant(I64, 8 * number)))
    b.ret(ir.Constant(I64, 0))
