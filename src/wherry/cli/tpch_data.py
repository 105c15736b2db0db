"""Where the command line keeps the TPC-H tables of its queries and benchmarks."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from platformdirs import user_cache_path

from wherry.benchmarks.tpch import generate
from wherry.benchmarks.workload import Tables
from wherry.cli.progress import progress

_Made = TypeVar("_Made")


def tables(scale_factor: float, data: Path | None) -> Tables:
    """Give the tables at a scale factor, made on first use; interrupted, nothing of them stays."""
    return kept("tpch", scale_factor, data, generate)


def kept(
    kind: str, scale_factor: float, data: Path | None, make: Callable[[Path, float], _Made]
) -> _Made:
    """Give what `make` makes in folder KIND-SF, which is gone again if it is interrupted."""
    folder = (data or default_folder()) / f"{kind}-{scale_factor:g}"
    missing = [path for path in (folder, folder.parent) if not path.exists()]
    try:
        with progress() as begin:
            begin(f"TPC-H tables at scale factor {scale_factor:g}")
            return make(folder, scale_factor)
    except BaseException:
        if folder in missing:
            shutil.rmtree(folder, ignore_errors=True)
        if folder.parent in missing:
            with suppress(OSError):  # never made, or somebody else's tables are in it by now
                folder.parent.rmdir()
        raise


def default_folder() -> Path:
    """Give `data` of a checkout of Wherry if this is one, else the user's cache."""
    here = Path.cwd()
    return here / "data" if _is_checkout(here) else user_cache_path("wherry")


def _is_checkout(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return project.get("project", {}).get("name") == "wherry"
