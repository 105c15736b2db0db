"""`wherry bench continuations` on this machine, without other systems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wherry.cli import main


def test_durable_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["bench", "continuations", "--figure", "step_growth", "--disk", str(tmp_path), "--json"]
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    names = ["fdatasync_us", "durable_step_us", "durable_batch_us", "step_growth"]
    assert [row["figure"] for row in found["rows"]] == names
    assert all(set(row) == {"figure", "value", "unit", "p50", "p99", "n"} for row in found["rows"])
    values = {row["figure"]: row["value"] for row in found["rows"]}
    assert 0 < values["durable_batch_us"] < values["durable_step_us"]
    assert values["step_growth"] < 3
    assert list(tmp_path.iterdir()) == []
