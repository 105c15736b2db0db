"""The generator of TPC-H tables, a program of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from wherry.base.errors import InputError, WherryError

GENERATOR = "tpchgen-cli"


def find() -> str:
    """Give the path of the generator.

    Raises
    ------
    InputError
        When it is not installed.
    """
    beside = Path(sys.executable).with_name(GENERATOR)
    found = str(beside) if beside.is_file() else shutil.which(GENERATOR)
    if found is None:
        raise InputError(f"{GENERATOR} is not installed; python -m pip install {GENERATOR}")
    return found


def checked(scale_factor: float) -> float:
    """Give the scale factor back if there are such tables."""
    if not 0 < scale_factor < inf:
        raise InputError(f"a scale factor is above 0 and finite, not {scale_factor}")
    return scale_factor


def version(program: str) -> str:
    """Give what the generator calls itself."""
    return _run([program, "--version"]).strip()


def make_parquet(program: str, tables: Sequence[str], into: Path, scale_factor: float) -> None:
    """Write each table to `into` as NAME.parquet, compressed with snappy.

    Raises
    ------
    WherryError
        When the generator fails.
    """
    wanted = ["--tables", ",".join(tables), "--output-dir", str(into)]
    _run([program, "parquet", "--scale-factor", str(scale_factor), *wanted])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise WherryError(f"{' '.join(command)} failed ({done.returncode}): {said[-1]}")
    return done.stdout
