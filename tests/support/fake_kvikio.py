"""The calls of kvikio that its reader makes; reads are done at once or when they are waited for."""

import contextlib
import ctypes
import enum
import os
import sys
from types import SimpleNamespace


class CompatMode(enum.IntEnum):
    OFF = 0
    ON = 1
    AUTO = 2


class FakeKvikio:
    """Modules to be put where Python looks for kvikio's.

    `fallbacks` says how many reads of a file opened for cuFile do not go by it; `broken` makes
    reads fail or short, by their number; `others` is what others read by cuFile.
    """

    def __init__(self, *, allow_compat_mode=False):
        self.allow_compat_mode = allow_compat_mode
        self.settings = {"compat_mode": CompatMode.AUTO}
        self.fallbacks, self.broken, self.reads, self.others = 0, {}, 0, 0
        self.bytes = {"GDS": 0, "POSIX": 0, "MMAP": 0}
        self.told = []
        self.opened = set()
        self.kvikio = SimpleNamespace(
            CompatMode=CompatMode,
            CuFile=lambda file, flags="r": CuFile(self, file, flags),
            SummaryMonitor=lambda: SummaryMonitor(self),
        )
        self.defaults = SimpleNamespace(set=self._set)
        self.cufile_driver = SimpleNamespace(get=self._get)

    def _set(self, config):
        before = {name: self.settings.get(name) for name in config}
        self.settings.update(config)

        @contextlib.contextmanager
        def reverting():
            yield
            self.settings.update(before)

        return reverting()

    def _get(self, config_name):
        assert config_name == "allow_compat_mode"
        return self.allow_compat_mode


def install(monkeypatch, **options):
    """Put a fake where Python looks for kvikio; give it."""
    fake = FakeKvikio(**options)
    monkeypatch.setitem(sys.modules, "kvikio", fake.kvikio)
    monkeypatch.setitem(sys.modules, "kvikio.defaults", fake.defaults)
    monkeypatch.setitem(sys.modules, "kvikio.cufile_driver", fake.cufile_driver)
    return fake


class CuFile:
    def __init__(self, fake, file, flags="r"):
        assert flags == "r"
        self._fake = fake
        self._gds = fake.settings["compat_mode"] == CompatMode.OFF
        try:
            self._descriptor = os.open(file, os.O_RDONLY)
        except OSError as error:
            raise RuntimeError(f"Unable to open file: {error}") from error
        fake.opened.add(self)

    def fileno(self):
        return self._descriptor

    def close(self):
        os.close(self._descriptor)
        self._fake.opened.remove(self)

    def pread(self, buf, size=None, file_offset=0, task_size=None):
        region = buf.__cuda_array_interface__
        assert region["shape"] == (size,)
        address, read_only = region["data"]
        assert not read_only
        assert size > 0
        assert address % 4096 == file_offset % 4096 == 0
        self._fake.reads += 1
        return IOFuture(self, self._fake.reads, address, size, file_offset)


class IOFuture:
    def __init__(self, file, number, address, size, offset):
        self._asked = (file, number, address, size, offset)
        self._done = None
        if number % 2:
            self._done = self._do()

    def _do(self):
        file, number, address, size, offset = self._asked
        fake, kind = file._fake, "GDS" if file._gds else "POSIX"
        found = os.pread(file.fileno(), size, offset)
        what = fake.broken.get(number)
        if what == "fails":
            return RuntimeError("no")
        if what == "short":
            found = found[:100]
        ctypes.memmove(address, found, len(found))
        if fake.fallbacks and kind == "GDS":
            fake.fallbacks -= 1
            kind = "POSIX"
            fake.told.append(("GDS", fake.others))
        # Figures lag behind: they are counted when they were asked for once in vain.
        fake.told.append((kind, len(found)))
        return len(found)

    def get(self):
        if self._done is None:
            self._done = self._do()
        if isinstance(self._done, Exception):
            raise self._done
        return self._done


class SummaryMonitor:
    def __init__(self, fake):
        self._fake = fake

    def get(self):
        fake = self._fake
        found = Summary(dict(fake.bytes))
        for kind, size in fake.told:
            fake.bytes[kind] += size
        fake.told.clear()
        return found


class Summary:
    def __init__(self, totals):
        self.by_backend = {name: {"bytes_transferred": size} for name, size in totals.items()}

    def since(self, previous):
        before = previous.by_backend
        return Summary(
            {
                name: one["bytes_transferred"] - before[name]["bytes_transferred"]
                for name, one in self.by_backend.items()
            }
        )
