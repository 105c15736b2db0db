"""Tests of text against pyarrow, and nothing read that is not the text's own."""

import ctypes
import mmap
import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import wherry as wh
from wherry import col
from wherry.kernels.layout import EQUAL, PARTS
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import _parts

WORDS = ("furiously", "special", "even", "x", "", "the packages", "ironic deposits", "ä ö", "fur")
PATTERNS = ("special", "x", "", "furiously even", "ä", "fur", "quick special", "even x even x even")
ROWS = (0, 1, 63, 64, 65, 200, 1000)
ASKED = {
    "equal": (lambda x, p: x == p, pc.equal),
    "unequal": (lambda x, p: x != p, pc.not_equal),
    "starts": (lambda x, p: x.str.starts_with(p), pc.starts_with),
    "ends": (lambda x, p: x.str.ends_with(p), pc.ends_with),
    "contains": (lambda x, p: x.str.contains(p), pc.match_substring),
}


def texts(draw, rows, nulls):
    longest = draw.choice((1, 3, 8))
    made = [" ".join(draw.choices(WORDS, k=draw.randint(0, longest))) for _ in range(rows)]
    return [None if nulls and draw.random() < 0.2 else text for text in made]


@pytest.mark.parametrize("t", [pa.utf8(), pa.large_utf8(), pa.string_view()], ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_every_test_of_text_equals_pyarrow(t, rows):
    draw = random.Random(rows)
    array = pa.array(texts(draw, rows, nulls=rows % 2 == 1), t)
    array = array.slice(draw.randint(0, min(rows, 70)))
    plain = array.cast(pa.utf8())
    table = pa.table({"s": array, "k": pa.array(range(len(array)), pa.int64())})
    for name, (ours, theirs) in ASKED.items():
        for pattern in PATTERNS:
            for first in (0, len(array) - 5):
                query = wh.scan(table).filter(col("k") >= first, ours(col("s"), pattern))
                wanted = theirs(plain, pattern).to_pylist()
                rows_wanted = [i for i, yes in enumerate(wanted) if yes and i >= first]
                assert query.select("k").collect()["k"].to_pylist() == rows_wanted, (name, pattern)


@pytest.fixture
def fenced():
    """A page of memory with one behind it that nobody may touch."""
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    start = np.frombuffer(memory, np.uint8).ctypes.data
    libc = ctypes.CDLL(None, use_errno=True)
    beyond = ctypes.c_void_p(start + mmap.PAGESIZE)
    assert libc.mprotect(beyond, mmap.PAGESIZE, 0) == 0  # PROT_NONE
    yield np.frombuffer(memory, np.uint8, mmap.PAGESIZE)
    assert libc.mprotect(beyond, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize("part", ["a", "special", "a special text", "the last of all"])
def test_nothing_behind_the_last_text_is_read(fenced, part):
    texts_ = [b"a special text", b"", b"the last of all", b"a"] * 16
    content = b"".join(texts_)
    fenced[-len(content) :] = np.frombuffer(content, np.uint8)
    offsets = np.cumsum([0, *map(len, texts_)]).astype(np.int32)
    data = fenced.ctypes.data + len(fenced) - len(content)
    tests = skeletons("strings")
    word = np.frombuffer(part.encode() + bytes(8), np.uint8)

    def asked(constant, size, test):
        found = tests.test_narrow(
            offsets.ctypes.data, data, 0, -1, constant.ctypes.data, size, test
        )
        return [bool(found >> row & 1) for row in range(64)]

    assert asked(word, len(part), EQUAL) == [text == part.encode() for text in texts_]
    holds, begins = _parts(f"\0{part}\0"), _parts(f"{part}\0")
    assert asked(holds, 0, PARTS) == [part.encode() in text for text in texts_]
    assert asked(begins, 0, PARTS) == [text.startswith(part.encode()) for text in texts_]
