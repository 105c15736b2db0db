"""Small linear programs: shares of ways under which the busiest resource is least busy.

Minimise goal . x + height z so that busy x <= z, x >= 0, and the shares x add up to one. A plan has
some ways and some hundred resources, which a condensed simplex tableau solves in less time than a
library for large programs takes to be imported (0.4 to 0.8 s of processor time, measured).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ZERO = 1e-11
"""Of numbers scaled to one: what is nearer to nothing is nothing."""

_STEPS = 50
"""Steps a line and column: programs of plans take one or two."""

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def least_busy(busy: Numbers, goal: Numbers, height: float) -> tuple[Numbers, float] | None:
    """Give the shares, and what they come to: goal . x + height max(busy x); or None.

    Parameters
    ----------
    busy : numpy.ndarray of float64, shape (resources, ways)
        None below zero.
    goal : numpy.ndarray of float64, shape (ways,)
    height : float
        Of the busiest resource; not below zero.
    """
    rows = np.unique(busy, axis=0)
    scale = float(rows.max()) or 1.0
    each = max(float(np.abs(goal).max()), height * scale) or 1.0
    shares = _solve(rows / scale, goal / each, height * scale / each)
    if shares is None:
        return None
    shares = np.clip(shares, 0.0, None)
    shares /= shares.sum()
    return shares, float(goal @ shares) + height * float((busy @ shares).max())


def _solve(rows: Numbers, goal: Numbers, height: float) -> Numbers | None:
    """Go from vertex to vertex, downhill, by Bland's rule, which never turns in a circle.

    Exact numbers would not; rounded ones might, so the steps are counted, and None says that.

    The tableau has a line for each basic variable and a column for each other one, and the values
    last. Variables: the shares, then the height, then what each row falls short of it.
    """
    count, ways = rows.shape
    fullest = int(rows[:, 0].argmax())
    # The first way has all at first, and its fullest row touches the height.
    table = np.zeros((count + 2, ways + 1))
    table[:count, : ways - 1] = rows[:, 1:] - rows[:, :1]
    table[:count, ways - 1] = -1.0
    table[:count, -1] = -rows[:, 0]
    table[count, : ways - 1], table[count, -1] = 1.0, 1.0
    table[-1, : ways - 1] = goal[1:] - goal[0]
    table[-1, ways - 1] = height
    basic = [*range(ways + 1, ways + 1 + count), 0]
    others = [*range(1, ways), ways]
    _pivot(table, fullest, ways - 1)
    basic[fullest], others[ways - 1] = others[ways - 1], basic[fullest]
    for _ in range(_STEPS * (count + ways)):
        falling = [n for n in range(ways) if table[-1, n] < -_ZERO]
        if not falling:
            break
        column = min(falling, key=lambda n: others[n])
        climbs = np.flatnonzero(table[:-1, column] > _ZERO)
        # Shares add up to one and no row is below zero, so something always bounds the step.
        steps = table[climbs, -1] / table[climbs, column]
        ties = climbs[steps <= steps.min() + _ZERO]
        line = min(ties.tolist(), key=lambda n: basic[n])
        _pivot(table, line, column)
        basic[line], others[column] = others[column], basic[line]
    else:
        return None
    found = np.zeros(ways)
    for line, variable in enumerate(basic):
        if variable < ways:
            found[variable] = table[line, -1]
    return found


def _pivot(table: Numbers, line: int, column: int) -> None:
    """Exchange the basic variable of a line with the variable of a column."""
    by = table[line, column]
    pivot_line, pivot_column = table[line] / by, table[:, column].copy()
    table -= np.outer(pivot_column, pivot_line)
    table[line] = pivot_line
    table[:, column] = -pivot_column / by
    table[line, column] = 1.0 / by
