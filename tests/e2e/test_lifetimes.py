"""Answers outlive what they came from, and whatever ends a run early leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

import wherry as wh
from wherry import InputError, col
from wherry.session.journey import segments as _segments

ROWS = 700_000


def table(seed: int = 0, rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(seed)
    texts = pa.array([f"text {i}" for i in range(50)]).take(pa.array(rng.integers(0, 50, rows)))
    return pa.table({"x": np.arange(rows), "y": rng.integers(0, 1000, rows), "s": texts})


def write(path: Path, data: pa.Table) -> Path:
    with ipc.new_file(path, data.schema) as writer:
        writer.write_table(data, max_chunksize=100_000)
    return path


def in_use() -> int:
    gc.collect()
    return _segments().bytes_in_use


def test_an_answer_outlives_table_file_and_pipeline(tmp_path):
    whole = table()
    path = write(tmp_path / "t.arrow", whole)
    for source in (path, table()):
        query = wh.scan(source)
        referenced = query.select("s", "x").collect()
        written = query.filter(col("y") < 5).select("s", z=col("x") * 2).collect()
        wanted = whole.filter(pa.compute.less(whole["y"], 5))
        del query, source
        path.unlink(missing_ok=True)
        gc.collect()
        assert wh.scan(whole).filter(col("y") >= 5).collect().num_rows == ROWS - len(wanted)
        assert referenced.equals(whole.select(["s", "x"]))
        assert written["s"].to_pylist() == wanted["s"].to_pylist()
        assert written["z"].to_pylist() == [2 * x for x in wanted["x"].to_pylist()]


def test_a_file_replaced_by_a_rename_is_read_as_it_was_opened(tmp_path):
    path = write(tmp_path / "t.arrow", table())
    query = wh.scan(path).filter(col("y") < 5)
    before = query.collect()
    write(tmp_path / "new.arrow", table(1)).replace(path)
    assert query.collect().equals(before)
    assert not wh.scan(path).filter(col("y") < 5).collect().equals(before)


@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_a_file_changed_in_place_is_refused(tmp_path, system):
    path = write(tmp_path / "t.arrow", table(rows=1000))
    query = wh.scan(path).filter(col("y") < 500)
    assert query.collect(system).num_rows > 0
    later = path.stat().st_mtime_ns + 10**9
    with path.open("r+b") as file:
        file.truncate(100)
    os.utime(path, ns=(later, later))
    with pytest.raises(InputError, match=r"t\.arrow was changed in place"):
        query.collect(system)


def ends_by_dropping(reader):
    reader.read_next_batch()


def ends_by_raising(reader):
    def consume() -> None:
        for _ in reader:
            raise KeyError

    with pytest.raises(KeyError):
        consume()


def ends_by_failing(reader):
    with pytest.raises(InputError, match="int16"):
        reader.read_all()


@pytest.mark.parametrize("end", [ends_by_dropping, ends_by_raising, ends_by_failing])
def test_a_stream_that_ends_early_gives_everything_back(end):
    query = wh.scan(table())
    query.agg(n=wh.count()).collect()
    threads, before = threading.active_count(), in_use()
    made = col("x").cast(pa.int16()) if end is ends_by_failing else col("x") * 2
    reader = query.filter(col("y") > 3).select("s", z=made).stream()
    end(reader)
    del reader
    assert in_use() == before
    assert threading.active_count() <= threads
    assert query.agg(n=wh.count()).collect().to_pylist() == [{"n": ROWS}]


CHILD = """
import gc, os, signal, sys, threading, time
import numpy as np, pyarrow as pa, wherry as wh
from wherry import col
from wherry.session.journey import segments as _segments
rows = 2_000_000
table = pa.table({"x": np.arange(rows), "y": np.random.default_rng(0).integers(0, rows, rows)})
query = wh.scan(table).group_by("y").agg(s=col("x").sum())
wh.scan(table.slice(0, 1000)).group_by("y").agg(s=col("x").sum()).collect()
"""
INTERRUPTED = """
def interrupt():
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    while True:
        query.collect()
except KeyboardInterrupt:
    pass  # while it is handled, its traceback holds what the frames held
gc.collect()
print(_segments().bytes_in_use, wh.scan(table).agg(n=wh.count()).collect().to_pylist())
"""
FORKED = """
kept = wh.scan(table).filter(col("y") < 1000).collect()
wanted = kept.to_pydict()
child = os.fork()
made = [wh.scan(table).filter(col("y") >= 5 + bool(child)).collect() for _ in range(4)]
right = [m["x"].to_numpy().tolist() == table["x"].to_numpy()[
    table["y"].to_numpy() >= 5 + bool(child)].tolist() for m in made]
good = kept.to_pydict() == wanted and all(right)
if not child:
    os._exit(0 if good else 1)
print(good, os.waitpid(child, 0)[1])
"""


def run_child(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_interrupt_ends_a_run_and_leaves_nothing():
    done = run_child(INTERRUPTED)
    assert done.stdout.strip() == "0 [{'n': 2000000}]", done.stderr
    assert done.returncode == 0


def test_an_interrupt_that_nobody_catches_ends_the_process():
    code = "threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
    done = run_child(code + "while True:\n    query.collect()\n")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip().endswith("KeyboardInterrupt")


def test_parent_and_child_of_a_fork_both_go_on():
    done = run_child(FORKED)
    assert done.stdout.strip() == "True 0", done.stderr
