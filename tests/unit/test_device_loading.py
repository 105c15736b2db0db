"""Loading into a device through registered memory: every byte, every fault, nothing left behind."""

import errno
import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fake_cupy
from support.device_loads import BYTES, Targets, content, file_ranges, ints, opened, whole
from support.fake_cupy import card

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.data.extents import PAGE, plan_extents
from wherry.data.ipc_footer import open_descriptor
from wherry.devices.loading import Evidence, FileRanges, HostRanges
from wherry.devices.pinned import PinnedReader
from wherry.devices.windows import cut


@pytest.fixture
def cupy(monkeypatch):
    return fake_cupy.install(monkeypatch)


@pytest.fixture
def device(cupy):
    return card()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(content().tobytes())
    opened = open_descriptor(path)
    yield opened
    os.close(opened.descriptor)


@pytest.fixture
def reader(device):
    """Gives a function that makes readers; afterwards nothing of them is left."""
    descriptors, threads = opened(), threading.active_count()
    made = []

    def make(**options):
        given = {"threads": 3, "slots": 4, "slot_bytes": 2 * PAGE, **options}
        made.append(PinnedReader(device, **given))
        return made[-1]

    yield make
    device.runtime._cupy.failing.clear()
    for one in made:
        one.close()
    assert opened() == descriptors
    # Those of tests before may end meanwhile.
    assert threading.active_count() <= threads
    # What is left pinned is the device's own.
    assert len(device.runtime._cupy.pinned) == 2


ranges = st.lists(
    st.tuples(st.integers(0, BYTES - 1), st.integers(1, 30_000)), min_size=1, max_size=12
).map(lambda some: [(at, min(size, BYTES - at)) for at, size in some])


@given(ranges, st.sampled_from([PAGE, 3 * PAGE, 64 * PAGE]), st.integers(1, 4), st.data())
def test_ranges_of_a_file(tmp_path_factory, some, slot_bytes, threads, data):
    path = tmp_path_factory.mktemp("f") / "f"
    path.write_bytes(content().tobytes())
    way = data.draw(st.sampled_from(("cached", "either")))
    with pytest.MonkeyPatch.context() as patched:
        fake_cupy.install(patched)
        device = card()
        reader = PinnedReader(
            device, way=way, threads=threads, slots=threads + 1, slot_bytes=slot_bytes
        )
        offsets = [offset for offset, _ in some]
        targets = Targets(device, [size for _, size in some])
        file = open_descriptor(path)
        source = file_ranges(file, targets, offsets, data.draw(st.sampled_from((0, 100_000))))
        loading = reader.begin(source)
        os.close(file.descriptor)
        with loading:
            device.after(loading.event())
        targets.check(content(), offsets)
        evidence = loading.wait()
        behind = max(0, int((source.extents.offsets + source.extents.sizes)[-1]) - BYTES)
        assert evidence.direct + evidence.cached == source.extents.size - behind
        assert way == "either" or evidence.direct == 0
        reader.close()


@given(
    st.lists(st.tuples(st.integers(0, BYTES - 1), st.integers(0, 9000)), max_size=20),
    st.integers(1, 3),
    st.data(),
)
def test_ranges_of_memory(some, threads, data):
    some = [(at, min(size, BYTES - at)) for at, size in some]
    with pytest.MonkeyPatch.context() as patched:
        fake_cupy.install(patched)
        device = card()
        reader = PinnedReader(device, threads=threads, slot_bytes=2 * PAGE)
        pages = fake_cupy.Pages(-(-BYTES // PAGE) * PAGE)
        memory = np.frombuffer(pages._memory, np.uint8)[:BYTES]
        memory[:] = content()
        held = None
        if data.draw(st.booleans()):
            held = device.registered(memoryview(pages._memory)[: 20 * PAGE])
        offsets, sizes = [at for at, _ in some], [size for _, size in some]
        targets = Targets(device, sizes)
        addresses = ints(offsets) + pages.address
        with reader.begin(HostRanges(addresses, ints(sizes), targets.addresses)) as loading:
            device.after(loading.event())
            evidence = loading.wait()
        targets.check(content(), offsets)
        registered = sum(size for at, size in some if held is not None and at + size <= 20 * PAGE)
        assert evidence == Evidence(registered=registered, staged=sum(sizes) - registered)
        reader.close()
        if held is not None:
            held.close()


@given(ranges, st.integers(100, 40_000))
def test_cuts_are_their_ranges(some, most):
    places, sizes = ints(at for at, _ in some), ints(size for _, size in some)
    others = 10**6 * (1 + np.arange(len(some)))
    found = cut(places, sizes, others, most, BYTES)
    assert found.windows == -(-BYTES // most)
    covered = {int(other): [] for other in others}
    for window in range(found.windows):
        for within, size, other in found.of(window):
            assert 0 <= within < within + size <= most
            owner = other // 10**6 * 10**6
            assert window * most + within - (other - owner) == places[owner // 10**6 - 1]
            covered[owner].append((other - owner, size))
    for parts, size in zip(covered.values(), sizes.tolist(), strict=True):
        ends = [at + part for at, part in parts]
        assert [at for at, _ in parts] == [0, *ends[:-1]]
        assert ends[-1] == size


def test_nothing_is_loaded_at_once(device, file, reader):
    empty = ints([])
    extents, places = plan_extents(empty, empty, 0)
    for source in (
        FileRanges(file, extents, places, empty, empty),
        HostRanges(empty, empty, empty),
    ):
        assert reader().begin(source).wait() == Evidence()


def test_loads_overlap_and_each_has_its_event(device, file, reader):
    one = reader()
    begun = [(one.begin(source), targets, at) for source, targets, at in (whole(device, file),) * 5]
    for loading, targets, offsets in begun:
        device.after(loading.event())
        targets.check(content(), offsets)
        loading.wait()


def test_direct_reads_are_refused_where_there_are_none(device, file, reader, monkeypatch):
    real = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *more: (
            real(path, flags, *more) if not flags & os.O_DIRECT else _fail(errno.EINVAL)
        ),
    )
    source, targets, offsets = whole(device, file)
    with pytest.raises(InputError, match="cannot be read directly: its file system"):
        reader(way="direct").begin(source)
    with reader(way="either").begin(source) as loading:
        evidence = loading.wait()
        device.after(loading.event())
    assert (evidence.direct, evidence.cached) == (0, BYTES)
    assert evidence.why.startswith("its file system does not open it so")
    targets.check(content(), offsets)


def _fail(number):
    raise OSError(number, os.strerror(number))


def test_short_reads_are_read_on(device, file, reader, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, room, at: real(fd, (room[0][: 1 + at % 1000],), at)
    )
    source, targets, offsets = whole(device, file)
    with reader().begin(source) as loading:
        device.after(loading.event())
    targets.check(content(), offsets)


@pytest.mark.parametrize("calls", [0, 1, 20])
def test_what_cannot_be_read_ends_a_load(device, file, reader, monkeypatch, calls):
    real, left = os.preadv, iter([True] * calls)

    def preadv(fd, room, at):
        return real(fd, room, at) if next(left, False) else _fail(errno.EIO)

    source, targets, offsets = whole(device, file)
    one = reader()
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", preadv)
        with one.begin(source) as loading:
            for _ in range(2):
                with pytest.raises(InputError, match=r"cannot be read at offset .*Input/output"):
                    loading.event()
            assert not device._loading.asked
            with pytest.raises(InputError, match="Input/output"):
                loading.wait()
    # The reader and the device go on.
    with one.begin(source) as loading:
        device.after(loading.event())
    targets.check(content(), offsets)


def test_a_truncated_and_a_changed_file(device, tmp_path, reader):
    path = tmp_path / "f"
    path.write_bytes(content().tobytes())
    file = open_descriptor(path)
    source, _, _ = whole(device, file)
    one = reader()
    os.truncate(path, 100_000)
    with one.begin(source) as loading, pytest.raises(CorruptError, match="ends at offset 100000"):
        loading.wait()
    path.write_bytes(content(2).tobytes())
    with one.begin(source) as loading, pytest.raises(InputError, match="was changed in place"):
        loading.event()
    os.close(file.descriptor)


@pytest.mark.parametrize("call", ["memcpyAsync", "record", "Event", "synchronize"])
@pytest.mark.parametrize("calls", [0, 3])
def test_a_device_that_fails_ends_a_load(cupy, device, file, reader, call, calls):
    source, _, _ = whole(device, file)
    one = reader()
    cupy.failing[call] = calls
    with one.begin(source) as loading, pytest.raises(WherryError, match=r"gpu1 .*cudaError719"):
        loading.wait()
    cupy.failing.clear()
    one.begin(source).wait()


def test_a_slot_is_filled_again_when_it_was_emptied(device, file, reader):
    source, targets, offsets = whole(device, file)
    with reader(threads=1, slots=1, slot_bytes=PAGE).begin(source) as loading:
        device.after(loading.event())
    targets.check(content(), offsets)


class Gate:
    """Reads that wait until they are let through."""

    def __init__(self, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        real = os.preadv

        def preadv(fd, room, at):
            self.reached.set()
            assert self.opened.wait(20)
            return real(fd, room, at)

        monkeypatch.setattr(os, "preadv", preadv)


class Kept:
    """Something that lives until nothing refers to it."""


def test_a_load_that_is_given_up_is_over_when_close_returns(device, file, reader, monkeypatch):
    gate = Gate(monkeypatch)
    kept = Kept()
    alive = weakref.ref(kept)
    source, _, _ = whole(device, file)
    loading = reader().begin(source, keep=kept)
    del kept
    assert gate.reached.wait(20)
    closing = threading.Thread(target=loading.close)
    closing.start()
    time.sleep(0.05)
    assert closing.is_alive()
    assert alive() is not None
    gate.opened.set()
    closing.join(20)
    assert not closing.is_alive()
    assert alive() is None
    with pytest.raises(WherryError, match="a load into gpu1 was given up"):
        loading.event()


def test_what_is_kept_lives_until_the_device_has_it(device, file, reader):
    source, _, _ = whole(device, file)
    kept = Kept()
    alive = weakref.ref(kept)
    loading = reader().begin(source, keep=kept)
    del kept
    loading.event()
    loading.close()
    assert alive() is None
    assert not device._loading.asked
    # It is the load that was begun, not what tells of it, that keeps.
    kept = Kept()
    alive, gone = weakref.ref(kept), threading.Event()
    weakref.finalize(kept, gone.set)
    loading = reader().begin(source, keep=kept)
    del kept, loading
    assert gone.wait(20)


def test_a_reader_that_is_closed_ends_its_loads(device, file, reader, monkeypatch):
    gate = Gate(monkeypatch)
    source, _, _ = whole(device, file)
    one = reader()
    begun = [one.begin(source) for _ in range(4)]
    assert gate.reached.wait(20)
    threading.Timer(0.05, gate.opened.set).start()
    one.close()
    for loading in begun:
        with pytest.raises(WherryError, match="given up"):
            loading.wait()
    with pytest.raises(WherryError, match="the reader of gpu1 was closed"):
        one.begin(source)


def test_a_reader_that_nobody_has_is_let_go_of_when_its_loads_are_over(cupy, device, file):
    source, targets, offsets = whole(device, file)
    loading = PinnedReader(device, threads=2, slot_bytes=PAGE).begin(source)
    loading.close()
    event = PinnedReader(device, threads=2, slot_bytes=PAGE).begin(source).event()
    device.after(event)
    targets.check(content(), offsets)
    del loading
    end = time.monotonic() + 20
    while len(cupy.pinned) > 2 and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert len(cupy.pinned) == 2


def test_an_interrupt_leaves_nothing_behind(device, file, reader, monkeypatch):
    gate = Gate(monkeypatch)
    source, _, _ = whole(device, file)
    one = reader()

    def interrupt():
        gate.reached.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        gate.opened.set()

    thread = threading.Thread(target=interrupt)
    # What a shell runs in the background ignores interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt), one.begin(source) as loading:
            loading.event()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert loading._over.is_set()


def test_slots_are_not_shared_with_forked_children(device, reader):
    address, flags = reader()._ring._slots[0].address, None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if "-" in word and not word.endswith(":"):
            begin, end = (int(part, 16) for part in word.split("-"))
            inside = begin <= address < end
        elif word == "VmFlags:" and inside:
            flags = line.split()
    assert "dc" in flags


def test_readers_that_cannot_be(device):
    with pytest.raises(InputError, match="no way 'fast'"):
        PinnedReader(device, way="fast")
    with pytest.raises(InputError, match="3 threads need as many slots"):
        PinnedReader(device, threads=3, slots=2)
    with pytest.raises(InputError, match="whole pages of 4096 bytes, not of 5000"):
        PinnedReader(device, slot_bytes=5000)
