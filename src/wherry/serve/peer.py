"""Who asks an agent, and what one takes from it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool


class Peer(Struct, frozen=True):
    """Who is at the other end of a connection.

    Attributes
    ----------
    tenant : str
        Whose work it is.
    how : str
        How it is known, for logs: "unix uid 1000", "tls CN=alice".
    """

    tenant: str
    how: str


class Taken(Struct, frozen=True, eq=False):
    """A piece, lent to whoever showed its ticket.

    Attributes
    ----------
    schema : pa.Schema
        Of the batches.
    batches : sequence of pa.RecordBatch
        The rows.
    lease : int
        Names the loan; from 0, below 2**64, and never the same twice.
    pool : SegmentPool
        Of the tenant: where memory is copied to that is in no segment.
    """

    schema: pa.Schema
    batches: Sequence[pa.RecordBatch]
    lease: int
    pool: SegmentPool
