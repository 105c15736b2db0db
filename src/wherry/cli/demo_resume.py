"""`wherry demo resume`: a continuation outlives the process that began it, killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import typer

from wherry.base.errors import WherryError
from wherry.cli.demo_movable import CUSTOMER, allowance
from wherry.cli.output import grid, heading, say, show_json
from wherry.cli.show import hop_json
from wherry.cli.trace import show_trace
from wherry.data.arrow_write import write_ipc
from wherry.movables.looking import hops, name_of
from wherry.movables.places import looked
from wherry.run.records import Effect
from wherry.trace.hops import Hop

_ROWS: Final = 20_000
_CUSTOMERS: Final = 500
_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.02


def demo_resume(system: str, *, as_json: bool) -> None:
    """Begin a movable of two steps, kill its process between them, and go on in another.

    Raises
    ------
    WherryError
        If the answer is wrong, a step was repeated that is on record, or a process fails.
    """
    with tempfile.TemporaryDirectory(prefix="wherry-demo-") as folder:
        journal, orders = Path(folder) / "demo.journal", Path(folder) / "orders.arrow"
        table = _orders()
        write_ipc(orders, table.schema, table.to_batches(max_chunksize=1024))
        id_, pid, before = _begun_and_killed(journal, orders, system)
        answer, second = _resumed(journal, id_)
        with closing(looked(journal)) as seen:
            name, made = name_of(seen, id_), hops(seen, id_)
    wanted = _expected(table)
    said = {"id": id_.hex(), "killed": pid, "hops_before": before, "resumed_by": second}
    if as_json:
        equal = answer == wanted
        show_json({**said, "answer": answer, "equal": equal, "hops": [hop_json(h) for h in made]})
        raise typer.Exit(0 if equal and _lives(made) == 2 else 1)
    _show(system, said, answer, name, made)
    if answer != wanted:
        raise WherryError(f"the answer should be {wanted}; it is {answer}")
    if _lives(made) != 2:
        raise WherryError(f"hops of two processes should be on record; {_lives(made)} are")


def _begun_and_killed(journal: Path, orders: Path, system: str) -> tuple[bytes, int, int]:
    """Give the id, the process that was killed, and how many hops were on record then."""
    with _process("begin", journal, orders, system) as first:
        try:
            id_ = _line(first)
            _await_second_step(first, journal, id_)
            os.kill(first.pid, signal.SIGKILL)  # no handler runs, nothing is flushed
        finally:
            if first.poll() is None:
                first.kill()
            first.wait()
    with closing(looked(journal)) as seen:
        return id_, first.pid, len(hops(seen, id_))


def _await_second_step(process: subprocess.Popen[str], journal: Path, id_: bytes) -> None:
    """Wait until the first step is on record, and the second has begun and not ended."""
    end = time.monotonic() + _PATIENCE_S
    with closing(looked(journal)) as seen:
        while time.monotonic() < end:
            known = seen.of(id_).records
            if any(isinstance(one, Effect) and not one.done for one in known):
                return
            if process.poll() is not None:
                break
            time.sleep(_LOOK_S)
    raise WherryError(f"the first process did not come to its second step: {_complaint(process)}")


def _resumed(journal: Path, id_: bytes) -> tuple[dict[str, Any], int]:
    with _process("resume", journal, id_.hex()) as second:
        try:
            out, err = second.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            second.kill()
            raise WherryError(f"the second process did not end in {_PATIENCE_S:.0f} s") from None
    if second.returncode:
        raise WherryError(f"the second process failed: {err.strip().splitlines()[-1:]}")
    return json.loads(out), second.pid


def _process(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wherry.cli.demo_movable", *map(str, words)]
    return subprocess.Popen(  # noqa: S603  this interpreter, our own module
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> bytes:
    assert process.stdout is not None  # it is a pipe
    text = process.stdout.readline().strip()
    if not text:
        raise WherryError(f"the first process failed: {_complaint(process)}")
    return bytes.fromhex(text)


def _complaint(process: subprocess.Popen[str]) -> str:
    process.kill()
    _, err = process.communicate()
    return err.strip().splitlines()[-1] if err.strip() else "it said nothing"


def _orders() -> pa.Table:
    numbers = range(_ROWS)
    return pa.table(
        {
            "number": pa.array(numbers, pa.int64()),
            "customer": pa.array([n % _CUSTOMERS for n in numbers], pa.int64()),
            "price": pa.array([float(n * 7919 % 10007) for n in numbers], pa.float64()),
        }
    )


def _expected(table: pa.Table) -> dict[str, Any]:
    rows = [row for row in table.to_pylist() if row["customer"] == CUSTOMER]
    rows.sort(key=lambda row: (row["price"], row["number"]))
    kept = rows[: allowance(CUSTOMER, len(rows))]
    return {name: [row[name] for row in kept] for name in table.schema.names}


def _lives(made: list[Hop]) -> int:
    return len({hop.life for hop in made})


def _show(
    system: str, said: dict[str, Any], answer: dict[str, Any], name: str, made: list[Hop]
) -> None:
    before = said["hops_before"]
    heading(f"wherry demo resume on {system}")
    say(f"Process {said['killed']} began {name}: {before} hops were on record when it was killed")
    say("by SIGKILL in the middle of its second step, a call of a service.")
    say(f"Process {said['resumed_by']} went on from the journal: the first step was not repeated.")
    say()
    grid(list(answer), zip(*([str(v) for v in column] for column in answer.values()), strict=True))
    say()
    show_trace(name, sorted(made, key=lambda hop: (hop.receipt.start_ns, hop.hop)))
