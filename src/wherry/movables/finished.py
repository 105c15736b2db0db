"""What came of a continuation: its value, and the account of its hops."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.base.units import Measured, Modelled, Time
from wherry.run.receipts import DIMENSIONS, Receipt, total
from wherry.trace.hops import Hop, otlp, perfetto


class Finished(Struct, frozen=True, dict=True):
    """The result of a movable.

    Attributes
    ----------
    id : bytes
        Of the continuation.
    name : str
        Of the movable.
    value : object
        What it returned; rows come as a `pyarrow.Table`, by reference where they lie in memory.
    hops : tuple of Hop
        In order, with a receipt each.
    """

    id: bytes
    name: str
    value: Any
    hops: tuple[Hop, ...]

    @property
    def table(self) -> pa.Table:
        """The value, if it is rows.

        Raises
        ------
        InputError
            If it is something else.
        """
        if not isinstance(self.value, pa.Table):
            raise InputError(f"{self.name} gave a {type(self.value).__name__}, no rows: use .value")
        return self.value

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What each hop used."""
        return tuple(hop.receipt for hop in self.hops)

    @cached_property
    def used(self) -> dict[str, int]:
        """What all hops used, by dimension."""
        sums = total(receipt.used for receipt in self.receipts)
        return dict(zip(DIMENSIONS, sums, strict=True))

    @property
    def time(self) -> Time:
        """What all hops took, one after the other: modelled on an emulated system."""
        modelled = any(receipt.modelled for receipt in self.receipts)
        return (Modelled if modelled else Measured)(self.used["time_ns"])

    @property
    def trace(self) -> bytes:
        """The hops as a file for ui.perfetto.dev or chrome://tracing."""
        return perfetto(self.hops, self.name)

    @property
    def otlp(self) -> bytes:
        """The hops as OpenTelemetry spans, in the JSON encoding of OTLP."""
        return otlp(self.hops, self.name)
