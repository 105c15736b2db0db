"""What every device with memory of its own does, on the stand-in and on a card; some on a card.

The stand-in does one thing after the other. Only a card shows what overtakes what, memory that
ends, and addresses beyond 2^31.
"""

import threading
from contextlib import closing

import numpy as np
import pytest
from support.accelerators import EVERY, accelerator, on_card

from wherry.base.errors import Retryable, WherryError
from wherry.benchmarks.gpu.limits import READ
from wherry.devices.accelerator import ALIGNED
from wherry.render.cuda.compile import compile_text

MIB = 1 << 20

ADD = """
typedef unsigned long long u64;
struct Context { u64* data; u64 count; u64 by; };
extern "C" __global__ void __launch_bounds__(256) add_all(const __grid_constant__ Context c) {
  const u64 step = (u64)gridDim.x * blockDim.x;
  for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < c.count; at += step)
    c.data[at] += c.by;
}
extern "C" __global__ void __launch_bounds__(256) double_all(const __grid_constant__ Context c) {
  const u64 step = (u64)gridDim.x * blockDim.x;
  for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < c.count; at += step)
    c.data[at] *= 2;
}
"""
COPY = """
typedef unsigned long long u64;
struct Context { const u64* from; u64* to; u64 count; u64 slowly; };
extern "C" __global__ void __launch_bounds__(256) copy_all(const __grid_constant__ Context c) {
  const u64 step = (u64)gridDim.x * blockDim.x;
  u64 seen = 1;
  for (u64 k = 0; k < c.slowly; ++k) seen = seen * 6364136223846793005ull + k;
  for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < c.count; at += step)
    c.to[at] = c.from[at] + (seen == 0);
}
"""
WITHIN = """
typedef unsigned long long u64;
struct Context { u64* to; u64 count; };
extern __shared__ u64 on_chip[];
extern "C" __global__ void __launch_bounds__(256) reversed(const __grid_constant__ Context c) {
  for (u64 at = threadIdx.x; at < c.count; at += blockDim.x) on_chip[at] = at * at;
  __syncthreads();
  for (u64 at = threadIdx.x; at < c.count; at += blockDim.x) c.to[at] = on_chip[c.count - 1 - at];
}
"""


def words(*values):
    return np.array(values, np.uint64).tobytes()


def numbers(device, block):
    return device.get(block.address, block.nbytes).view(np.uint64)


@pytest.mark.parametrize("text", [ADD, COPY, WITHIN, READ])
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_texts_of_these_tests_compile(text, arch, tmp_path):
    """Before a card is there; and what limits are measured with."""
    for kernel in compile_text(text, arch, tmp_path).kernels.values():
        assert kernel.spilled_bytes == 0
        assert kernel.registers <= 64


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("size", [1, 255, 4096, 2 * MIB - 1, 2 * MIB, 5 * MIB + 3])
def test_what_is_put_is_got(kind, size):
    device = accelerator(kind)
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    kept = data.copy()
    block = device.put(data)
    data[:] = 0  # It may be changed as soon as `put` returns.
    assert np.array_equal(device.get(block.address, size), kept)
    middle = size // 3
    assert np.array_equal(device.get(block.address + middle, size - middle), kept[middle:])
    assert not device.get(device.zeros(size).address, size).any()


@pytest.mark.parametrize("kind", EVERY)
def test_launches_follow_each_other(kind):
    """2 x + 1, many times, is not what any other order gives."""
    device, count, times = accelerator(kind), 5000, 40
    block = device.zeros(8 * count)
    wanted = 0
    for _ in range(times):
        device.launch(ADD, "double_all", 7, 256, words(block.address, count, 0))
        device.launch(ADD, "add_all", 7, 256, words(block.address, count, 1))
        wanted = (2 * wanted + 1) % (1 << 64)
    assert set(numbers(device, block).tolist()) == {wanted}


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_loaded_is_there_behind_its_event(kind):
    """A window is loaded anew by another thread while what lay there is still being read."""
    device, size, rounds = accelerator(kind), (32 << 10 if kind != "card" else 32 * MIB), 12
    host = [np.full(size // 8, number, np.uint64) for number in range(rounds)]
    window, out = device.room(size), [device.room(size) for _ in range(rounds)]
    for number in range(rounds):
        device.after_launches()
        events = []

        def load(source=host[number], events=events):
            half = size // 2
            for at in (0, half):
                device.copy_in(window.address + at, source.ctypes.data + at, half)
            events.append(device.loaded())

        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        device.after(events[0])
        context = words(window.address, out[number].address, size // 8, 2000)
        device.launch(COPY, "copy_all", 64, 256, context)
    for number, block in enumerate(out):
        assert set(numbers(device, block).tolist()) == {number}


@pytest.mark.parametrize("kind", EVERY)
def test_room_that_a_launch_still_reads_is_not_loaded_too_early(kind):
    device, size = accelerator(kind), (16 << 10 if kind != "card" else 16 * MIB)
    for number in range(1, 9):
        first = device.put(np.full(size // 8, number, np.uint64).view(np.uint8))
        out = device.room(size)
        context = words(first.address, out.address, size // 8, 5000)
        device.launch(COPY, "copy_all", 64, 256, context)
        address = first.address
        del first
        again = device.room(size)  # Perhaps the same memory.
        noise = np.full(size // 8, 99, np.uint64)
        device.copy_in(again.address, noise.ctypes.data, size)
        device.loaded().wait()
        assert set(numbers(device, out).tolist()) == {number}, again.address == address


@pytest.mark.parametrize("kind", EVERY)
def test_memory_of_the_host_that_is_registered(kind):
    device, size = accelerator(kind), 4 * MIB
    pages = np.zeros(size + 4096, np.uint8)
    begin = -pages.ctypes.data % 4096
    data = pages[begin : begin + size]
    data[:] = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    block = device.room(size)
    with closing(device.registered(memoryview(data))):
        assert device.reads(data.ctypes.data, size) or kind == "shim"
        device.copy_in(block.address, data.ctypes.data, size)
        device.loaded().wait()
    assert np.array_equal(device.get(block.address, size), data)


@pytest.mark.parametrize("kind", EVERY)
def test_memory_that_is_not_there_is_refused_and_the_rest_stays(kind):
    device = accelerator(kind)
    block = device.put(np.arange(1000, dtype=np.uint64).view(np.uint8))
    with pytest.raises(Retryable):
        device.room(device.memory_bytes + (1 << 30))
    assert np.array_equal(numbers(device, block), np.arange(1000))


@on_card
def test_memory_is_given_back_when_nothing_refers_to_it():
    device = accelerator("card")
    most = device.free_bytes()
    for _ in range(4):
        block = device.room(most * 3 // 4)
        assert device.free_bytes() < most // 2
        del block
    assert device.free_bytes() > most * 3 // 4


@on_card
def test_all_memory_can_be_taken_piece_by_piece():
    device, taken = accelerator("card"), []
    with pytest.raises(Retryable):
        taken.extend(device.room(device.memory_bytes // 64) for _ in range(1000))
    assert len(taken) > 16
    assert all(block.address % ALIGNED == 0 for block in taken)
    device.launch(ADD, "add_all", 64, 256, words(taken[-1].address, MIB, 1))
    device.get(taken[-1].address, 8)


@on_card
def test_blocks_beyond_2_to_the_31():
    device, size = accelerator("card"), (1 << 32) + 4096
    block = device.zeros(size)
    device.launch(ADD, "add_all", 4096, 256, words(block.address, size // 8, 7))
    for at in (0, (1 << 31) - 8, 1 << 31, (1 << 32) - 8, 1 << 32, size - 8):
        assert device.get(block.address + at, 8).view(np.uint64).tolist() == [7]
    other = device.room(size)
    device.copy_within(other.address, block.address, size)
    device.loaded().wait()
    assert device.get(other.address + size - 4096, 4096).view(np.uint64).tolist() == [7] * 512


@pytest.mark.parametrize("kind", EVERY)
def test_more_memory_on_chip_than_a_text_may_declare(kind):
    device = accelerator(kind)
    for nbytes in (64 << 10, device.shared_bytes // 8 * 8, 8 << 10):
        count = nbytes // 8
        block = device.room(nbytes)
        device.launch(WITHIN, "reversed", 1, 256, words(block.address, count), shared=nbytes)
        squares = np.arange(count, dtype=np.uint64) ** 2
        assert np.array_equal(numbers(device, block), squares[::-1])


@on_card
def test_very_many_launches_in_flight():
    device, count = accelerator("card"), 256
    block = device.zeros(8 * count)
    for _ in range(20_000):
        device.launch(ADD, "add_all", 1, 256, words(block.address, count, 1))
    assert set(numbers(device, block).tolist()) == {20_000}


@on_card
def test_a_text_that_does_not_compile_is_told_in_the_compilers_words():
    device = accelerator("card")
    with pytest.raises(WherryError, match="not_a_type"):
        device.launch("not_a_type x;", "nothing", 1, 32, b"")
