"""What was found out about this machine, kept in the user's cache for other processes."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs

T = TypeVar("T")


def kept_path(machine: str) -> Path:
    """Give the file for what is so as long as `machine`, a text that tells it from others, is."""
    folder = Path(platformdirs.user_cache_dir("wherry")) / "machines"
    return folder / f"{blake2b(machine.encode(), digest_size=8).hexdigest()}.json"


def kept_facts(path: Path, t: type[T], otherwise: T) -> T:
    """Give what is kept; `otherwise` if the file is not there, or not as it was written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=t)
    except (OSError, msgspec.MsgspecError):
        return otherwise


def keep_facts(path: Path, facts: object) -> None:
    """Keep facts, all of them or none; a machine that cannot write finds out again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(msgspec.json.encode(facts))
        Path(file.name).replace(path)
