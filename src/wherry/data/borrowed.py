"""Memory of other processes that is mapped here: whoever keeps it, keeps it from its owner.

What reads such memory holds it for as long as it reads. What is found out about it may be kept for
longer only without it.
"""

from __future__ import annotations

import weakref

import pyarrow as pa

_known: dict[int, int] = {}
"""Bytes by address. Each step on it is one of the interpreter's, so it takes no lock: a mapping may
end anywhere, in the middle of any of them."""


def note(owner: object, address: int, nbytes: int) -> None:
    """Note memory that is another's until `owner`, which holds it, is gone."""
    _known[address] = nbytes
    weakref.finalize(owner, _known.pop, address, None).atexit = False


def is_borrowed(array: pa.Array) -> bool:
    """Tell whether something of an array lies in another process's memory."""
    if not _known:
        return False
    known = list(_known.items())
    addresses = [buffer.address for buffer in array.buffers() if buffer is not None]
    return any(start <= a < start + size for a in addresses for start, size in known)
