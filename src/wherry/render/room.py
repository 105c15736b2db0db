"""Memory of a thread that is used again and again."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

_kept = threading.local()


def scratch(name: str, nbytes: int) -> np.ndarray[Any, Any]:
    """Give at least `nbytes` bytes at a multiple of 64, this thread's own until it asks again.

    Fresh memory costs more than what is done with it here (page faults), so it is kept.
    """
    rooms = _kept.__dict__.setdefault("rooms", {})
    room = rooms.get(name)
    if room is None or len(room) < nbytes:
        fresh = np.empty(nbytes + nbytes // 4 + 64, np.uint8)
        room = rooms[name] = fresh[-fresh.ctypes.data % 64 :]
    return room
