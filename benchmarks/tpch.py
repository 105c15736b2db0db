"""TPC-H tables as Arrow IPC files, laid out the way Wherry's workloads scan them.

`lineitem/` is two files (halves by row order) in batches of 65,536 rows, or of 262,144 from scale
factor 1 on: enough of them to keep many cores busy, few enough that each is worth its overhead.
`orders/` is two shards by hash of o_custkey, sorted by it, in batches of 8192 rows; `customer/` is
one file. Columns of few values are dictionary<int8, utf8>, other text is utf8, money
decimal128(15, 2), days date32. The files of scale factor 0.01 hold 10 MB; those of 0.1 took 2.3 s
to make on 2 shared cores.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks.tpch_layout import store, store_orders
from wherry.data.source import column_bounds, open_source

TABLES = ("lineitem", "orders", "customer")
LAYOUT = 2
"""Raise it when `tpch_layout` changes, so that older files are made again."""

_GENERATOR = "tpchgen-cli"
_MARKER = ".wherry-tpch"
_TEMPORARY = ".tpch-"


class _Made(msgspec.Struct, frozen=True):
    """What the marker says; `finished` turns true when the last file is in its place."""

    scale_factor: float
    generator: str
    layout: int
    finished: bool


def generate(directory: Path, scale_factor: float) -> dict[str, Path]:
    """Make the tables, unless they are there already, and give the folder of each.

    An interrupted or failed run leaves nothing that is taken for finished and no temporary file.

    Parameters
    ----------
    directory : Path
        Made if need be. Folders that an earlier call made in it for another scale factor or by
        another generator are replaced.
    scale_factor : float
        Of TPC-H: 1 gives 6 001 215 rows of lineitem.

    Returns
    -------
    dict of str to Path
        Keys "lineitem", "orders", "customer".

    Raises
    ------
    InputError
        When the scale factor is not positive, `tpchgen-cli` is not installed, or the directory
        holds such folders of other origin.
    WherryError
        When the generator fails.
    """
    if not scale_factor > 0:
        raise InputError(f"a scale factor is above 0, not {scale_factor}")
    program = _find_generator()
    version = _run([program, "--version"]).strip()
    wanted = _Made(scale_factor, version, LAYOUT, finished=True)
    folders = {table: directory / table for table in TABLES}
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        present = all(folder.is_dir() for folder in folders.values())
        if not (present and _made(directory) == wanted):
            _claim(directory, folders, msgspec.structs.replace(wanted, finished=False))
            _replace(directory, folders, program, scale_factor)
            _mark(directory, wanted)
    return folders


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time make tables in `directory`; the next one finds them made."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(directory: Path, folders: dict[str, Path], program: str, scale_factor: float) -> None:
    for killed in directory.glob(f"{_TEMPORARY}*"):  # Nobody else works here: the lock is ours.
        shutil.rmtree(killed)
    with tempfile.TemporaryDirectory(dir=directory, prefix=_TEMPORARY) as temporary:
        _make(program, Path(temporary), scale_factor)
        for table, folder in folders.items():
            if folder.exists():
                shutil.rmtree(folder)
            (Path(temporary) / table).rename(folder)


def _find_generator() -> str:
    beside = Path(sys.executable).with_name(_GENERATOR)
    found = str(beside) if beside.is_file() else shutil.which(_GENERATOR)
    if found is None:
        raise InputError(f"{_GENERATOR} is not installed; python -m pip install {_GENERATOR}")
    return found


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise WherryError(f"{' '.join(command)} failed ({done.returncode}): {said[-1]}")
    return done.stdout


def _made(directory: Path) -> _Made | None:
    try:
        return msgspec.json.decode((directory / _MARKER).read_bytes(), type=_Made)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _mark(directory: Path, made: _Made) -> None:
    part = directory / f"{_MARKER}.part"
    part.write_bytes(msgspec.json.encode(made))
    part.replace(directory / _MARKER)


def _claim(directory: Path, folders: dict[str, Path], unfinished: _Made) -> None:
    """Mark `directory` as ours and unfinished; refuse folders that no call of ours made."""
    present = [name for name, folder in folders.items() if folder.exists()]
    if present and not (directory / _MARKER).exists():
        raise InputError(
            f"{directory} holds {', '.join(present)}, which Wherry did not make; "
            "choose another directory"
        )
    _mark(directory, unfinished)


def _make(program: str, into: Path, scale_factor: float) -> None:
    parquet = into / "parquet"
    tables = ["--tables", ",".join(TABLES), "--output-dir", str(parquet)]
    _run([program, "parquet", "--scale-factor", str(scale_factor), *tables])
    rows = 1 << 16 if scale_factor < 1 else 1 << 18
    store(parquet / "lineitem.parquet", into / "lineitem", files=2, batch_rows=rows)
    store(parquet / "customer.parquet", into / "customer", files=1)
    store_orders(parquet / "orders.parquet", into / "orders")
    for table in TABLES:
        source = open_source(into / table)
        column_bounds(source, source.schema.names)  # Leaves the statistics beside the files.
