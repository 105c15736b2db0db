"""An answer, and the account of how it was made."""

from __future__ import annotations

from functools import cached_property

import pyarrow as pa
from msgspec import Struct

from wherry.base.units import Time
from wherry.data.encoded import decode
from wherry.data.ledger import Ledger
from wherry.plan.replan import Revision
from wherry.run.carrier import Evidence
from wherry.trace.perfetto import chrome_trace
from wherry.trace.receipt import Receipt
from wherry.trace.timeline import Timeline
from wherry.trace.usage import Usage


class Result(Struct, frozen=True, dict=True):
    """An answer and the account of how it was made.

    Attributes
    ----------
    table : pyarrow.Table
        The answer; one that came encoded is decoded when it is first asked for.
    encoded : pyarrow.Buffer or None
        The answer as an Arrow IPC stream, if `respond` was declared.
    placement : str
        Which site ran each segment: `routing@dpu0 near@home ...`.
    time : Modelled or Measured
        From the request to the last byte of the answer.
    timeline : Timeline
        Every use of every resource.
    ledger : Ledger
        Bytes referenced and copied, per stage, device and reason.
    receipts : tuple of Receipt
        What each stage used on each device.
    evidence : tuple of Evidence
        What really ran where, one entry for each run of a program.
    builds : tuple of Result
        The other sides of joins, which ran before, one after another. `time` includes theirs;
        timeline, ledger, receipts, evidence and usage are of this query alone.
    usage : Usage or None
        How busy each resource was, energy and money; None where time is measured.
    revisions : tuple of Revision
        When something else passed than what was planned with, and how the rest of the chunks went
        from then on; `placement` is the one it began with.
    """

    answer: pa.Table | pa.Buffer
    placement: str
    time: Time
    timeline: Timeline
    ledger: Ledger
    receipts: tuple[Receipt, ...]
    evidence: tuple[Evidence, ...]
    builds: tuple[Result, ...] = ()
    usage: Usage | None = None
    revisions: tuple[Revision, ...] = ()

    @cached_property
    def table(self) -> pa.Table:
        """The answer, decoded from the stream if it came as one."""
        return self.answer if isinstance(self.answer, pa.Table) else decode(self.answer)

    @property
    def encoded(self) -> pa.Buffer | None:
        """The stream that the answer came as, if it came as one."""
        return self.answer if isinstance(self.answer, pa.Buffer) else None

    @property
    def trace(self) -> bytes:
        """The timeline as a file for ui.perfetto.dev or chrome://tracing."""
        return chrome_trace(self.timeline)
