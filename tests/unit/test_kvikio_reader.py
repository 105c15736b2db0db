"""Loading by kvikio: stand-ins of it and of cupy, and what the real ones are called by."""

import inspect
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fake_cupy, fake_kvikio
from support.device_loads import BYTES, Targets, content, file_ranges, ints, opened, whole
from support.device_sums import add_from, word
from support.fake_cupy import card
from support.fake_kvikio import CompatMode

from wherry.base.errors import CorruptError, InputError, Retryable, WherryError
from wherry.data.extents import PAGE
from wherry.data.ipc_footer import open_descriptor
from wherry.devices.device_readers import open_reader
from wherry.devices.found import Found
from wherry.devices.gpu_paths import WAYS
from wherry.devices.kvikio_reader import KvikioReader
from wherry.devices.loading import Evidence, HostRanges
from wherry.devices.pinned import PinnedReader

ALL = {name: Found(present=True, detail="") for name in WAYS}


@pytest.fixture
def kvikio(monkeypatch):
    return fake_kvikio.install(monkeypatch)


@pytest.fixture
def device(monkeypatch):
    cupy = fake_cupy.install(monkeypatch)
    yield card()
    cupy.failing.clear()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(content().tobytes())
    opened = open_descriptor(path)
    yield opened
    os.close(opened.descriptor)


@pytest.fixture
def reader(device, kvikio):
    """Gives a function that makes readers; afterwards nothing of them is left."""
    descriptors = opened()
    made = []

    def make(*, gds=True, **options):
        made.append(KvikioReader(device, gds=gds, **{"slot_bytes": 16 * PAGE, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert not kvikio.opened
    assert opened() == descriptors


ranges = st.lists(
    st.tuples(st.integers(0, BYTES - 1), st.integers(1, 30_000)), min_size=1, max_size=12
).map(lambda some: [(at, min(size, BYTES - at)) for at, size in some])


@given(ranges, st.sampled_from([PAGE, 3 * PAGE, 64 * PAGE]), st.booleans(), st.data())
def test_ranges_of_a_file(tmp_path_factory, some, slot_bytes, gds, data):
    path = tmp_path_factory.mktemp("f") / "f"
    path.write_bytes(content().tobytes())
    with pytest.MonkeyPatch.context() as patched:
        fake_cupy.install(patched)
        fake_kvikio.install(patched)
        device = card()
        reader = KvikioReader(device, gds=gds, strict=True, slot_bytes=slot_bytes)
        offsets = [offset for offset, _ in some]
        targets = Targets(device, [size for _, size in some])
        file = open_descriptor(path)
        source = file_ranges(file, targets, offsets, data.draw(st.sampled_from((0, 100_000))))
        loading = reader.begin(source)
        os.close(file.descriptor)
        with loading:
            device.after(loading.event())
        targets.check(content(), offsets)
        behind = max(0, int((source.extents.offsets + source.extents.sizes)[-1]) - BYTES)
        read = source.extents.size - behind
        assert loading.wait() == (Evidence(gds=read) if gds else Evidence(cached=read))
        reader.close()


def test_memory_goes_through_registered_slots(device, reader):
    memory = content()
    targets = Targets(device, [BYTES])
    source = HostRanges(ints([memory.ctypes.data]), ints([BYTES]), targets.addresses)
    with reader().begin(source, keep=memory) as loading:
        assert loading.wait() == Evidence(staged=BYTES)
        device.after(loading.event())
    targets.check(memory, [0])


def test_slots_are_not_written_while_a_launch_reads_what_they_were(device, reader, file):
    result, kept = device.zeros(8), device.zeros(32 * PAGE + PAGE)
    device.get(kept.address, 1)
    add_from(device, result, kept.address + PAGE)
    source, _, _ = whole(device, file)
    del kept
    reader().begin(source).wait()
    assert word(device, result) == 0


def test_modes_are_a_files_and_threads_the_processes(kvikio, reader, device, file):
    one, other = reader(gds=True, threads=5), reader(gds=False, threads=6)
    for _ in range(2):
        assert one.begin(whole(device, file)[0]).wait() == Evidence(gds=BYTES)
        assert other.begin(whole(device, file)[0]).wait() == Evidence(cached=BYTES)
    assert kvikio.settings["compat_mode"] == CompatMode.AUTO
    assert kvikio.settings["num_threads"] == 6


def test_bytes_that_took_another_way_are_told_or_refused(kvikio, reader, device, file):
    source, targets, offsets = whole(device, file)
    kvikio.fallbacks = 1
    with reader().begin(source) as loading:
        evidence = loading.wait()
        device.after(loading.event())
    targets.check(content(), offsets)
    assert 0 < evidence.gds < BYTES
    assert evidence.gds + evidence.cached == BYTES
    assert evidence.why.startswith("of 65536 bytes that kvikio read, 0 came by GPUDirect Storage")
    kvikio.fallbacks = 1
    with (
        reader(strict=True).begin(source) as loading,
        pytest.raises(InputError, match="kvikio read, 0 came by GPUDirect Storage"),
    ):
        loading.wait()


def test_what_others_read_meanwhile_is_not_taken_for_gds(kvikio, reader, device, file):
    """Somebody else reads as much by cuFile as does not go that way here."""
    kvikio.fallbacks, kvikio.others = 1, 1 << 16
    evidence = reader().begin(whole(device, file)[0]).wait()
    assert evidence == Evidence(gds=BYTES - (1 << 16), cached=1 << 16, why=evidence.why)


def test_a_fallback_that_nobody_would_tell_of(kvikio, reader, device, file):
    kvikio.allow_compat_mode = True
    with pytest.raises(InputError, match=r"properties.allow_compat_mode of its cufile.json"):
        reader(strict=True)
    evidence = reader().begin(whole(device, file)[0]).wait()
    assert evidence.gds == BYTES
    assert evidence.why.startswith("cuFile may read through memory of the host")
    assert reader(gds=False).begin(whole(device, file)[0]).wait().why == ""


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("fails", InputError, "cannot be read at offset 131072 by kvikio: no"),
        ("short", CorruptError, "was 300000 bytes long and ends at offset"),
    ],
)
def test_what_cannot_be_read_ends_a_load(kvikio, reader, device, file, what, kind, said):
    kvikio.broken = {3: what}
    source, targets, offsets = whole(device, file)
    one = reader()
    with one.begin(source) as loading, pytest.raises(kind, match=said):
        loading.wait()
    with one.begin(source) as loading:
        device.after(loading.event())
    targets.check(content(), offsets)


def test_a_file_that_cannot_be_opened(kvikio, reader, device, file, monkeypatch):
    monkeypatch.setattr(
        kvikio.kvikio, "CuFile", lambda file, flags: fake_kvikio.CuFile(kvikio, "/none", flags)
    )
    with pytest.raises(InputError, match="cannot be opened by kvikio: Unable to open"):
        reader().begin(whole(device, file)[0])


def test_a_changed_file_and_a_device_that_fails(kvikio, reader, device, file):
    one = reader()
    source = whole(device, file)[0]
    os.truncate(file.path, BYTES - 1)
    with one.begin(source) as loading, pytest.raises(CorruptError, match="ends at offset 299999"):
        loading.wait()
    os.truncate(file.path, BYTES)
    with one.begin(source) as loading, pytest.raises(InputError, match="was changed in place"):
        loading.wait()
    device.runtime._cupy.failing["memcpyAsync"] = 2
    with one.begin(source) as loading, pytest.raises(WherryError, match="cudaError719"):
        loading.wait()


def test_a_device_without_room(reader):
    with pytest.raises(Retryable, match=r"gpu1 .* has no"):
        reader(slot_bytes=1 << 30)


def missing(*names):
    return ALL | {name: Found(present=False, detail=f"no {name} here") for name in names}


@pytest.mark.parametrize("name", WAYS)
def test_readers_by_name(device, kvikio, name):
    reader = open_reader(device, name, ALL, strict=True)
    assert reader.name == name
    reader.close()


@pytest.mark.parametrize("name", ["kvikio", "gds"])
def test_another_reader_in_its_place_says_why(device, kvikio, file, name):
    with pytest.raises(InputError, match=f"gpu1 has no reader '{name}': no {name} here"):
        open_reader(device, name, missing(name), strict=True)
    reader = open_reader(device, name, missing(name))
    assert isinstance(reader, PinnedReader)
    evidence = reader.begin(whole(device, file)[0]).wait()
    assert evidence == Evidence(cached=BYTES, why=f"gpu1 has no reader '{name}': no {name} here")
    reader.close()


def test_no_reader_in_place_of_the_last(device):
    with pytest.raises(InputError, match="gpu1 has no reader 'pinned': no pinned here"):
        open_reader(device, "pinned", missing("pinned"))
    with pytest.raises(InputError, match="no reader 'posix'"):
        open_reader(device, "posix", ALL)


def test_kvikio_that_is_not_installed(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "kvikio", None)
    with pytest.raises(InputError, match=r"read by kvikio: pip install wherry\[gpu\]"):
        open_reader(device, "kvikio", ALL, strict=True)
    reader = open_reader(device, "kvikio", ALL)
    assert reader.name == "pinned"
    reader.close()


def test_the_stand_in_is_called_as_kvikio_is(tmp_path):
    try:
        import kvikio.defaults  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001  a missing library of CUDA is no ImportError
        pytest.skip(f"no kvikio: {error}")
    fake = fake_kvikio.FakeKvikio()
    for one, other in (
        (fake_kvikio.CuFile.pread, kvikio.CuFile.pread),
        (fake_kvikio.CuFile.fileno, kvikio.CuFile.fileno),
        (fake_kvikio.CuFile.close, kvikio.CuFile.close),
        (fake.kvikio.CuFile, kvikio.CuFile),
        (fake_kvikio.SummaryMonitor.get, kvikio.SummaryMonitor.get),
        (fake_kvikio.Summary.since, kvikio.Summary.since),
    ):
        assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters)
    assert {mode.name: mode.value for mode in CompatMode} == {
        mode.name: mode.value for mode in kvikio.CompatMode
    }
    figures = kvikio.SummaryMonitor().get()
    assert {"GDS", "POSIX"} <= set(figures.by_backend)
    assert figures.by_backend["GDS"]["bytes_transferred"] == 0
    names = ("num_threads", "task_size", "gds_threshold", "auto_direct_io_read")
    before = {name: kvikio.defaults.get(name) for name in names}
    given = {"num_threads": 3, "task_size": 1 << 20, "gds_threshold": 0}
    with kvikio.defaults.set({**given, "auto_direct_io_read": False}):
        assert kvikio.defaults.get("num_threads") == 3
    assert {name: kvikio.defaults.get(name) for name in names} == before
    path = tmp_path / "f"
    path.write_bytes(bytes(PAGE))
    with path.open("rb") as file, kvikio.defaults.set({"compat_mode": kvikio.CompatMode.ON}):
        again = kvikio.CuFile(f"/proc/self/fd/{file.fileno()}", "r")
        assert os.fstat(again.fileno()).st_ino == os.fstat(file.fileno()).st_ino
        again.close()


def test_kvikio_takes_what_has_the_array_interface():
    try:
        from kvikio._lib import arr  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"no kvikio: {error}")
    from wherry.devices.kvikio_reader import _Region  # noqa: PLC0415

    found = arr.asarray(_Region(1 << 40, PAGE))
    assert (found.cuda, found.nbytes, found.contiguous) == (True, PAGE, True)
