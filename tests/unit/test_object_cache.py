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
from wherry.kernels import objects
from wherry.kernels.engine import Engine, engine
from wherry.kernels.objects import read_object, write_object
from wherry.kernels.skeletons import modules, skeletons, warm
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
    path = first.path(first.key(TEXT))
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

    monkeypatch.setattr(objects.os, "fdopen", full)
    assert answer(tmp_path) == WANTED
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
    assert len(list(tmp_path.rglob("*.o"))) == 1


FIRST_QUERY = """
import sys
import wherry as wh
from wherry import col
query = wh.scan(sys.argv[1]).filter(col("k") > 1, col("s") != "a").group_by("k").agg(n=wh.count())
assert query.collect().to_pydict() == {"k": [2], "n": [50]}
dear = {"numba", "pyarrow.compute", "pyarrow.parquet", "pyarrow.dataset"}
print(*sorted(dear & set(sys.modules)))
"""


def imported(cache: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a query in a new process that keeps its objects in `cache`; it prints what is dear."""
    path = cache.parent / "rows.arrow"
    if not path.exists():
        table = pa.table({"k": [1, 2, 1] * 50, "s": ["a", "b", "c"] * 50})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, *flags, "-c", FIRST_QUERY, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_first_query_imports_only_what_it_calls(tmp_path):
    """Skeletons that are not kept want numba, statistics that are not want `pyarrow.compute`."""
    cache = tmp_path / "cache"
    cache.mkdir()
    assert imported(cache).stdout.split() == ["numba", "pyarrow.compute"]
    assert imported(cache).stdout.split() == []


def test_skeletons_that_cannot_be_kept_are_compiled_with_a_warning(tmp_path):
    (tmp_path / "wherry").write_text("no folder")
    found = imported(tmp_path)
    assert "numba" in found.stdout.split()
    assert "RuntimeWarning: skeletons of few are compiled anew" in found.stderr


def test_skeletons_are_found_by_name():
    with pytest.raises(AttributeError, match="filter defines no skeleton 'nothing'"):
        skeletons("filter").nothing  # noqa: B018
    assert {"filter", "group_by", "strings"} <= set(modules())


def test_every_declared_skeleton_can_be_loaded():
    for module in modules():
        warm(module)


def test_the_folder_keeps_what_was_used_last(tmp_path):
    for number in range(4):
        path = tmp_path / f"{number}.o"
        assert write_object(path, bytes(100), most_bytes=3 * 132)
        os.utime(path, ns=(number, number))
        if number == 2:
            assert read_object(tmp_path / "0.o") is not None  # is used, and outlives 1 and 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.o", "2.o", "3.o"]
