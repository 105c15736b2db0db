"""The benchmark of continuations: what it says of goals, peers that are absent, and names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks.continuations import compared
from wherry.benchmarks.continuations.figure import GOALS, met, of_samples, single
from wherry.benchmarks.continuations.peers.install import installed
from wherry.benchmarks.continuations.run import NAMES, run


def figures(*found: tuple[str, float]) -> dict[str, object]:
    return {name: single(name, "us", value) for name, value in found}


def test_goals() -> None:
    assert met(figures(("durable_batch_us", 10.0)), "durable_batch_us") is True
    assert met(figures(("durable_batch_us", 10.1)), "durable_batch_us") is False
    assert met(figures(("durable_vs_best_peer", 4.9)), "durable_vs_best_peer") is False
    beside = figures(("fdatasync_us", 4000.0), ("durable_step_us", 4150.0))
    assert met(beside, "durable_step_us") is True
    assert met(beside, "fdatasync_us") is None
    assert set(GOALS) <= set(NAMES)


def test_samples() -> None:
    found = of_samples("wake_us", "us", [3.0, 1.0, 2.0])
    assert (found.value, found.p50, found.n) == (2.0, 2.0, 3)
    assert found.p99 == pytest.approx(2.98)


def test_a_name_that_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'wake_us'"):
        list(run(["wakes_us"], tmp_path, tmp_path, print, print))


def test_peers_that_are_absent_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(folder: Path, packages: Path, steps: int) -> list[float]:
        raise WherryError("there is no npm")

    def slow(folder: Path, packages: Path, steps: int) -> list[float]:
        time.sleep(0.001)
        return [1e9] * steps

    said: list[str] = []
    monkeypatch.setattr(compared, "PEERS", {"absent": absent, "slow": slow})
    found = {f.figure: f for f in compared.measure(tmp_path, tmp_path, lambda _: None, said.append)}
    assert said == ["absent is left out: there is no npm"]
    assert list(found) == ["slow_step_us", "durable_vs_slow", "durable_vs_best_peer"]
    assert found["durable_vs_best_peer"].value == found["durable_vs_slow"].value > 5

    monkeypatch.setattr(compared, "PEERS", {"absent": absent})
    own = tmp_path / "again"
    own.mkdir()
    assert list(compared.measure(own, own, lambda _: None, said.append)) == []


def test_an_installation_is_made_once_and_tells_why_not(tmp_path: Path) -> None:
    folder = tmp_path / "peer"
    with pytest.raises(WherryError, match="there is no absent-program"):
        installed(folder, ["absent-program"])
    with pytest.raises(WherryError, match="sh failed: nothing here"):
        installed(folder, ["sh", "-c", "echo nothing here >&2; exit 1"])
    for _ in range(2):
        installed(folder, ["sh", "-c", "echo x >> times"])
    assert (folder / "times").read_text() == "x\n"
