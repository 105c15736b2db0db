"""Commands that a test interrupts as Ctrl-C does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_HEARING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def interruptible(
    words: Sequence[str], env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a process that hears SIGINT, and end it by pid if it did not.

    A shell's background jobs, and all that they start, ignore SIGINT unless told otherwise.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _HEARING, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
