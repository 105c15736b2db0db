"""Code lies near its constants, whatever else is mapped, and takes few mappings."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest

from wherry.kernels import engine as engines
from wherry.kernels import linker
from wherry.kernels.engine import Engine

FILLED = 3 << 30
NOTHING_BEHIND = 0x4000
"""MAP_NORESERVE: addresses are taken, and memory is not."""


def text(number: int, words: int) -> str:
    """Give a function of the address of its constants, which are long or short."""
    constants = ", ".join(f"i64 {number + word}" for word in range(words))
    return f"""
@table{number} = private unnamed_addr constant [{words} x i64] [{constants}]
define i64 @"f"(i64 %x) {{
  %place = getelementptr [{words} x i64], ptr @table{number}, i64 0, i64 %x
  %address = ptrtoint ptr %place to i64
  ret i64 %address
}}"""


def mapped(nbytes: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NOTHING_BEHIND
    return mmap.mmap(-1, nbytes, flags=flags, prot=mmap.PROT_READ)


def mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def far(machine: Engine, number: int, words: int) -> int:
    """Link a function; give how far its constants are from its code."""
    found = machine.functions(text(number, words), ("f",))
    address = found.addresses["f"]
    return abs(machine.function(address, 1)(0) - address)


def test_code_stays_near_its_constants_between_large_mappings(tmp_path):
    # Each section by itself, wherever the kernel has room, is 160 MB farther from the others here
    # after a few functions; where it is 2 GB, LLVM ends the process.
    machine, chosen, held, found = Engine(tmp_path), random.Random(1), [], []
    for number in range(60):
        found.append(far(machine, number, chosen.choice([10, 600, 6_000, 20_000])))
        held += [mapped(mmap.PAGESIZE * chosen.choice([1, 2, 3, 8])), mapped(FILLED)]
        if len(held) > 6:
            held.pop(chosen.randrange(len(held))).close()
    for each in held:
        each.close()
    assert max(found) < linker._FAR_BYTES
    assert max(found) - min(found) < 4 * linker.ROOM_BYTES


def test_a_linker_that_is_full_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(linker, "ROOM_BYTES", 1 << 16)
    machine, before = Engine(tmp_path), mappings()
    for number, words in enumerate([10, 600, 3_000, 40_000, 10] * 4):
        assert far(machine, number, words) < linker._FAR_BYTES
    assert 4 < len(machine._linkers) < 20
    assert mappings() - before < 8 * len(machine._linkers)


def test_a_linker_that_is_stretched_over_something_else_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(linker, "_FAR_BYTES", 1)
    with pytest.raises(MemoryError, match="24 MiB of addresses together"):
        Engine(tmp_path).functions(text(1, 10), ("f",))


def test_hundreds_of_objects_take_a_few_mappings(tmp_path):
    machine = Engine(tmp_path)
    far(machine, 0, 10)
    before = mappings()
    for number in range(1, 200):
        far(machine, number, 10)
    assert mappings() - before < 20


def test_without_memory_nothing_is_linked(tmp_path, monkeypatch):
    machine = Engine(tmp_path)
    far(machine, 0, 10)

    def full(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(linker.mmap, "mmap", full)
    with pytest.raises(MemoryError, match="machine code"):
        machine.addresses(b"", ())
    with pytest.raises(MemoryError, match="machine code"):
        engines.Engine(tmp_path / "other").functions(text(1, 10), ("f",))
