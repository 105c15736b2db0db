"""A caller's process: asks what it is told to, says what came of it, and lets go of it."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable

import pyarrow as pa

from chaos.data import to_stream
from chaos.frames import Answered, Ask, Begun, Failed, Ready, Said, asked, framed
from wherry import WherryError

Asking = Callable[[Ask], tuple[pa.Table, tuple[str, ...]]]
"""Gives the answer of a question, and the devices that made it."""


def serve(ask: Asking) -> None:
    """Answer the run's questions until it has no more."""
    # What a library prints must not stand between the frames.
    out = os.dup(1)
    os.dup2(2, 1)

    def say(said: Said) -> None:
        data = memoryview(framed(said))
        while data:
            data = data[os.write(out, data) :]

    say(Ready())
    while (question := asked(sys.stdin.buffer)) is not None:
        say(Begun(question.id))
        say(_outcome(ask, question))
        gc.collect()


def _outcome(ask: Asking, question: Ask) -> Said:
    begun = time.monotonic()

    def took() -> float:
        return time.monotonic() - begun

    try:
        table, devices = ask(question)
        seconds, stream, changed = took(), to_stream(table), False
        if question.hold_ms:
            time.sleep(question.hold_ms / 1000)
            changed = to_stream(table) != stream
        return Answered(question.id, seconds, stream, devices, changed)
    except Exception as problem:  # noqa: BLE001  which errors there are is what is looked for
        known = isinstance(problem, WherryError)
        return Failed(question.id, took(), type(problem).__name__, known, str(problem))
