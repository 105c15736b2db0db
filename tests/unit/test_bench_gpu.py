"""`wherry bench gpu` without a card: its data, limits, peers and goals, on this CPU."""

from __future__ import annotations

import numpy as np
import pytest
from support.numpy_cupy import Arrays

from wherry import scan
from wherry.base.errors import InputError
from wherry.benchmarks.gpu import card as card_module
from wherry.benchmarks.gpu import engines, limits, lineitem
from wherry.benchmarks.gpu.budget import Budget
from wherry.benchmarks.gpu.card import Card
from wherry.benchmarks.gpu.goals import GOALS, Goal, described, met
from wherry.benchmarks.gpu.questions import differs, questions, wanted
from wherry.devices.found import Found

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
    assert (
        differs(question.read(question.pipeline(scan(data.table())).collect()), right, exact=exact)
        is None
    )
    asks = engines.on_the_card(cp, Arrays(), question, engines.uploaded(cp, data))
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
        Card(cp), file, nbytes=5 << 20, host_bytes=4 << 20, threads=(1, 2), begin=told.append
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
    run = Card(cp).kernel(limits.READ, "read_all")
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
        Card(Arrays()), file, nbytes=1 << 20, host_bytes=1 << 20, threads=(1,), begin=str
    )
    assert found.direct == {}
    assert "Invalid argument" in found.why


def test_goals_are_said_of_their_scale_factor():
    times = {"answer_ms": 2.4, "card_ms": 2.3, "limit_ms": 2.2}
    assert met(GOALS["q6"], scale_factor=100.0, **times) is True
    assert met(GOALS["q6"], scale_factor=30.0, **times) is None
    assert met(Goal(share=0.95, of="card"), scale_factor=1.0, **times) is True
    assert met(Goal(share=0.95), scale_factor=1.0, **times) is False
    assert met(Goal(), scale_factor=100.0, **times) is None
    assert met(Goal(most_ms=1.0), scale_factor=1.0, **times | {"answer_ms": None}) is None
    assert described(Goal()) == ""
    assert described(GOALS["filter-1%"]) == "<= 2 ms on the card"


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
