"""The workloads, one file a family; each says a question in every engine's words."""

from __future__ import annotations

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.families import (
    filters,
    groups,
    joins,
    parquet,
    partitions,
    q1,
    q6,
    text,
    top,
)
from wherry.benchmarks.kernels.question import Question

_FAMILIES = (q6, q1, filters, text, groups, top, partitions, joins, parquet)


def questions(data: Data) -> dict[str, Question]:
    """Give the question of every workload over one scale factor's data."""
    return {name: asked for family in _FAMILIES for name, asked in family.questions(data).items()}
