"""What each word of `kernels.numba.vector` means, in plain Python over a bytearray.

A meaning takes the memory and the word's arguments, addresses counted from the memory's beginning,
changes the memory, and gives the word's result as a signed integer, or None.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from msgspec import Struct

BITS = (1 << 64) - 1
BLOCK = 64


class Word(Struct, frozen=True):
    """A primitive: what it means, and what its arguments are.

    `takes` has a letter for each argument: t an address that is written, s one that is read only,
    l one of a whole line (a multiple of 64) that is written, w any 64 bits, n a count below 64,
    o 4 or 8, r a row. `loose` bytes from the target on may be overwritten with anything beyond
    what is meant.
    """

    takes: str
    means: Callable[..., int | None]
    loose: int = 0


def signed(word: int) -> int:
    """Give 64 bits as the integer they are in an int64."""
    word &= BITS
    return word - (1 << 64) if word >> 63 else word


def load(width: int, is_signed: bool, memory: bytearray, address: int) -> int:
    return int.from_bytes(memory[address : address + width], "little", signed=is_signed)


def store(width: int, memory: bytearray, address: int, value: int) -> None:
    low = value & ((1 << 8 * width) - 1)
    memory[address : address + width] = low.to_bytes(width, "little")


def copy(nbytes: int, memory: bytearray, target: int, source: int) -> None:
    memory[target : target + nbytes] = memory[source : source + nbytes]


def take_next(memory: bytearray, counter: int) -> int:
    found = load(8, True, memory, counter)
    store(8, memory, counter, found + 1)
    return found


def lower_to(memory: bytearray, address: int, value: int) -> int:
    found = load(8, True, memory, address)
    store(8, memory, address, min(found, value))
    return found


def popcount(memory: bytearray, word: int) -> int:
    return (word & BITS).bit_count()


def lowest(memory: bytearray, word: int) -> int:
    return next((i for i in range(64) if word >> i & 1), 64)


def shift_right(memory: bytearray, word: int, count: int) -> int:
    return signed((word & BITS) >> count)


def below(memory: bytearray, source: int, limit: int) -> int:
    values = [load(4, False, memory, source + 4 * row) for row in range(BLOCK)]
    return signed(sum((v < limit & 0xFFFFFFFF) << row for row, v in enumerate(values)))


def all_32(memory: bytearray, source: int, value: int) -> int:
    values = {load(4, False, memory, source + 4 * row) for row in range(BLOCK)}
    return int(values == {value & 0xFFFFFFFF})


def narrow_32(memory: bytearray, target: int, source: int, word: int, other: int) -> None:
    for row in range(BLOCK):
        value = load(4, False, memory, source + 4 * row) if word >> row & 1 else other
        store(2, memory, target + 2 * row, value)


def equal(width: int, memory: bytearray, source: int, value: int) -> int:
    wanted = value & ((1 << 8 * width) - 1)
    values = [load(width, False, memory, source + width * row) for row in range(BLOCK)]
    return signed(sum((v == wanted) << row for row, v in enumerate(values)))


def compress_bits(memory: bytearray, bits: int, mask: int) -> int:
    chosen = [bits >> i & 1 for i in range(64) if mask >> i & 1]
    return signed(sum(bit << place for place, bit in enumerate(chosen)))


def compress(width: int, memory: bytearray, target: int, source: int, mask: int) -> None:
    for row in range(BLOCK):
        if mask >> row & 1:
            copy(width, memory, target, source + row * width)
            target += width


def offset_at(memory: bytearray, offsets: int, width: int, row: int) -> int:
    return load(width, True, memory, offsets + row * width)


def fence(memory: bytearray) -> None:
    """Change nothing that one thread can see."""


def prefetch(memory: bytearray, address: int) -> None:
    """Change nothing."""


WORDS = {
    "load_u8": Word("s", partial(load, 1, False)),
    "load_i16": Word("s", partial(load, 2, True)),
    "load_i32": Word("s", partial(load, 4, True)),
    "load_i64": Word("s", partial(load, 8, True)),
    "store_8": Word("tw", partial(store, 1)),
    "store_16": Word("tw", partial(store, 2)),
    "store_32": Word("tw", partial(store, 4)),
    "store_64": Word("tw", partial(store, 8)),
    "offset_at": Word("sor", offset_at),
    "copy_16": Word("ts", partial(copy, 16)),
    "copy_line": Word("ts", partial(copy, 64)),
    "stream_line": Word("ls", partial(copy, 64)),
    "fence": Word("", fence),
    "prefetch": Word("w", prefetch),
    "take_next": Word("t", take_next),
    "lower_to": Word("tw", lower_to),
    "popcount": Word("w", popcount),
    "lowest": Word("w", lowest),
    "shift_right": Word("wn", shift_right),
    "below": Word("sw", below),
    "all_32": Word("sw", all_32),
    "narrow_32": Word("tsww", narrow_32),
    **{f"equal_{8 * width}": Word("sw", partial(equal, width)) for width in (1, 2, 4, 8)},
    "compress_bits": Word("ww", compress_bits),
    **{
        f"compress_{width}": Word("tsw", partial(compress, width), loose=BLOCK * width)
        for width in (1, 2, 4, 8, 16)
    },
}

CALLS = {
    "call_mask": 2,
    "call_values": 3,
    "call_accumulate": 4,
    "call_scatter": 5,
    "call_images": 4,
    "call_match": 5,
    "call_learn": 3,
    "call_spread": 6,
    "call_fold": 3,
    "call_probe": 4,
}
"""Words that call a function with so many arguments, and give what it gives, if anything."""
GIVING = ("call_mask", "call_values", "call_images", "call_match", "call_probe")


def skeletons_of(vector: ModuleType) -> dict[str, tuple[Any, int]]:
    """Give a function that numba compiles for each word, and how many arguments it takes."""
    found = {}
    for name, word in WORDS.items():
        plain = isinstance(word.means, partial) and word.means.func is load
        gives = plain or name in _RESULTS
        found[name] = _alone(getattr(vector, name), len(word.takes), gives), len(word.takes)
    for name, count in CALLS.items():
        found[name] = _alone(getattr(vector, name), count + 1, name in GIVING), count + 1
    return found


_RESULTS = (
    *("offset_at", "take_next", "lower_to", "popcount", "lowest", "shift_right", "compress_bits"),
    *("below", "all_32", "equal_8", "equal_16", "equal_32", "equal_64"),
)


def _alone(word: Any, count: int, gives: bool) -> Any:
    """Give a function whose body is the word alone; every skeleton gives an int64."""
    names = ", ".join("abcdefg"[:count])
    body = f"return word({names})" if gives else f"word({names})\n    return 0"
    space = {"word": word}
    exec(f"def alone({names}):\n    {body}", space)
    return space["alone"]
