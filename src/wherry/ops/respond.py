"""respond: assemble the answer and hand it to the client; every pipeline ends with it.

The batches of the answer are put in their order and leave from the buffers of the device that made
them; nothing is computed or copied. As a segment of its own it can be placed: on the drive that
holds the rows, on the NIC that is nearest the client, or on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from wherry.ir.codec import register
from wherry.ir.stage import Step
from wherry.ops.estimate import Estimate


@register
@dataclass(frozen=True, slots=True)
class Respond:
    """Give the rows to the client, as they are."""

    name: ClassVar[str] = "respond"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("respond",)
    gathers: ClassVar[bool] = False

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: rows leave as they lie."""
        return ()

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: batches are put in order, not together."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows: what crosses the client's link."""
        return given

    def reference(self, rows: pa.Table) -> pa.Table:
        """Give the rows."""
        return rows

    def describe(self) -> str:
        """Give its word."""
        return "respond"
