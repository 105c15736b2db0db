"""Parts of what a station replies, from what it has."""

from __future__ import annotations

import msgspec

from wherry.data.fragments import Fragment
from wherry.run.carrier import Evidence
from wherry.serve import requests


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
