"""What a program made of several chunks as one output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from wherry.devices.work import Work
from wherry.render.gather import several
from wherry.render.ledger import written
from wherry.render.program import ChunkOutput
from wherry.render.sums import Sums, read_sums


def together(outputs: Sequence[ChunkOutput]) -> ChunkOutput:
    """Give what a program made of chunks, one by one and in order, as one output.

    Raises
    ------
    InputError
        If a total needs more digits than there are.
    """
    outputs = _read(outputs)
    if len(outputs) == 1:
        return outputs[0]
    return ChunkOutput(
        batch=several([output.batch for output in outputs]),
        rows_in=sum(output.rows_in for output in outputs),
        rows_selected=sum(output.rows_selected for output in outputs),
        referenced_bytes=sum(output.referenced_bytes for output in outputs),
        copied_bytes=sum(output.copied_bytes for output in outputs),
        why=next((o.why for o in outputs if o.copied_bytes), outputs[0].why),
        work=sum((output.work for output in outputs), Work()),
        fallbacks=tuple(dict.fromkeys(why for output in outputs for why in output.fallbacks)),
    )


def _read(outputs: Sequence[ChunkOutput]) -> list[ChunkOutput]:
    """Give outputs with neighbours' totals read, those of one variant together."""
    found = list[ChunkOutput]()
    codes = groupby(outputs, lambda o: id(o.batch.code) if isinstance(o.batch, Sums) else None)
    for code, each in codes:
        alike = list(each)
        if code is None:
            found += alike
            continue
        made = read_sums([output.batch for output in alike])
        copied = written(made)
        whole = replace(
            alike[0],
            batch=made,
            rows_in=sum(output.rows_in for output in alike),
            rows_selected=sum(output.rows_selected for output in alike),
            copied_bytes=copied,
            work=sum((output.work for output in alike), Work(write_bytes=copied)),
        )
        found.append(whole)
    return found
