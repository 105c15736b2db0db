"""Every word of the skeletons' vocabulary, as machine code, against what it means."""

import ctypes
import inspect
from random import Random
from threading import Thread

import hypothesis.strategies as st
import llvmlite.binding as llvm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from numba import njit, types
from support import vocabulary
from support.vocabulary import BLOCK, CALLS, GIVING, WORDS, signed, skeletons_of

from wherry.kernels.engine import Engine, Target, engine, symbol
from wherry.kernels.numba import compress, vector
from wherry.kernels.numba.compiled import plain_module
from wherry.kernels.objects import object_folder

LINE, ROOM = 64, 4096
READ, WRITTEN = 0, 2048
"""Where addresses begin that are read and that are written: 64 values of 16 bytes lie between."""

words = st.integers(-(1 << 63), (1 << 63) - 1) | st.sampled_from(
    (0, -1, 1, -(1 << 63), (1 << 63) - 1, 0x5555555555555555, 0xFF, 0xFFFF0000)
)
starts = st.integers(0, 900)
DRAWN = {
    "s": starts.map(lambda at: READ + at),
    "t": starts.map(lambda at: WRITTEN + at),
    "l": st.integers(0, 9).map(lambda number: WRITTEN + LINE * number),
    "w": words,
    "n": st.integers(0, 63),
    "o": st.sampled_from((4, 8)),
    "r": st.integers(0, 90),
}


def compiled(machine: Engine, key: str) -> bytes:
    """Compile every word as skeletons are compiled."""
    made = {}
    for name, (function, count) in skeletons_of(vector).items():
        dispatcher = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True)(function)
        made[symbol(key, name)] = dispatcher, (types.int64,) * count
    return machine.object_of(plain_module(made, set()))


@pytest.fixture(scope="module", params=("", "haswell", "x86-64"))
def run(request):
    """Give the words as functions of Python integers: this processor's, and of lesser ones."""
    machine = engine(object_folder())
    if request.param:
        triple = llvm.get_process_triple()
        if not triple.startswith("x86_64"):
            pytest.skip(f"a {triple} has no {request.param}")
        machine = Engine(object_folder(), Target(triple, request.param, ""))
    functions = skeletons_of(vector)
    sources = "\0".join(map(inspect.getsource, (compress, vector, vocabulary)))
    key = machine.key(f"vocabulary\0{sources}")
    code = machine.linked(key, functions, lambda: compiled(machine, key))
    yield {
        name: machine.function(code.addresses[name], count)
        for name, (_, count) in functions.items()
    }
    assert code.engine is machine  # which has to be there as long as its code is called


@pytest.fixture(scope="module")
def memory():
    buffer = pa.allocate_buffer(ROOM)
    return np.frombuffer(buffer, np.uint8), buffer.address


def test_every_word_has_a_meaning():
    made = [name for name in vars(vector) if not name.startswith("_")]
    foreign = {"ir", "njit", "emit", "types", "intrinsic", "BLOCK"}
    assert {*made} - foreign == {*WORDS, *CALLS}


@pytest.mark.parametrize("name", WORDS)
@settings(max_examples=max(60, settings().max_examples // 2))
@given(data=st.data(), seed=st.integers(0, 99))
def test_a_word_does_what_it_means(name, data, seed, run, memory):
    word, (bytes_, base) = WORDS[name], memory
    plain = bytearray(Random(seed).randbytes(ROOM))
    bytes_[:] = plain
    arguments = [data.draw(DRAWN[kind]) for kind in word.takes]
    wanted = word.means(plain, *arguments)
    places = [a + base if k in "stl" else a for a, k in zip(arguments, word.takes, strict=True)]
    found = run[name](*places)
    assert wanted is None or found == wanted
    seen = bytearray(bytes_)
    if word.loose:
        target, mask = arguments[0], arguments[2]
        kept = target + (mask & ((1 << 64) - 1)).bit_count() * word.loose // BLOCK
        seen[kept : target + word.loose] = plain[kept : target + word.loose]
    assert seen == plain


@pytest.mark.parametrize("name", CALLS)
def test_a_call_passes_its_arguments_in_order(name, run):
    count, seen = CALLS[name], []

    def called(*arguments):
        seen.append(arguments)
        return -7

    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)(called)
    address = ctypes.cast(kind, ctypes.c_void_p).value
    given_ = tuple(signed(0x9E3779B97F4A7C15 * (i + 1)) for i in range(count))
    found = run[name](address, *given_)
    assert seen == [given_]
    assert found == (-7 if name in GIVING else 0)


def test_every_number_goes_to_one_thread(run):
    rounds, taken = 5_000, [[], []]
    counter = pa.py_buffer(bytearray(8))

    def take(mine):
        for _ in range(rounds):
            mine.append(run["take_next"](counter.address))

    threads = [Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == list(range(2 * rounds))
    assert all(mine == sorted(mine) for mine in taken)
