"""`wherry bench gpu` without a card: its data, limits, peers and goals, on this CPU."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from support import cards
from support.fake_cupy import FakeCupy
from support.numpy_cupy import Arrays, Runtime

from wherry import cli, scan
from wherry.base.errors import InputError
from wherry.benchmarks.gpu import card as card_module
from wherry.benchmarks.gpu import engines, limits, lineitem, loads, machine, ours
from wherry.benchmarks.gpu import run as run_module
from wherry.benchmarks.gpu import workloads as workloads_module
from wherry.benchmarks.gpu import world as world_module
from wherry.benchmarks.gpu.budget import Budget
from wherry.benchmarks.gpu.card import Cuda
from wherry.benchmarks.gpu.goals import GOALS, Goal, described, met
from wherry.benchmarks.gpu.questions import differs, questions, wanted
from wherry.benchmarks.gpu.run import Size
from wherry.cli import bench_gpu
from wherry.devices.cuda import cuda_devices
from wherry.devices.found import Found
from wherry.session import cards as session_cards

SMALL = 0.005


@pytest.fixture(scope="module")
def data():
    return lineitem.made(SMALL)


def test_rows_depend_on_their_number_alone(data):
    more = lineitem.made(SMALL * 1.5, threads=1)
    assert data.rows == 30_006
    for name, column in data.columns.items():
        assert np.array_equal(column, more.columns[name][: data.rows])
        assert len(np.unique(column)) > 1


def test_rows_are_a_valid_table(data):
    table = data.table()
    table.validate(full=True)
    assert table.schema == lineitem.SCHEMA
    assert sum(c.nbytes for c in data.columns.values()) == data.rows * lineitem.ROW_BYTES
    assert data.first(7).table().num_rows == 7
    groups = set(
        zip(table["l_returnflag"].to_pylist(), table["l_linestatus"].to_pylist(), strict=True)
    )
    assert groups == {("A", "F"), ("R", "F"), ("N", "F"), ("N", "O")}


@pytest.mark.parametrize("name", questions())
def test_everybody_answers_the_same(name, data):
    question, cp = questions()[name], Arrays()
    right = wanted(question, data, threads=2)
    exact = question.gives == "rows"
    found = question.pipeline(scan(data.table())).collect()
    assert differs(question.read(found), right, exact=exact) is None
    asks = engines.on_the_card(cp, Arrays(), question, engines.uploaded(cp, question, data))
    assert set(asks) >= {"cupy", "torch"}
    for ask in asks.values():
        assert differs(engines.hosted(cp, ask()), right, exact=exact) is None
    with engines.on_the_host(question, data.table(), 2) as others:
        assert set(others) == {"duckdb", "polars"}
        for ask in others.values():
            found = ask()
            table = found if hasattr(found, "num_rows") else found.to_arrow()
            assert differs(question.read(table), right, exact=exact) is None


def test_a_wrong_answer_is_told(data):
    question = questions()["q1"]
    right = wanted(question, data, threads=1)
    wrong = [a.copy() for a in right]
    wrong[2][0] *= 1 + 1e-8
    assert differs(wrong, right, exact=False).startswith("array 2 is ")
    assert "shape" in differs([a[:-1] for a in right], right, exact=False)
    rows = [np.array([1.0, 2.0])]
    assert differs([np.array([1.0, np.nextafter(2.0, 3.0)])], rows, exact=True) is not None
    assert differs(rows, rows, exact=True) is None


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some"
    path.write_bytes(bytes(3 << 20))
    return path


def test_limits_are_measured_and_nothing_is_left(file):
    cp, told = Arrays(), []
    found = limits.measured(
        Cuda(cp), file, nbytes=1 << 20, host_bytes=1 << 20, threads=(1, 2), begin=told.append
    )
    runtime = cp.cuda.runtime
    assert not runtime.blocks
    assert not runtime.registered
    assert runtime.waits > 4 * limits.PASSES
    rates = [found.read, found.copy, found.to_device, found.from_device]
    rates += [found.to_device_pageable, found.from_device_pageable]
    rates += [*found.memory.values(), *found.cached.values(), *found.direct.values()]
    assert all(0 < rate < 1e4 for rate in rates)
    assert list(found.memory) == list(found.cached) == ["1", "2"]
    assert bool(found.direct) != bool(found.why)
    assert len(told) == 4


def test_the_read_kernel_reads_every_byte():
    """It writes when what it has seen adds up to 42, which one pair at any place may do."""
    cp = Arrays()
    run = Cuda(cp).kernel(limits.READ, "read_all")
    for pairs in (1, 255, 70_001):
        for at in {0, pairs // 2, pairs - 1}:
            words, out = np.zeros((pairs, 2), np.uint64), np.zeros(1, np.uint64)
            given = (words.ctypes.data, pairs, out.ctypes.data)
            run((3,), (256,), tuple(map(np.uint64, given)))
            assert out[0] == 0
            words[at, pairs % 2] = 42
            run((3,), (256,), tuple(map(np.uint64, given)))
            assert out[0] == 42


def test_a_drive_that_cannot_says_so(file, monkeypatch):
    opened = limits.os.open

    def refusing(path, flags, **given):
        if flags & limits.os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return opened(path, flags, **given)

    monkeypatch.setattr(limits.os, "open", refusing)
    found = limits.measured(
        Cuda(Arrays()), file, nbytes=1 << 16, host_bytes=1 << 20, threads=(1,), begin=str
    )
    assert found.direct == {}
    assert "Invalid argument" in found.why


def test_every_goal_has_a_workload_and_no_more():
    assert list(workloads_module.workloads()) == list(GOALS)


def test_goals_are_said_of_their_scale_factor():
    times = {"answer_ms": 2.4, "card_ms": 2.3, "limit_ms": 2.2}
    assert met(GOALS["q6"], scale_factor=100.0, **times) is True
    assert met(GOALS["q6"], scale_factor=30.0, **times) is None
    assert met(Goal(share=0.95, of="card"), scale_factor=1.0, **times) is True
    assert met(Goal(share=0.95), scale_factor=1.0, **times) is False
    assert met(Goal(), scale_factor=100.0, **times) is None
    assert met(Goal(most_ms=1.0), scale_factor=1.0, **times | {"answer_ms": None}) is None
    assert described(Goal()) == ""
    assert described(GOALS["filter-1%"]) == "<= 2 ms, on card"


def test_a_budget_says_what_it_drops():
    now = [0.0]
    budget = Budget(10.0, lambda: now[0])
    assert budget.affords("one", 10.0)
    now[0] = 6.0
    assert not budget.affords("two", 5.0)
    assert budget.dropped == ["two: it takes about 5 s, and 4 are left"]


def test_without_a_card_it_is_refused(monkeypatch):
    absent = {"pinned": Found(present=False, detail="no device /dev/nvidia0")}
    monkeypatch.setattr(card_module, "gpu_paths", lambda: absent)
    with pytest.raises(InputError, match="CUDA device: no device"):
        card_module.cupy()


TINY = Size(0.001, 0.0005, 300.0, 1 << 16, 1 << 20, 0.01)


@pytest.fixture(scope="module")
def card():
    """Give this machine with a card that is this processor, and the card."""
    with cards.card(1 << 28) as found:
        yield found


@pytest.fixture
def stand_in(monkeypatch, card):
    """Let the command measure such a card, over very few rows."""
    system, made = card
    monkeypatch.setattr(bench_gpu, "cupy", Arrays)
    monkeypatch.setattr(bench_gpu, "first_card", lambda: made)
    monkeypatch.setattr(bench_gpu, "THIS_MACHINE", system)
    monkeypatch.setattr(bench_gpu, "Size", lambda: TINY)
    for module in (engines, run_module):
        monkeypatch.setattr(module, "versions", lambda: dict.fromkeys(engines.MODULES, "1"))
    monkeypatch.setattr(run_module, "import_module", lambda _: Arrays())
    monkeypatch.setattr(world_module, "_SAMPLE", 0.001)
    absent = Found(present=False, detail="this is no card")
    there = Found(present=True, detail="")
    found = {"pinned": there, "kvikio": absent, "gds": absent}
    monkeypatch.setattr(loads, "ways", lambda: found)


def test_every_workload_runs(stand_in, capsys, tmp_path):
    code = cli.main(["bench", "gpu", "--json", "--data", str(tmp_path)])
    said = json.loads(capsys.readouterr().out)
    assert [(row["workload"], row["failed"]) for row in said["rows"] if row["failed"]] == []
    assert code == 0
    assert [row["workload"] for row in said["rows"]] == list(GOALS)
    assert not list(tmp_path.iterdir())
    for row in said["rows"]:
        asked = not row["workload"].startswith(("compile", "kept", "load"))
        assert row["answers"] == ("equal" if asked else "none")
        assert row["same_bits"] is (True if asked else None)
        assert (row["answer_ms"] or 0) > 0 or row["workload"] in {"load-kvikio", "load-gds"}
        assert bool(row["limit"]) == (asked or "load" in row["workload"])
    resident = [row for row in said["rows"] if row["workload"] in questions()]
    assert all({"cupy", "torch", "duckdb", "polars"} <= set(row["peers"]) for row in resident)
    assert all(row["card_ms"] > 0 for row in resident)
    loaded = [row for row in said["rows"] if row["workload"].startswith(("pinned", "ca", "cold"))]
    assert [set(row["peers"]) for row in loaded] == [{"cupy", "duckdb"}] * 5
    assert all(sum(row["ways"].values()) > 0 for row in loaded)
    assert [line.split(":")[0] for line in said["dropped"]] == ["load-kvikio", "load-gds"]
    loads = {row["workload"]: set(row["ways"]) for row in said["rows"] if "load" in row["workload"]}
    assert loads["load-cached"] == {"cached"}
    assert loads["load-direct"] <= {"direct", "cached"}  # The last page may be a part of one.


SMI = "NVIDIA H200, 580.159.04, 143771, 5, 5, 16, 16, 1980, 3201, 700.00"


def test_cards_are_described(stand_in, monkeypatch, tmp_path, capsys):
    said = tmp_path / "nvidia-smi"
    said.write_text(f'#!/bin/sh\ntest "$#" = 2 && echo "{SMI}"\n')
    said.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (one,) = machine.cards()
    assert one["name"] == "NVIDIA H200"
    assert one["power_limit_w"] == "700.00"
    assert cli.main(["bench", "gpu", "--workload", "small-pass"]) == 0
    assert "NVIDIA H200, driver 580.159.04, PCIe 5 x16" in capsys.readouterr().out
    said.write_text("#!/bin/sh\nexit 9\n")
    assert "exit status 9" in machine.cards()


def test_a_card_of_this_machine_is_found(monkeypatch):
    with patch.dict(sys.modules, {"cupy": FakeCupy()}):
        with pytest.raises(InputError, match="CUDA knows 2 cards"):
            ours.first_card()
        found = cuda_devices()
        monkeypatch.setattr(ours, "cards", lambda: found)
        with session_cards.using():
            made = ours.first_card()
        made.reader.close()
    assert made.device.name == "gpu0"


def test_without_cupy_it_is_refused(monkeypatch):
    there = {"pinned": Found(present=True, detail="")}
    monkeypatch.setattr(card_module, "gpu_paths", lambda: there)
    with (
        patch.dict(sys.modules, {"cupy": None}),
        pytest.raises(InputError, match="CuPy cannot be imported"),
    ):
        card_module.cupy()


def test_what_fails_is_told_and_the_rest_goes_on(stand_in, monkeypatch, capsys):
    def failing(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(workloads_module.ours, "compile_ms", failing)
    words = ["bench", "gpu", "--workload", "small-pass", "--workload", "kept-q6"]
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert "kept-q6: MemoryError: no room" in said.err
    assert "small-pass" in said.out
    assert "equal" in said.out
    assert "failed" in said.out


def test_what_time_does_not_allow_is_left_out(stand_in, monkeypatch, capsys):
    now = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(run_module, "Budget", lambda seconds: Budget(seconds, lambda: next(now)))
    assert cli.main(["bench", "gpu", "--json", "--workload", "kept-q6"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == []
    assert any(line.startswith("kept-q6: ") for line in said["dropped"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--workload", "q7"], "no workload 'q7'"),
        (["--scale-factor", "0"], "--scale-factor 0"),
        (["--data", "/no/such"], "no such folder"),
        ([], "CUDA device"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(words, why, capsys, monkeypatch):
    absent = {"pinned": Found(present=False, detail="no device /dev/nvidia0")}
    monkeypatch.setattr(card_module, "gpu_paths", lambda: absent)
    assert cli.main(["bench", "gpu", *words]) == 2
    assert why in capsys.readouterr().err


def test_memory_that_a_host_will_get_may_be_told(stand_in, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(run_module, "chosen", lambda most, *room: seen.append(room[-1]) or most)
    words = ["--workload", "kept-q6", "--json", "--data", str(tmp_path)]
    assert cli.main(["bench", "gpu", *words, "--host-memory", "100"]) == 0
    assert cli.main(["bench", "gpu", *words]) == 0
    assert seen[0] == 100 << 30 != seen[1]


def test_scale_factors_fit_into_memory_and_time(monkeypatch):
    monkeypatch.setattr(world_module, "_SAMPLE", 0.001)
    rows = lineitem.rows_of(3.0)
    budget = Budget(10**9)
    assert world_module.chosen(100.0, budget, rows * 200, 1 << 60) == 3.0
    assert world_module.chosen(10.0, budget, 1 << 60, rows * 100) == 3.0
    assert len(budget.dropped) == 4
    assert world_module.chosen(100.0, Budget(0.0), 1 << 60, 1 << 60) == 1.0
    assert world_module.chosen(0.5, Budget(0.0), 0, 0) == 0.5


def test_a_drive_without_room_has_a_smaller_file(data, tmp_path, monkeypatch):
    free = SimpleNamespace(f_bavail=2 * 1000 * lineitem.ROW_BYTES, f_frsize=1)
    monkeypatch.setattr(world_module.os, "statvfs", lambda _: free)
    budget = Budget(1.0)
    path, rows = world_module.stored(data, 5000, tmp_path, budget)
    assert rows == 1000
    assert scan(path).collect().equals(data.first(1000).table())
    assert "has room for 1000" in budget.dropped[0]


def test_what_is_called_is_cupys():
    """Where CuPy is installed: no driver is needed to look."""
    cp = pytest.importorskip("cupy")
    runtime = cp.cuda.runtime
    for name in (name for name in vars(Runtime) if not name.startswith("_")):
        assert callable(getattr(runtime, name)), name
    assert callable(cp.cuda.driver.moduleLoadData)
    assert callable(cp.cuda.driver.moduleUnload)
    assert callable(cp.RawModule(code="").get_function)
    assert callable(cp.fuse(kernel_name="name"))
    assert callable(cp.get_default_memory_pool().free_all_blocks)
    for name in ("asarray", "asnumpy", "from_dlpack", "stack", "sum", "where"):
        assert callable(getattr(cp, name)), name
