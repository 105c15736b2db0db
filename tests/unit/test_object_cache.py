"""The caches of compiled code: whatever happens to their files, the answer is right and quiet."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pyarrow as pa
import pytest

from wherry.data.segment import SegmentPool
from wherry.ir.builder import col
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve
from wherry.ir.stage import Pass, Rows, Stage
from wherry.kernels.numba import compiled
from wherry.render import engine as engines
from wherry.render.engine import Engine, engine
from wherry.render.program import render

SCHEMA = pa.schema({"x": pa.int64()})
BATCH = pa.record_batch([pa.array(range(100))], schema=SCHEMA)
STAGE, LITERALS = lift(Stage((Pass(None, Rows((("y", resolve((col("x") * 3).node, SCHEMA)),))),)))
WANTED = [3 * x for x in range(100)]
TEXT = """
define i64 @"f"(i64 %x) {
  %y = add i64 %x, 1
  ret i64 %y
}
"""
POOL = SegmentPool()


def answer(folder: Path) -> list[int]:
    program = render(STAGE, SCHEMA, {}, folder)
    return program.run(BATCH, LITERALS, POOL).batch.column("y").to_pylist()


@pytest.mark.parametrize("damage", [b"", b"short", None], ids=["emptied", "cut", "altered"])
def test_a_damaged_object_is_compiled_again(tmp_path, damage):
    first = Engine(tmp_path)
    assert not first.functions(TEXT, ("f",)).cached
    path = first.path(TEXT)
    good = path.read_bytes()
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    path.write_bytes(flipped if damage is None else damage)
    assert not Engine(tmp_path).functions(TEXT, ("f",)).cached
    assert path.read_bytes() == good
    assert Engine(tmp_path).functions(TEXT, ("f",)).cached


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    assert answer(in_the_way / "objects") == WANTED
    assert in_the_way.read_text() == "no folder"


def test_a_full_disk_leaves_no_part_of_an_object(tmp_path, monkeypatch):
    made = os.fdopen

    def full(descriptor, mode):
        file = made(descriptor, mode)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                file.write(data[:10])
                raise OSError(errno.ENOSPC, "no space left")

        return Full()

    monkeypatch.setattr(engines.os, "fdopen", full)
    assert answer(tmp_path) == WANTED
    assert list(tmp_path.iterdir()) == []


def test_a_program_keeps_the_code_it_calls(tmp_path):
    folder = tmp_path / "first"
    program = render(STAGE, SCHEMA, {}, folder)
    assert program.run(BATCH, LITERALS, POOL).batch.column("y").to_pylist() == WANTED
    kept = weakref.ref(engine(folder))
    for number in range(9):
        engine(tmp_path / str(number))
    gc.collect()
    assert kept() is not None, "the engine and its code are gone while a program lives"
    assert program.run(BATCH, LITERALS, POOL).batch.column("y").to_pylist() == WANTED


def test_processes_that_compile_the_same_at_once_agree(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_object_cache as t
from pathlib import Path
sys.stdin.readline()
print(t.answer(Path({str(tmp_path)!r})) == t.WANTED)
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate()[0].strip() for child in children] == ["True", "True"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_skeleton_is_compiled_without_a_cache_that_fails():
    asked = []

    def compiler(signature, *, cache=False, **_):
        asked.append(cache)
        if cache:
            raise OSError(errno.ENOSPC, "no space left")
        return lambda function: ("compiled", signature, function)

    def skeleton():
        return 0

    with pytest.warns(RuntimeWarning, match="skeleton skeleton is compiled anew .* no space left"):
        made = compiled._cached(compiler, "signature")(skeleton)
    assert made == ("compiled", "signature", skeleton)
    assert asked == [True, False]
