"""A PostgreSQL server of one's own: in a folder, on a Unix socket, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_PATIENCE_S = 30.0
_SETTINGS = ("listen_addresses=", "max_connections=20", "shared_buffers=16MB", "fsync=off")


def programs() -> Path | None:
    """Give the folder of initdb and postgres: the system's, or those of the package pgserver."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for entry in sys.path:
        folders += Path(entry).glob("pgserver/pginstall/bin")
    return next((one for one in folders if (one / "postgres").exists()), None)


@contextmanager
def server() -> Iterator[str]:
    """Start a server and give the address of an empty database on it.

    PostgreSQL refuses to run as root: then it runs as `nobody`, in a folder of that user.
    """
    bin_ = programs()
    if bin_ is None:
        raise RuntimeError("no PostgreSQL: neither initdb on the PATH nor the package pgserver")
    folder = Path(tempfile.mkdtemp(prefix="wherry-pg-", dir="/tmp"))
    user: dict[str, int] = {}
    if os.geteuid() == 0:
        user = {"user": 65534, "group": 65534}
        os.chown(folder, 65534, 65534)
    try:
        subprocess.run(
            [bin_ / "initdb", "-D", folder / "data", "-U", "wherry", "-A", "trust", "-N",
             "-E", "UTF8", "--locale=C"],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            extra_groups=[] if user else None, **user,
        )  # fmt: skip
        options = [word for setting in _SETTINGS for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [bin_ / "postgres", "-D", folder / "data", "-k", folder, *options],
                stdout=log, stderr=log, cwd=folder, extra_groups=[] if user else None, **user,
            )  # fmt: skip
        try:
            yield _ready(f"host={folder} user=wherry dbname=postgres", child, folder / "log")
        finally:
            child.send_signal(signal.SIGQUIT)  # at once: nobody needs its data any more
            child.wait(_PATIENCE_S)
    finally:
        shutil.rmtree(folder)


def _ready(address: str, child: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(int(_PATIENCE_S * 20)):
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            if child.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return address
    raise RuntimeError(f"PostgreSQL does not start: {log.read_text()}")
