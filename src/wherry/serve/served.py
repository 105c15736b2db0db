"""What a listener is given, whatever it listens at: who peers are, and what answers them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.data.segment import SegmentPool
from wherry.serve.log import Refused, unheard
from wherry.serve.peer import Peer


class Taken(Struct, frozen=True):
    """A piece on its way to whoever showed its ticket.

    Attributes
    ----------
    pool : SegmentPool
        Of the tenant: what does not lie in shareable memory is copied there, if it can be mapped.
    """

    schema: pa.Schema
    batches: Sequence[pa.RecordBatch]
    pool: SegmentPool


class Served(Struct, frozen=True, eq=False):
    """What a listener does with what its peers send; all are called from many threads at once.

    Attributes
    ----------
    peer : callable
        Gives the peer of a connection, or raises a WherryError to refuse it. It is asked of a Unix
        socket with the user's id; of Flight, at every call, with the name in the certificate ("" if
        there is none) and the address of the connection.
    handle : callable
        Answers a request, always.
    taken : callable
        Gives the piece of a ticket; raises a WherryError to refuse.
    refused : callable
        Is told who was refused, in which step, and why.
    """

    peer: Callable[..., Peer]
    handle: Callable[[bytes, Peer], bytes]
    taken: Callable[[bytes, Peer], Taken]
    refused: Refused = unheard
