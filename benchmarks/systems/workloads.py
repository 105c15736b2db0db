"""Every workload that is judged by itself: TPC-H's shapes, the sweep, one request of each kind."""

from __future__ import annotations

from typing import Final

from wherry.benchmarks.systems import requests, sweep
from wherry.benchmarks.systems.queries import QUESTIONS, Question

WORKLOADS: Final[dict[str, Question]] = {
    question.name: question
    for question in (
        *QUESTIONS,
        *(
            Question(
                sweep.name_of(share, width),
                sweep.title_of(share, width),
                sweep.pipeline_of(share, width),
                sweep.sql_of(share, width),
            )
            for share in sweep.SHARES
            for width in sweep.WIDTHS
        ),
        *requests.SINGLE,
    )
}
"""By name, in the order of reports."""

TENANTS: Final = ("q1", "q6")
"""The workloads of the run of two tenants."""
