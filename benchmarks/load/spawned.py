"""An agent of the benchmark's own: its data, its tenants, its process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.benchmarks.load.callers import User

DATASET: Final = "orders"
_BATCH_ROWS: Final = 1 << 20
_START_S: Final = 60.0
_STOP_S: Final = 10.0
_COMMAND: Final = "import sys; from wherry.cli import main; sys.exit(main())"
WEIGHTS: Final = (1, 2, 4)
"""Of the users of an agent of the benchmark's own, if it may be asked as several."""
_FIRST_UID: Final = 60001


class Spawned(Struct, frozen=True):
    """An agent that runs: the path of its socket, its process, and who may ask it."""

    path: str
    pid: int
    users: tuple[User, ...]


@contextmanager
def spawned(folder: Path, rows: int, running: int | None) -> Iterator[Spawned]:
    """Give an agent over a table of so many rows; root asks it as several users.

    Parameters
    ----------
    folder : Path
        Empty; removed by the caller.
    running : int, optional
        Requests that it works on at once.
    """
    data, path = folder / "data", str(folder / "load.sock")
    data.mkdir()
    _write(data / f"{DATASET}.arrow", rows)
    users = _users()
    words = ["agent", "--profile", "genoa", "--listen", f"unix:{path}", "--data", str(data)]
    words += ["--name", "load", "--tenants", str(_tenants(folder, users))]
    words += [] if running is None else ["--running", str(running)]
    with (folder / "agent.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", _COMMAND, *words], stdout=log, stderr=log)
    try:
        _await(process, Path(path), folder / "agent.log")
        folder.chmod(0o755)
        Path(path).chmod(0o666)  # the tenants file says who may ask
        yield Spawned(path, process.pid, users)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _users() -> tuple[User, ...]:
    if os.geteuid() != 0:
        return (User(os.geteuid()),)
    return tuple(User(_FIRST_UID + n, float(weight)) for n, weight in enumerate(WEIGHTS))


def _tenants(folder: Path, users: tuple[User, ...]) -> Path:
    lines = []
    for user in users:
        lines += ["[[tenant]]", f'name = "user{user.uid}"', f'who = ["uid {user.uid}"]']
        lines += ['datasets = ["*"]', "[tenant.bounds]", f"weight = {user.weight:.0f}"]
    if os.geteuid() not in {user.uid for user in users}:
        lines += ["[[tenant]]", 'name = "bench"', f'who = ["uid {os.geteuid()}"]']
        lines += ['datasets = ["*"]']
    path = folder / "tenants.toml"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def _write(path: Path, rows: int) -> None:
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "quantity": random.integers(1, 50, rows),
            "price": random.random(rows),
            "customer": random.integers(0, 1000, rows),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)


def _await(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    until = time.monotonic() + _START_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise WherryError(f"the agent does not start: {log.read_text().strip()}")
        time.sleep(0.05)
