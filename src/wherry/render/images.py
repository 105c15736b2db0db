"""Images of keys: what a block's keys are compared by, as narrow as they are stored.

images(context, row, needed, target) -> bits     64 keys side by side; the rows whose key fits
match(images, needed, known, groups, masks) -> bits   a mask a known group; the rows of none
learn(images, lane, target) -> 0                 one row's key as int64 words

Equal keys have equal images: -0.0 is 0.0, there is one NaN, a null's image is zero and its bit is
set in a word of nulls. Words are those of `functions.write_keys`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from llvmlite import ir

from wherry.ir.expr import Node
from wherry.ir.resolve import type_of
from wherry.render.encode import NULL_BITS
from wherry.render.functions import Writer, float_image
from wherry.render.lanes import each
from wherry.render.loop import (
    I1,
    I8,
    I16,
    I32,
    I64,
    I128,
    Loop,
    constant,
    declare,
    element_bytes,
    flags,
    load,
    splat,
    store,
    vector,
)
from wherry.render.textkeys import TextKey, write_bytes, write_words

_BLOCK: Final = 64


@dataclass(frozen=True, slots=True)
class Image:
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
        return 8 if self.element is I1 else _BLOCK * element_bytes(self.element)


@dataclass
class Images:
    """The images of the keys in order, then where their words of nulls lie, if any key has nulls.

    Parameters
    ----------
    nulls : list of (int, int)
        By nullable key: its number, and the offset of its word.
    """

    keys: int
    found: list[Image]
    nulls: list[tuple[int, int]]
    nbytes: int = 0

    def add(self, element: Any, *, unsigned: bool = False) -> int:
        """Give the offset of a further image."""
        image = Image(self.nbytes, element, unsigned)
        self.found.append(image)
        self.nbytes += image.nbytes
        return image.offset

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
    function, head = w.begin("images", 4)
    needed, target = function.args[2], function.args[3]
    made = Images(len(keys), [], [])
    fits: Any = ir.Constant(I64, -1)
    nulls: list[tuple[int, Any]] = []
    for number, key in enumerate(keys):
        if isinstance(key, TextKey):
            valid = w.word(function, head, key.column) if key.column in w.variant.nullable else None
            if key.words:
                place = ir.Constant(I64, [made.add(I64) for _ in range(key.words)][0])
                fit = write_words(w, function, head, key, (needed, valid), head.add(target, place))
            else:
                place = ir.Constant(I64, made.add(I8, unsigned=True))
                at = head.add(target, place)
                head, fit = write_bytes(w, function, head, key, (needed, valid), at)
            fits = head.and_(fits, fit)
            if valid is not None:
                nulls.append((number, valid))
    loop = w.loop(function, head, needed)
    later = [
        (number, _write_fixed(loop, key, made, target))
        for number, key in enumerate(keys)
        if not isinstance(key, TextKey)
    ]
    return made
