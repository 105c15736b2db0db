"""DBOS with SQLite, in a process and an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from wherry.base.errors import WherryError
from wherry.benchmarks.continuations.peers.install import installed

_PATIENCE_S = 120
_PROGRAM = """
import json, sys, time
from dbos import DBOS
folder, steps = sys.argv[1], int(sys.argv[2])
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
             "log_level": "ERROR", "run_admin_server": False})
times = []
@DBOS.step()
def add(x: int) -> int:
    return x + 1
@DBOS.workflow()
def chain(steps: int) -> int:
    x = 0
    for _ in range(steps):
        begun = time.perf_counter_ns()
        x = add(x)
        times.append((time.perf_counter_ns() - begun) / 1e3)
    return x
DBOS.launch()
assert chain(5) == 5
times.clear()
assert chain(steps) == steps
print(json.dumps(times))
DBOS.destroy()
"""


def step_us(folder: Path, packages: Path, steps: int) -> list[float]:
    """Give the times of steps; the first use installs DBOS."""
    own = packages / "dbos"
    python = own / "venv" / "bin" / "python"
    installed(
        own,
        [sys.executable, "-m", "venv", "venv"],
        [python, "-m", "pip", "install", "--quiet", "dbos>=3"],
    )
    command: list[str | Path] = [python, "-c", _PROGRAM, str(folder), str(steps)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise WherryError(f"DBOS does not run: {str(error.stderr)[-200:]}") from None
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times
