"""Parts of what a station replies, from what it has."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Final

import msgspec

from wherry.base.errors import Retryable, WherryError
from wherry.data.fragments import Fragment
from wherry.run.carrier import Evidence
from wherry.serve import requests

_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})


def unforeseen(problem: Exception) -> WherryError:
    """Give the error that a caller is told when the agent lacks something, or is wrong itself."""
    if isinstance(problem, MemoryError):
        return Retryable("the agent has no memory left for this")
    if isinstance(problem, OSError) and problem.errno in _NO_ROOM:
        return Retryable(f"the agent has no room for this now: {os.strerror(problem.errno or 0)}")
    traceback.print_exception(problem, file=sys.stderr)
    return WherryError(f"a fault of the agent itself ({type(problem).__name__}), logged there")


def unpacking_of(part: Fragment, batch: int, names: list[str]) -> requests.Unpacking | None:
    """Give what reading columns of a stored batch takes; None: nothing but a reference."""
    found = part.decoding(batch, names) if names else None
    if found is None:
        return None
    return requests.Unpacking(found.columns, found.stored_bytes, found.why, found.codec)


def spent_of(evidence: Evidence, ledger: tuple[tuple[int, int, str], ...]) -> requests.Spent:
    """Give what the run of a program came to, with its entries of the ledger."""
    return requests.Spent(
        rows_in=evidence.rows_in,
        rows_selected=evidence.rows_selected,
        work=msgspec.structs.astuple(evidence.work),
        packed=evidence.packed,
        core_ns=evidence.time.ns,
        residuals=evidence.residuals,
        ledger=ledger,
    )
