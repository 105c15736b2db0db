"""Decoders that are made before threads use them.

msgspec learns a type when it is first decoded to, and a second thread that decodes to it meanwhile
crashes the process. A `Decoder` is made where a module is imported, by one thread; what is
converted to types that are known only later goes through `converted`, one at a time.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

S = TypeVar("S")

_lock = threading.Lock()


def converted(value: Any, kind: type[S]) -> S:
    """Give a value of tables and lists as a `kind`; raises what `msgspec.convert` does."""
    with _lock:
        return msgspec.convert(value, kind)
