"""Install a peer once, and say in one sentence why that does not work."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from wherry.base.errors import WherryError

_PATIENCE_S = 300


def installed(folder: Path, *commands: Sequence[str | Path]) -> Path:
    """Give a folder in which the commands were carried out, now or before."""
    done = folder / ".installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for command in commands:
            _run(command, folder)
        done.touch()
    return folder


def _run(command: Sequence[str | Path], folder: Path) -> None:
    program = str(command[0])
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except FileNotFoundError:
        raise WherryError(f"there is no {program}") from None
    except subprocess.TimeoutExpired:
        raise WherryError(f"{program} took more than {_PATIENCE_S} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise WherryError(f"{program} failed: {' '.join(last)}") from None
