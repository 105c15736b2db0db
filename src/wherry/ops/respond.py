"""respond: assemble the answer and hand it to the client; every pipeline ends with it.

The batches of the answer are put in their order and leave from the buffers of the device that made
them; nothing is computed or copied, unless they are to be encoded. As a segment of its own it can
be placed: on the drive that holds the rows, on the NIC that is nearest the client, or on the host.
"""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.encoded import Encoding
from wherry.ir.codec import register
from wherry.ir.stage import Step
from wherry.ops.estimate import Estimate
from wherry.ops.operator import Operator

COMPRESSED_SHARE = {None: 1.0, "lz4": 0.4, "zstd": 0.25}
"""Bytes of a stream over those of its rows, a guess: measured on all columns of TPC-H lineitem
(0.40 and 0.23). Where data differ, a placement is chosen for a stream that is larger or smaller."""


@register
class Respond(Struct, frozen=True):
    """Give the rows to the client, as they are or encoded."""

    name: ClassVar[str] = "respond"
    ordered: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("respond",)
    gathers: ClassVar[bool] = False

    encoding: Encoding | None = None

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Give the schema unchanged."""
        return given

    def near(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: rows leave as they lie, and are encoded after all steps."""
        return ()

    def gather(self, given: pa.Schema) -> tuple[Step, ...]:  # noqa: ARG002
        """Do nothing: batches are put in order, not together."""
        return ()

    def estimate(self, given: Estimate) -> Estimate:
        """Give as many rows, of the bytes that cross the client's link."""
        if self.encoding is None:
            return given
        share = COMPRESSED_SHARE[self.encoding.compression]
        return replace(given, row_bytes=given.row_bytes * share)

    def reference(self, rows: pa.Table) -> pa.Table:
        """Give the rows."""
        return rows

    def describe(self) -> str:
        """Give its word, and how the rows are encoded."""
        return "respond" if self.encoding is None else f"respond as {self.encoding.describe()}"


def split_respond(operators: tuple[Operator, ...]) -> tuple[tuple[Operator, ...], Respond]:
    """Give the operators before the response, and the response: the plain one unless declared."""
    if operators and isinstance(operators[-1], Respond):
        return operators[:-1], operators[-1]
    return operators, Respond()
