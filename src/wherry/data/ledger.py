"""The ledger of a run: per stage and device, what was referenced, what was copied, and why."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class LedgerEntry(Struct, frozen=True):
    """Bytes that one stage referenced where they lay and bytes that it wrote, for one reason."""

    stage: int
    device: str
    referenced_bytes: int
    copied_bytes: int
    why: str


class Ledger(Struct, frozen=True):
    """Entries in the order they were made; totals follow from them."""

    entries: tuple[LedgerEntry, ...] = ()

    @property
    def referenced_bytes(self) -> int:
        """Bytes that passed through by reference, over all entries."""
        return sum(entry.referenced_bytes for entry in self.entries)

    @property
    def copied_bytes(self) -> int:
        """Bytes that were written, over all entries."""
        return sum(entry.copied_bytes for entry in self.entries)


def merge(ledgers: Iterable[Ledger]) -> Ledger:
    """Give one ledger with one entry for each (stage, device, why), in order of first sight.

    >>> a = Ledger((LedgerEntry(0, "csd", 100, 8, "filter"),))
    >>> merge([a, a]).entries
    (LedgerEntry(stage=0, device='csd', referenced_bytes=200, copied_bytes=16, why='filter'),)
    """
    sums: dict[tuple[int, str, str], tuple[int, int]] = {}
    for entry in (entry for ledger in ledgers for entry in ledger.entries):
        key = (entry.stage, entry.device, entry.why)
        referenced, copied = sums.get(key, (0, 0))
        sums[key] = (referenced + entry.referenced_bytes, copied + entry.copied_bytes)
    return Ledger(
        tuple(
            LedgerEntry(stage, device, referenced, copied, why)
            for (stage, device, why), (referenced, copied) in sums.items()
        )
    )
