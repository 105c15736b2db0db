"""How events and commands stand in a trace: what messages say instead of their bytes."""

from __future__ import annotations

import re
from typing import Final

from wherry.base.errors import CorruptError
from wherry.run import control, message
from wherry.run.delivery import Command, Event, Persist, Received, Send

_BORING: Final = re.compile(
    r"(program|frame|trace|span|budget|trace_flags|key_id|tenant|home|lease_ms|came|started_ns|body)"
    r"=(Budget\([^)]*\)\)?|[^,)]*),? ?"
)


def shown(thing: Event | Command, key: bytes) -> str:
    """Give a line that says what an event or command is."""
    if isinstance(thing, Send):
        return f"Send {thing.target}: {_said(thing.data, key)}"
    if isinstance(thing, Received):
        return f"Received {thing.sender}: {_said(thing.data, key)}"
    if isinstance(thing, Persist):
        return "Persist " + "; ".join(_brief(record) for record in thing.records)
    return _brief(thing)


def _said(data: bytes, key: bytes) -> str:
    try:
        said = control if data[:4] == control.MAGIC else message
        return _brief(said.thaw(data, key))
    except CorruptError as problem:
        return f"noise: {problem}"


def _brief(thing: object) -> str:
    text = re.sub(r"b(['\"]).*?(?<!\\)\1", lambda m: m.group(0)[:14], repr(thing))
    return _BORING.sub("", text)[:240]
