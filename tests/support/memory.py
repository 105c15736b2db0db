"""Whether memory is shared: a batch lies inside the memory of others."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from wherry.data.chunk import Region, buffer_addresses


def shares_memory(batch: pa.RecordBatch, owners: Iterable[pa.RecordBatch | pa.Buffer]) -> bool:
    """Say whether every buffer of `batch` lies inside one buffer of `owners`: nothing was copied.

    Parameters
    ----------
    owners : iterable of RecordBatch or Buffer
        What is said to own the memory: batches, or one mapping of a whole file.
    """
    regions = [region for owner in owners for region in _regions(owner)]
    return all(_inside(part, regions) for part in buffer_addresses(batch))


def _regions(owner: pa.RecordBatch | pa.Buffer) -> Iterable[Region]:
    if isinstance(owner, pa.Buffer):
        return [(owner.address, owner.size)]
    return buffer_addresses(owner)


def _inside(part: Region, regions: Iterable[Region]) -> bool:
    address, size = part
    return any(start <= address and address + size <= start + span for start, span in regions)
