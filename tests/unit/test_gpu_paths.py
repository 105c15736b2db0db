"""Ways into a GPU's memory: asked of a driver and a kvikio that are made for these tests."""

import shutil
import subprocess
import time

import pytest

from wherry.devices.gpu_paths import WAYS, gpu_paths

DRIVER = """
#include <string.h>
#include <stdlib.h>
int cuInit(unsigned flags) { %(init)s }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
int cuDeviceGetCount(int *count) { *count = %(count)d; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strcpy(name, "A GPU"); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = 0; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuMemHostRegister_v2(void *address, size_t size, unsigned flags) {
    return (size_t)address %% size ? 1 : %(register)d;
}
int cuMemHostUnregister(void *address) { return 0; }
"""
SOUND = {"init": "return 0;", "count": 2, "register": 0}
KVIKIO = {
    "__init__.py": "__version__ = '26.10.00'\nprint('hello')\nopen('cufile.log', 'w').close()\n",
    "defaults.py": "def is_compat_mode_preferred(): return {compat}\n",
    "cufile_driver.py": "def get(name): {get}\ndef libcufile_version(): return (1, 20)\n",
}
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Gives a function that lays a device, a driver and perhaps kvikio under a folder."""

    def make(driver=None, kvikio=None):
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidia5").touch()  # as in a container that was given one of eight
        libraries = tmp_path / "lib"
        libraries.mkdir()
        if driver is not None:
            source = tmp_path / "driver.c"
            source.write_text(DRIVER % {**SOUND, **driver})
            library = libraries / "libcuda.so.1"
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        (libraries / "kvikio").mkdir()
        if kvikio is None:
            kvikio = {"__init__.py": "raise ImportError('no kvikio\\nhere')"}
        for name, text in kvikio.items():
            (libraries / "kvikio" / name).write_text(text)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
        monkeypatch.setenv("PYTHONPATH", str(libraries))
        return tmp_path

    return make


def kvikio(compat=True, get="return name == 'is_gds_available'"):
    return {name: text.format(compat=compat, get=get) for name, text in KVIKIO.items()}


def _phrases(said):
    return {phrase for phrase in ("by default", "reads directly") if phrase in said}


def details(found):
    return {name: way.detail for name, way in found.items()}


def present(found):
    return [name for name, way in found.items() if way.present]


def test_without_a_device_nothing_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    found = gpu_paths(tmp_path)
    assert details(found) == dict.fromkeys(WAYS, f"no device {tmp_path}/dev/nvidia<number>")
    assert present(found) == []


def test_a_device_without_a_driver(host):
    found = gpu_paths(host())
    assert present(found) == []
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver of its own")
    assert all(
        detail.startswith("driver: libcuda.so.1 cannot be loaded")
        for detail in details(found).values()
    )


@needs_compiler
def test_everything_is_there(host):
    here = host({}, kvikio())
    found = gpu_paths(here)
    assert present(found) == list(WAYS)
    assert details(found) == {
        "pinned": "CUDA 13.2, A GPU, A GPU; memory of this process can be registered",
        "kvikio": "kvikio 26.10.00, by default through memory of the host",
        "gds": "cuFile 1.20 reads directly",
    }


@needs_compiler
@pytest.mark.parametrize(
    ("driver", "module", "said"),
    [
        ({"count": 0}, kvikio(), dict.fromkeys(WAYS, "driver: it knows no device")),
        (
            {"init": "return 100;"},
            kvikio(),
            dict.fromkeys(WAYS, "driver: NoAnswer: cuInit gives error 100"),
        ),
        ({"init": "exit(3);"}, kvikio(), dict.fromkeys(WAYS, "driver: ended with code 3")),
        ({"init": "abort();"}, kvikio(), dict.fromkeys(WAYS, "driver: ended with code -6")),
        ({"register": 801}, kvikio(), {"pinned": "NoAnswer: cuMemHostRegister_v2 gives error 801"}),
        ({}, None, {"kvikio": "ImportError: no kvikio", "gds": "kvikio: ImportError: no kvikio"}),
        ({}, kvikio(compat=False), {"kvikio": "kvikio 26.10.00, by default through cuFile"}),
        (
            {},
            kvikio(get="return True"),
            {
                "gds": "cuFile 1.20 reads directly, unless it falls back without telling "
                "(allow_compat_mode)"
            },
        ),
        ({}, kvikio(get="return False"), {"gds": "cuFile says that it is not available"}),
        ({}, kvikio(get="raise RuntimeError()"), {"gds": "RuntimeError: "}),
    ],
)
def test_what_is_missing_says_why(host, driver, module, said):
    found = gpu_paths(host(driver, module))
    assert {name: details(found)[name] for name in said} == said
    wrong = {n for n in said if not {"by default", "reads directly"} & _phrases(said[n])}
    assert set(present(found)) == set(WAYS) - wrong


@needs_compiler
def test_a_library_that_spins_is_ended_and_what_was_found_before_is_known(host):
    here = host({}, kvikio(get="\n while True: pass"))
    begin = time.monotonic()
    found = gpu_paths(here, seconds=2)
    assert time.monotonic() - begin < 10
    assert present(found) == ["pinned", "kvikio"]
    assert found["gds"].detail == "gds: no answer in 2 s"


@needs_compiler
def test_a_driver_that_spins_is_ended(host):
    found = gpu_paths(host({"init": "for (;;);"}), seconds=0.7)
    assert details(found) == dict.fromkeys(WAYS, "driver: no answer in 0.7 s")


@needs_compiler
def test_a_log_is_not_left_where_one_works(host, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert present(gpu_paths(host({}, kvikio()))) == list(WAYS)
    assert list(work.iterdir()) == []
