"""Compiled objects on disk: each a sealed file under the digest of all that its code depends on.

Files appear whole or not at all, so any number of processes may write; what is damaged is not
there. The folder is kept below a bound: what was not used for longest goes first. It is divided by
the first byte of the digests, and each part has its share of the bound: whoever writes looks at all
files of a part, and at 37,000 that took 0.6 s.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import platformdirs

MOST_BYTES: Final = 256 << 20
"""Kept in all. A program is 10 to 40 KiB, so thousands stay."""
_PARTS: Final = 256
_SEAL: Final = 32
_DAY_NS: Final = 86_400 * 10**9


def object_folder() -> Path:
    """Give the folder that compiled objects are kept in unless another is named."""
    return Path(platformdirs.user_cache_dir("wherry")) / "objects"


def object_path(folder: Path, key: str) -> Path:
    """Give the file of the object with a digest, written in hexadecimal."""
    return folder / key[:2] / f"{key}.o"


def read_object(path: Path) -> bytes | None:
    """Give what a file keeps, or None when it is not there or not what was written."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    seal, content = stored[:_SEAL], stored[_SEAL:]
    if sha256(content).digest() != seal:
        return None
    _note_use(path)
    return content


def write_object(path: Path, content: bytes, most_bytes: int = MOST_BYTES // _PARTS) -> bool:
    """Keep `content`: whoever reads the file sees all of it or none. Tell whether it is kept.

    Parameters
    ----------
    most_bytes : int
        What the folder may hold; older files go until this one fits.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, most_bytes - _SEAL - len(content))
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(sha256(content).digest() + content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _note_use(path: Path) -> None:
    """Let a file count as used today; once a day is enough."""
    with suppress(OSError):
        if time.time_ns() - path.stat().st_mtime_ns > _DAY_NS:
            path.touch()


def _make_room(folder: Path, most_bytes: int) -> None:
    """Remove the files used longest ago until `most_bytes` hold the rest."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            # Another process may remove what this one just listed.
            with suppress(FileNotFoundError):
                status = entry.stat()
                found.append((status.st_mtime_ns, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, name in sorted(found):
        if total <= most_bytes:
            return
        Path(name).unlink(missing_ok=True)
        total -= size
