"""Everything that needs a CUDA card, in order: tests, compute-sanitizer, and the benchmark.

A part that fails does not keep the next from running, because a card may be lent for minutes: what
failed is said in the end, and by the exit code. `python -m gpu --part tests` runs one part; options
that are not known here go to pytest and to `wherry bench gpu`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

PARTS = ("tests", "sanitizer", "bench")
ROOT = Path(__file__).parents[2]
_TOOLS = {"memcheck": ("--report-api-errors", "no"), "racecheck": ()}
"""With their options: calls of CUDA that fail are raised by CuPy, or answer what was asked."""
_CASES = (
    "forecast or by_code or by_anything or every_type or texts or first_rows or launches_follow"
)
"""One program of each kind: under the sanitizer they take a hundred times as long."""
_FILES = ("tests/gpu", *map(str, sorted((ROOT / "tests/conformance").glob("test_cuda*.py"))))
"""What has tests for cards; others want packages that a CUDA host may lack."""
_SECONDS = 900


def main() -> int:
    """Run the parts that are asked for; give 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="repeatable; else all")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--no-sanitizer", action="store_true", help="where it refuses the device")
    asked, more = parser.parse_known_args()
    parts = asked.part or list(PARTS)
    if asked.no_sanitizer and "sanitizer" in parts:
        parts.remove("sanitizer")
        _say("compute-sanitizer is left out, as was asked: nothing looks for races")
    failed = []
    for part in parts:
        _say(f"{part} begins")
        if not _RUN[part](asked.results, more):
            failed.append(part)
    _say(f"failed: {', '.join(failed)}" if failed else "all of it passed")
    return 1 if failed else 0


def _tests(results: Path, more: list[str]) -> bool:
    del results
    return _passes([*_pytest(), *more])


def _pytest() -> list[str]:
    # Other versions of packages than ours may warn of other things.
    options = ["-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *options, *_FILES]


def _sanitizer(results: Path, more: list[str]) -> bool:
    """Run a few programs under each tool; where there is none that is said, and passes."""
    del results, more
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(found).exists():
        _say("NO compute-sanitizer HERE: nothing looks for races, nor for what is read too far")
        return True
    command = [*_pytest(), "-x", "-k", _CASES]
    passed = True
    for tool, options in _TOOLS.items():
        _say(f"compute-sanitizer {tool}")
        # Not of the child that asks the driver within seconds, nor of compilers.
        asked = [found, "--tool", tool, *options, "--target-processes", "application-only"]
        passed &= _passes([*asked, "--error-exitcode", "1", *command])
    if not passed:
        _say("if it refuses the device (gVisor hosts), ask again with --no-sanitizer")
    return passed


def _bench(results: Path, more: list[str]) -> bool:
    """Measure, and keep the results under the day's and the card's name."""
    results.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from wherry.cli import main; raise SystemExit(main())"]
    part = results / ".gpu.json.part"
    with part.open("wb") as out:
        passed = _passes([*command, "bench", "gpu", "--json", *more], out)
    said = part.read_text()
    if '"rows"' not in said:
        _say(said.strip() or "the benchmark said nothing")
        part.unlink()
        return False
    name = results / f"{datetime.now(UTC):%Y-%m-%d}-gpu-{_card()}.json"
    part.rename(name)
    _say(f"results: {name}")
    return passed


def _card() -> str:
    """Give the first card's name as files have it, such as "nvidia-h200"."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return re.sub(r"[^a-z0-9]+", "-", said.strip().lower()).strip("-") or "unknown"


def _passes(command: list[str], out=None) -> bool:
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "REQUIRE_GPU": "1", "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=out, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(f"{command[0]}: {error}")
        return False
    return done.returncode == 0


def _say(text: str) -> None:
    sys.stderr.write(f"gpu: {text}\n")
    sys.stderr.flush()


_RUN = {"tests": _tests, "sanitizer": _sanitizer, "bench": _bench}

if __name__ == "__main__":
    sys.exit(main())
