"""The workloads by name, in order, and what each must reach."""

from __future__ import annotations

from typing import Final, NamedTuple


class Goal(NamedTuple):
    """What a workload must reach.

    Attributes
    ----------
    ratio : float
        Time of the best peer, in whichever form it likes best, over Wherry's: at least this.
    share : float or None
        Time of the limit over Wherry's: at least this, if anything is asked.
    """

    ratio: float
    share: float | None = None


GOALS: Final = {
    "q6-float64": Goal(1.7, 0.9),
    "q6-decimal": Goal(2.0),
    "q1-float64": Goal(6.0, 0.85),
    "q1-dictionary": Goal(6.0, 0.85),
    "q1-decimal": Goal(6.0, 0.85),
    "filter-0.1%": Goal(2.0),
    "filter-1%": Goal(2.0),
    "filter-10%": Goal(1.25, 0.9),
    "filter-50%": Goal(1.8),
    "filter-90%": Goal(1.8),
    "text-equal": Goal(2.0),
    "text-equal-long": Goal(2.0),
    "text-equal-dictionary": Goal(2.0),
    "text-equal-long-dictionary": Goal(2.0),
    "text-prefix": Goal(2.0),
    "text-contains": Goal(8.0),
    "group-partkey": Goal(3.0),
    "group-orderkey": Goal(8.0),
    "group-orderkey-shuffled": Goal(3.0),
    "top-100": Goal(4.0),
    "partition-16": Goal(6.0, 0.8),
    "semi-join-1%": Goal(2.0),
    "parquet-q6": Goal(1.8),
    "parquet-filter-1%": Goal(1.4),
    "parquet-1-of-50-row-groups": Goal(2.0),
}

MEAN_RATIO: Final = 3.0
"""The geometric mean of all ratios is at least this."""

LEAST_RATIO: Final = 1.2
"""No workload is below this."""
