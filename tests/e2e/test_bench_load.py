"""`wherry bench load` against an agent of its own, small and short."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.benchmarks.load.spawned import WEIGHTS


def test_an_agent_that_is_asked_too_much_goes_on(wherry, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chart = tmp_path / "load.svg"
    said = wherry(
        "bench", "load", "--rows", 1 << 16, "--seconds", 1, "--rate", 0.5, "--rate", 10,
        "--chart", chart, "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    found = said.json
    low, high = found["stretches"]
    assert (low["multiple"], high["multiple"]) == (0.5, 10.0)
    assert (found["requests"], found["rows"]) == (7, 1 << 16)
    assert low["failed"] == high["failed"] == 0
    for each in (low, high):
        assert each["offered"] == each["done"] + each["refused"] + each["held_back"]
        assert each["p50_ms"] <= each["p99_ms"] <= each["p999_ms"] <= each["most_ms"]
    # However slow the machine is: of ten times what it can do it must refuse most, and not all.
    assert high["done"] > 0
    assert high["refused"] + high["held_back"] > high["offered"] / 2
    assert all("busy" in text for text in high["why"])
    assert len(found["users"]) in {1, len(WEIGHTS)}
    assert found["verdict"]["peak_per_s"] == max(low["done_per_s"], high["done_per_s"])
    assert chart.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "11"], "--rate 11; possible: above 0, 10 at most"),
        (["grpc://127.0.0.1:1"], "possible: unix:PATH"),
        (["unix:nobody.sock"], "nobody.sock"),
        (["unix:nobody.sock", "--user", "alice"], "--user is UID[=WEIGHT]; got 'alice'"),
        (["--chart", "load.pdf"], "possible are .svg and .png files"),
    ],
)
def test_what_is_asked_wrongly(wherry, words: list[str], said: str) -> None:
    found = wherry("bench", "load", *words)
    assert found.code != 0
    assert said in found.err
