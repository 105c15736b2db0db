"""pyarrow's own engine, for those workloads that it can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import acero, dataset

from wherry.benchmarks.kernels.question import Ask

Sums = Sequence[tuple[Any, str, Any, str]]
"""Column, function, options and name of each aggregate, as AggregateNodeOptions takes them."""


def declared(
    table: pa.Table | dataset.Dataset,
    kept: Any = None,
    *,
    columns: Mapping[str, Any] | None = None,
    sums: Sums = (),
    keys: Sequence[str] = (),
    reads: Sequence[str] = (),
) -> Ask:
    """Give what filters a table, computes columns and aggregates them, each if it is asked.

    A dataset is read with the columns `reads`: its node would decode all of them.
    """
    steps = [_source(table, kept, reads)]
    if kept is not None:
        steps.append(acero.Declaration("filter", acero.FilterNodeOptions(kept)))
    if columns is not None:
        chosen = acero.ProjectNodeOptions(list(columns.values()), list(columns))
        steps.append(acero.Declaration("project", chosen))
    if sums:
        options = acero.AggregateNodeOptions(list(sums), keys=list(keys) or None)
        steps.append(acero.Declaration("aggregate", options))
    plan = acero.Declaration.from_sequence(steps)
    return lambda: plan.to_table(use_threads=True)


def _source(table: Any, kept: Any, reads: Sequence[str]) -> acero.Declaration:
    if isinstance(table, dataset.Dataset):
        options = acero.ScanNodeOptions(table, filter=kept, columns=list(reads))
        return acero.Declaration("scan", options)
    return acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
