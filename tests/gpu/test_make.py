"""`make gpu` on a machine without a card: it fails, says why, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wherry.devices.gpu_paths import gpu_paths

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(gpu_paths()["pinned"].present, reason="there is a card")


def made(*words):
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "gpu", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_tests_that_need_a_card_fail_without_one():
    done = made("--part", "tests", "-k", "launches_follow")
    assert done.returncode == 1
    assert "1 error" in done.stdout or "1 failed" in done.stdout, done.stdout
    assert "failed: tests" in done.stderr


def test_no_sanitizer_is_said_aloud(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    done = made("--part", "sanitizer")
    assert done.returncode == 0
    assert "NO compute-sanitizer HERE" in done.stderr
    assert "left out, as was asked" in made("--part", "sanitizer", "--no-sanitizer").stderr


def test_a_benchmark_that_is_refused_leaves_no_results(tmp_path):
    done = made("--part", "bench", "--results", str(tmp_path / "results"))
    assert done.returncode == 1
    assert "CUDA device" in done.stderr
    assert not list((tmp_path / "results").iterdir())
