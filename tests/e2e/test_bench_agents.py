"""`wherry bench agents`: it runs, checks what comes, and copies nothing."""

from __future__ import annotations

from wherry.benchmarks.agents.unix import measured


def test_the_figures_are_there() -> None:
    found = measured(nbytes=16 << 20, rounds=3, requests=50)
    assert (found.nbytes, found.copied_bytes) == (16 << 20, 0)
    assert 10 < found.take_us < 1e6
    assert 1 < found.request_us < 1e6
    assert found.read_gbs > 0.1


def test_the_command(wherry) -> None:
    said = wherry("bench", "agents", "--megabytes", "4", "--json").json
    assert said["machine"]["origin"] == "measured"
    assert said["met"]["bytes copied for all of it"] is True
    assert "hand-over of one batch" not in said["met"]  # the goal is of 256 MiB
