import os
import sys

import msgspec
import pytest

from wherry.base.errors import InputError
from wherry.devices import bandwidth, machine_facts, proc
from wherry.devices.probe import (
    Machine,
    find_cuda,
    find_gds,
    find_module,
    find_xdp,
    probe,
)

ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp sve\nCPU part\t: 0xd4f\n"
X86 = "model name\t: A Xeon\nflags\t\t: sse avx2 avx512f avx512_vbmi2\ncpu MHz\t\t: 2600.0\n"


@pytest.fixture
def root(tmp_path):
    """Gives a function that lays files, by their path, under a folder that stands for `/`."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def status(*capabilities):
    return f"Name:\tx\nCapEff:\t{sum(1 << bit for bit in capabilities):016x}\n"


def xdp_root(root, release, *capabilities):
    files = {"proc/sys/kernel/osrelease": release, "proc/self/status": status(*capabilities)}
    return root(files)


def test_the_probe_survives_json_and_names_what_is_here():
    machine = probe()
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.python == sys.version.split()[0]
    assert machine.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.read_gb_per_s_one_thread > 0
    assert machine.packages["numpy"].present
    assert machine.packages["numpy"].detail.startswith("numpy ")
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine


def test_everything_absent_says_why():
    machine = probe()
    parts = (machine.cuda, machine.cupy, machine.kvikio, machine.gds, machine.xdp, machine.ray)
    assert all(part.detail for part in (*parts, *machine.packages.values()))


def test_probing_imports_nothing(tmp_path, monkeypatch):
    package = tmp_path / "wherry_gpu_library"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_module("wherry_gpu_library")
    assert found.present
    assert found.detail == "version unknown: no installed distribution says it provides it"


def test_cpu_of_an_arm_machine(root):
    here = root({"proc/cpuinfo": ARM})
    assert proc.cpu_features(here) == ("asimd", "asimddp", "sve")
    assert proc.cpu_name(here).endswith("part 0xd4f")
    assert proc.cpu_clock_ghz(here) is None


def test_cpu_of_an_x86_machine(root):
    here = root({"proc/cpuinfo": X86})
    assert proc.cpu_features(here) == ("avx2", "avx512f", "avx512_vbmi2")
    assert proc.cpu_name(here) == "A Xeon"
    assert proc.cpu_clock_ghz(here) == 2.6


def test_memory_is_read_and_never_guessed(root):
    assert proc.memory_bytes(root({"proc/meminfo": "MemTotal:  2048 kB\n"})) == 2 << 20
    with pytest.raises(InputError, match="meminfo: no line 'MemTotal: <number> kB'"):
        proc.memory_bytes(root({"proc/meminfo": "MemFree: 1 kB\n"}))


def test_cuda_wants_a_device_and_a_library(root):
    here = root({"proc/cpuinfo": ""})
    assert find_cuda(here).detail == f"no device {here}/dev/nvidia<number>"
    root({"dev/nvidiactl": ""})
    assert find_cuda(here).detail == f"no device {here}/dev/nvidia<number>"
    root({"dev/nvidia1": ""})
    assert not find_cuda(here).present
    assert "libcuda.so.1 is in none of the usual folders" in find_cuda(here).detail
    root({"usr/lib64/libcuda.so.1": ""})
    assert find_cuda(here).present


def test_gds_wants_its_kernel_module(root):
    here = root({"proc/cpuinfo": ""})
    assert find_gds(here).detail.endswith("kernel module nvidia-fs is not loaded")
    root({"proc/driver/nvidia-fs/version": "1"})
    assert find_gds(here).present


@pytest.mark.parametrize(
    ("release", "capabilities", "present", "detail"),
    [
        ("4.19.0", (12, 39), False, "kernel 4.19.0 is older than 5.8"),
        ("5.8-rc1", (12, 39), True, "kernel 5.8-rc1, CAP_BPF and CAP_NET_ADMIN"),
        ("6.1.0", (12, 21), True, "kernel 6.1.0, CAP_SYS_ADMIN and CAP_NET_ADMIN"),
        ("6.1.0", (12,), False, "this process lacks CAP_BPF"),
        ("6.1.0", (21,), False, "this process lacks CAP_BPF and CAP_NET_ADMIN"),
    ],
)
def test_xdp_wants_a_kernel_and_capabilities(root, release, capabilities, present, detail):
    found = find_xdp(xdp_root(root, release, *capabilities))
    assert (found.present, found.detail) == (present, detail)


def test_a_kernel_without_a_version_is_refused(root):
    with pytest.raises(InputError, match="kernel release 'linux' does not begin with two numbers"):
        find_xdp(xdp_root(root, "linux"))


def test_a_module_is_found_with_the_version_of_its_distribution():
    assert find_module("msgspec").detail == f"msgspec {msgspec.__version__}"
    assert find_module("wherry_no_such").detail == "module 'wherry_no_such' is not installed"


def test_the_rate_of_memory_is_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_facts.platformdirs, "user_cache_dir", lambda _: str(tmp_path))
    measured = []
    rates = iter(({1: 10.0, 2: 20.0}, {1: 9.0, 2: 21.0}, {1: 11.0, 2: 22.0}))
    monkeypatch.setattr(bandwidth, "usable_cores", lambda: 2)
    monkeypatch.setattr(bandwidth, "_measured", lambda n: measured.append(n) or next(rates))
    assert bandwidth.read_gb_per_s(1) == 10.0
    assert bandwidth.read_gb_per_s(2) == 20.0
    assert len(measured) == 1
    # A neighbour can only slow it down: the best is kept.
    assert bandwidth.read_gb_per_s(1, anew=True) == 10.0
    assert bandwidth.read_gb_per_s(2) == 21.0
    (kept,) = tmp_path.rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:-3])
    assert bandwidth.read_gb_per_s(1) == 11.0
    assert len(measured) == 3
