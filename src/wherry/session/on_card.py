"""Answers that stay in the memory of the card that makes them."""

from __future__ import annotations

import pyarrow as pa

from wherry.base.errors import InputError, Refused
from wherry.data.chunk import ChunkRef
from wherry.devices.system import System
from wherry.devices.this_machine import card_names
from wherry.ops.join import Join
from wherry.ops.operator import Declared
from wherry.ops.respond import Respond
from wherry.plan.query import Query
from wherry.render.cuda.stage import CudaStage
from wherry.run.device_table import DeviceTable
from wherry.run.installed import on_card
from wherry.run.leaving import leave_chunks
from wherry.run.on_device import Asked
from wherry.session.cards import card
from wherry.session.journey import query_of

_POSSIBLE = (
    "possible: filter, select and with_columns of columns that a card writes (numbers, truths, "
    "dates, times, decimals, codes of dictionaries); or collect(), which brings any answer to the "
    "host"
)


def collect_on(
    declared: Declared, device: str, system: System, reader: str | None = None
) -> DeviceTable:
    """Give the answer of a pipeline in the memory of the card that makes it.

    Raises
    ------
    InputError
        If the system has no such card, or there is no such reader.
    Refused
        If the card cannot make all of the answer; with every reason.
    """
    names = card_names(system)
    if device not in names:
        known = ", ".join(names) or "none; `wherry doctor` says why"
        text = f"{system.name} has no card {device!r}; cards that are really there: {known}"
        raise InputError(text)
    query, stage = _wholly(declared, device)
    source = declared.source
    columns = [name for name, _ in query.plan.fields]

    def read(ref: ChunkRef) -> pa.RecordBatch:
        return source.read(ref, columns)

    return leave_chunks(
        card(device, reader), Asked(stage, query.literals, source, query.chunks, read)
    )


def _wholly(declared: Declared, device: str) -> tuple[Query, CudaStage]:
    """Give a query all of which one pass of a card makes."""
    reasons = [
        f"{operator.name}: {_why(operator)}"
        for operator in declared.operators
        if operator.gathers or isinstance(operator, Join | Respond)
    ]
    if reasons:
        raise _refused(device, reasons)
    query = query_of(declared)
    near = next(number for number, each in enumerate(query.segments) if each.steps)
    try:
        stage = on_card(query.plan, near, near)
    except Refused as refused:
        raise _refused(device, list(refused.reasons)) from None
    if stage.kept:
        types = {name: stage.output.field(name).type for name in stage.kept}
        raise _refused(device, [f"column {n!r}: the host adds a {t}" for n, t in types.items()])
    return query, stage


def _why(operator: object) -> str:
    if isinstance(operator, Join):
        return "a card has no joins"
    if isinstance(operator, Respond):
        return "a stream is written on the host"
    return "rows of all chunks come together on the host"


def _refused(device: str, reasons: list[str]) -> Refused:
    return Refused(f"the answer cannot stay on {device}", (*reasons, _POSSIBLE))
