"""`make gpu` on a machine without a card: it fails, says why, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu import __main__ as runner
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


def test_a_sanitizer_is_given_a_few_programs(tmp_path, monkeypatch):
    """One that only says what it is asked to run, and passes or not."""
    tool = tmp_path / "compute-sanitizer"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for code in (0, 9):
        tool.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
        tool.chmod(0o755)
        done = made("--part", "sanitizer")
        assert done.returncode == min(code, 1)
        lines = done.stdout.splitlines()
        assert [line.split()[1] for line in lines] == ["memcheck", "racecheck"]
        assert all("--error-exitcode 1" in line and "tests/gpu" in line for line in lines)
        assert ("--no-sanitizer" in done.stderr) is bool(code)


def test_results_are_kept_under_the_cards_name(tmp_path, monkeypatch):
    card = tmp_path / "nvidia-smi"
    card.write_text("#!/bin/sh\necho NVIDIA H200 SXM\n")
    card.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def passes(command, out=None):
        assert command[-3:] == ["gpu", "--json", "--quick"]
        out.write(b'{"rows": []}')
        return True

    monkeypatch.setattr(runner, "_passes", passes)
    assert runner._bench(tmp_path / "results", ["--quick"])
    (found,) = (tmp_path / "results").iterdir()
    assert found.name.endswith("-gpu-nvidia-h200-sxm.json")
    assert found.read_text() == '{"rows": []}'


def test_what_does_not_end_fails(monkeypatch):
    monkeypatch.setattr(runner, "_SECONDS", 0.1)
    assert not runner._passes([sys.executable, "-c", "import time; time.sleep(9)"])


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
