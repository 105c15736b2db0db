"""Rows that came from another device, what their way cost, and that nothing came."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import Retryable

BY_REFERENCE: Final = "handed over in the process"
BY_DESCRIPTOR: Final = "handed over by descriptor"
CARRIED: Final = "carried over the network"


class Unreached(Retryable):
    """The other end was not reached, went away, or did not answer in time: it said nothing."""


class Received(Struct, frozen=True):
    """Rows that came: where they lie, they were put by whoever sent them, or they were copied.

    Attributes
    ----------
    copied_bytes : int
        Written on their way: none between processes of one host, unless they lay in memory that
        cannot be shared; all of them between hosts.
    why : str
        How they came, or why they were copied.
    """

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    copied_bytes: int = 0
    why: str = ""
