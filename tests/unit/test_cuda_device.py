"""A CUDA card through cupy: a stand-in that does what is asked as late as it may, on this CPU."""

import inspect
import sys
import threading

import numpy as np
import pytest
from support import fake_cupy
from support.chunks import batch_of, same
from support.cuda_cases import FILTERS, GROUPS, NARROW, TOTALS
from support.cuda_pass import run_pass
from support.device_sums import ADD, add, add_from, number, word
from support.fake_cupy import CUDARuntimeError, FakeCupy, card

from wherry.base.errors import InputError, Retryable, WherryError
from wherry.devices import cuda
from wherry.devices.cuda import CudaDevice, cuda_devices
from wherry.render.cuda.bind import Constants
from wherry.render.cuda.program import plan_pass
from wherry.render.reference import run_reference


@pytest.fixture
def cupy(monkeypatch):
    return fake_cupy.install(monkeypatch)


@pytest.fixture
def device(cupy):
    return card()


def data(nbytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, nbytes, np.uint8)


@pytest.mark.parametrize(
    "case", [FILTERS[0], *TOTALS[:2], *GROUPS[:2]], ids=lambda case: case.__name__
)
def test_passes_run(device, case):
    batch = batch_of(5000, 0.3, 3, 3)
    stage, literals = case()
    plan = plan_pass(stage.steps[0], batch.schema, NARROW)
    found = run_pass(plan, batch, literals, Constants(device))
    same(found, run_reference(stage, batch, literals))


def test_cards_are_described(cupy):
    one, two = cuda_devices()
    assert (one.number, one.name, one.model, one.arch) == (
        0,
        "gpu0",
        "A card of these tests",
        "sm_90",
    )
    assert (one.cores, one.shared_bytes, one.memory_bytes) == (3, 227 << 10, 1 << 30)
    assert (two.name, two.bus) == ("gpu1", "0000:01:00.0")
    assert cupy.taken == [0, 0]


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match=r"through cupy: pip install wherry\[gpu\]"):
        cuda_devices()
    fake_cupy.install(monkeypatch, devices=0)
    with pytest.raises(InputError, match="no card for this process: cudaError35"):
        cuda_devices()


@pytest.mark.parametrize("nbytes", [0, 1, 4096, cuda._HALF, cuda._HALF + 1, 5 * cuda._HALF + 3])
def test_what_was_put_may_be_changed_and_comes_back(device, nbytes):
    given = data(nbytes)
    kept = given.copy()
    block = device.put(given)
    given[:] = 0
    assert (block.nbytes, block.address % 256) == (nbytes, 0)
    assert np.array_equal(device.get(block.address, nbytes), kept)


def test_staging_memory_is_not_used_again_too_early(device):
    blocks = [device.put(data(cuda._HALF // 3, seed)) for seed in range(12)]
    for seed, block in enumerate(blocks):
        assert np.array_equal(device.get(block.address, block.nbytes), data(block.nbytes, seed))


def test_zeros(device):
    kept = device.put(data(1000))
    address = kept.address
    device.get(address, 1)
    del kept
    block = device.zeros(1000)
    assert block.address == address
    assert not device.get(address, 1000).any()


def test_launches_and_copies_follow_each_other(device):
    block = device.put(number(5))
    add(device, block, 2)
    add(device, block, 2**40)
    other = device.put(number(1))
    add(device, other, 1)
    assert (word(device, block), word(device, other)) == (7 + 2**40, 2)


def test_memory_on_chip_is_asked_for(cupy, device, monkeypatch):
    asked = []
    real = cupy.cuda.driver.funcSetAttribute
    monkeypatch.setattr(
        cupy.cuda.driver,
        "funcSetAttribute",
        lambda f, attribute, value: (asked.append((attribute, value)), real(f, attribute, value)),
    )
    block = device.put(number(0))
    for shared in (0, 100_000, 50_000, 100_000, 227 << 10):
        add(device, block, 1, shared)
    assert asked == [(8, 100_000), (9, 100), (8, 227 << 10), (9, 100)]
    assert word(device, block) == 5
    with pytest.raises(WherryError, match="gpu1"):
        add(device, block, 1, 1 << 20)


def test_what_is_loaded_is_seen_after_its_event(device):
    host = data(1 << 16)
    target, source = device.room(1 << 16), device.put(host)
    device.after_launches()
    device.copy_within(target.address, source.address, 1 << 16)
    device.after(device.loaded())
    assert np.array_equal(device.get(target.address, 1 << 16), host)


def test_unregistered_memory_may_be_changed_and_registered_memory_is_read_late(cupy, device):
    memory = fake_cupy.Pages(4096)
    view = np.frombuffer(memory._memory, np.uint8)[:4096]
    target = device.room(4096)
    for registered, seen in ((False, 1), (True, 2)):
        view[:] = 1
        held = device.registered(memoryview(view)) if registered else None
        assert device.reads(memory.address, 4096) is registered
        device.copy_in(target.address, memory.address, 4096)
        view[:] = 2
        device.loaded().wait()
        device.after(device.loaded())
        assert set(device.get(target.address, 4096).tolist()) == {seen}
        if held is not None:
            held.close()
    assert not device.reads(memory.address, 4096)


def test_memory_is_not_let_go_of_while_it_is_read(cupy, device):
    memory = fake_cupy.Pages(4096)
    view = np.frombuffer(memory._memory, np.uint8)[:4096]
    view[:] = 7
    target = device.room(4096)
    held = device.registered(memoryview(view))
    device.copy_in(target.address, memory.address, 4096)
    held.close()
    view[:] = 0
    assert set(device.get(target.address, 4096).tolist()) == {7}


def test_a_block_is_not_loaded_anew_while_a_launch_reads_it(device):
    result = device.zeros(8)
    block = device.put(number(3))
    address = block.address
    source = device.put(number(1000))
    device.after_launches()
    # The sum reads the block after this has let go of it.
    add_from(device, result, address)
    del block
    fresh = device.room(8)
    assert fresh.address == address
    device.copy_within(fresh.address, source.address, 8)
    device.loaded().wait()
    assert word(device, result) == 3


def test_windows_are_loaded_anew_after_launches(device):
    window, result = device.put(number(3)), device.zeros(8)
    sources = [device.put(number(value)) for value in (10, 100)]
    for source in sources:
        device.after_launches()
        device.copy_within(window.address, source.address, 8)
        device.after(device.loaded())
        add_from(device, result, window.address)
    device.loaded().wait()
    assert word(device, result) == 110


def test_memory_that_is_not_there(cupy, device):
    free = device.free_bytes()
    assert free == (1 << 30) - cuda.RESERVE
    block = device.room(512 << 20)
    assert device.free_bytes() == 0
    with pytest.raises(
        Retryable, match=r"gpu1 .* has no 1 GiB in one piece: 0 B of 1 GiB are free"
    ):
        device.room(1 << 30)
    del block
    assert device.free_bytes() == free
    assert cupy.taken == [0, 512 << 20]


def test_any_thread_may_copy(device):
    host, target = data(1 << 12), device.room(4 << 12)
    failed = []

    def load(part):
        try:
            device.copy_in(target.address + (part << 12), host.ctypes.data, 1 << 12)
            device.loaded().wait()
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=load, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    device.after(device.loaded())
    assert np.array_equal(device.get(target.address, 4 << 12), np.tile(host, 4))


def test_programs_are_bounded_and_come_back(cupy, device, monkeypatch):
    monkeypatch.setattr(cuda, "_PROGRAMS", 2)
    block = device.put(number(0))
    texts = [ADD + f"// {n}" for n in range(3)]
    context = np.array([block.address, 1], np.uint64).tobytes()
    for text in (*texts, *texts):
        device.launch(text, "add", 1, 32, context)
    assert word(device, block) == 6
    assert sum(text is not None for text in cupy.modules.values()) <= 2


def test_what_fails_says_where(cupy, device):
    with pytest.raises(WherryError, match=r"gpu1 \(A card of these tests\): CUDA_ERROR_500"):
        device.launch(ADD, "missing", 1, 32, bytes(16))
    with pytest.raises(WherryError, match="CUDA_ERROR_1"):
        device.launch(ADD, "add", 0, 32, bytes(16))
    cupy.failing["synchronize"] = 0
    with pytest.raises(WherryError, match=r"gpu1 .*cudaError719"):
        device.get(device.room(8).address, 8)
    with pytest.raises(WherryError, match=r"gpu1 .*cudaError719"):
        device.loaded().wait()


def test_the_text_that_is_compiled_and_for_what(cupy):
    asked = []

    def compiled(text, arch):
        asked.append((text, arch))
        return text.encode()

    device = CudaDevice(cuda_devices()[0], compiled)
    block = device.put(number(0))
    add(device, block, 1)
    add(device, block, 1)
    assert asked == [(ADD, "sm_90")]
    assert word(device, block) == 2


def names(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


def parameters(documented):
    """Give the names of parameters that the first line of a docstring of Cython's has."""
    inside = documented.splitlines()[0].partition("(")[2].rpartition(")")[0]
    found = [one.split("=")[0].split()[-1] for one in inside.split(",") if one.strip()]
    return [one for one in found if one != "self"]


def test_the_stand_in_is_called_as_cupy_is():
    real = pytest.importorskip("cupy").cuda
    fake = FakeCupy().cuda
    for module in ("runtime", "driver", "memory"):
        ours, theirs = getattr(fake, module), getattr(real, module)
        for name in names(ours):
            one, other = getattr(ours, name), getattr(theirs, name)
            if isinstance(one, int):
                assert one == other, name
            elif inspect.ismethod(one):
                expected = parameters(other.__doc__)
                assert list(inspect.signature(one).parameters) == expected, name
            else:
                assert issubclass(other, Exception), name
    for ours, theirs in (
        (fake_cupy.Stream, real.Stream),
        (fake_cupy.Event, real.Event),
        (fake_cupy.MemoryPool, real.MemoryPool),
    ):
        for name in {"wait_event", "synchronize", "record", "malloc", "free_bytes"} & {
            *names(ours)
        }:
            expected = parameters(getattr(theirs, name).__doc__)
            assert list(inspect.signature(getattr(ours, name)).parameters)[1:] == expected, name
    for name in ("Stream", "Event"):
        made = inspect.signature(getattr(fake, name)).parameters
        documented = getattr(real, name).__init__.__doc__ + str(getattr(real, name).__doc__)
        assert all(one in documented for one in made), name
    assert callable(real.alloc_pinned_memory)
    assert "Event.ptr (intptr_t)" in real.Event.__doc__
    assert {"type"} <= set(names(real.runtime.PointerAttributes(0, 0, 0, 1)))
    assert str(CUDARuntimeError(35)).startswith("cudaError35")
