"""Watch what passes while a query runs, and tell when it is not what was planned with.

Chunks are looked at in rounds of a few. What passes in a round is an interval; if that has nothing
in common with any share that was considered before, it is worth thinking again. What was thought
about is considered from then on, so that no round makes anybody think twice of the same share.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

LEAST_ROUND: Final = 4
"""Chunks of a round at least: of fewer nobody could tell how much they differ."""
ROUNDS: Final = 16
"""Rounds of a run at most. More would see changes sooner, and take fewer chunks for granted."""
SWITCHES: Final = 2
"""Changes of a run at most. Data that change more often cost at most what these do."""
_Z: Final = 3.0
"""Half-width of an interval in standard errors: 95 of 100 draws of four (Student's t: 3.2)."""


class Seen(Struct, frozen=True):
    """What made it worth thinking again.

    Attributes
    ----------
    chunks, rows_in, rows_out : int
        All that was seen until then: rows given to the operators that work chunk by chunk, and
        what they made.
    low, share, high : float
        Of the rows of the last round, how many came out: the interval and its middle.
    mean : float
        Of all rows since the last switch.
    planned_low, planned_high : float
        The shares considered until then.
    """

    chunks: int
    rows_in: int
    rows_out: int
    low: float
    share: float
    high: float
    mean: float
    planned_low: float
    planned_high: float


class Watch(Struct, frozen=True):
    """What was planned with, and what was seen since; a value that `saw` and `decided` follow.

    Attributes
    ----------
    low, high : float
        The shares of rows considered.
    round : int
        Chunks, or shares of them, of a round.
    selects : bool
        Whether the first program does more than the operators that work chunk by chunk, so that
        what came out of those is what its first predicate selected.
    switches : int
        Changes that may still be made.
    chunks, rows_in, rows_out : int
        Seen in all.
    since : tuple of int
        Rows given and made since the last switch.
    pairs : tuple of (int, int)
        Rows given and made of each chunk of the round.
    """

    low: float
    high: float
    round: int = LEAST_ROUND
    selects: bool = False
    switches: int = SWITCHES
    chunks: int = 0
    rows_in: int = 0
    rows_out: int = 0
    since: tuple[int, int] = (0, 0)
    pairs: tuple[tuple[int, int], ...] = ()


def saw(
    watch: Watch, rows_in: int, rows_out: int, *, late: bool = False
) -> tuple[Watch, Seen | None]:
    """Give the watch once a chunk is through, and what is worth thinking about, if anything is.

    Chunks without rows tell nothing.

    Parameters
    ----------
    late : bool
        Whether the chunk was begun before the last switch: it is one of those that led there, and
        belongs to no round any more.
    """
    if not rows_in or not watch.switches:
        return watch, None
    if late:
        total = watch.rows_in + rows_in, watch.rows_out + rows_out
        return replace(watch, chunks=watch.chunks + 1, rows_in=total[0], rows_out=total[1]), None
    pairs = (*watch.pairs, (rows_in, rows_out))
    after = replace(
        watch,
        chunks=watch.chunks + 1,
        rows_in=watch.rows_in + rows_in,
        rows_out=watch.rows_out + rows_out,
        since=(watch.since[0] + rows_in, watch.since[1] + rows_out),
        pairs=pairs if len(pairs) < watch.round else (),
    )
    if after.pairs:
        return after, None
    low, share, high = interval(pairs)
    if low <= watch.high and high >= watch.low:
        return after, None
    mean = after.since[1] / after.since[0]
    seen = Seen(
        after.chunks, after.rows_in, after.rows_out, low, share, high, mean, watch.low, watch.high
    )
    return after, seen


def decided(watch: Watch, seen: Seen, *, switched: bool) -> Watch:
    """Give the watch once `seen` was thought about.

    Who stays has considered these shares too. Who switched planned with what was seen, and has
    nothing else to compare with.
    """
    if switched:
        return replace(
            watch, low=seen.low, high=seen.high, switches=watch.switches - 1, since=(0, 0), pairs=()
        )
    return replace(watch, low=min(watch.low, seen.low), high=max(watch.high, seen.high), pairs=())


def round_of(chunks: int) -> int:
    """Give the chunks of a round of a query that reads so many.

    >>> round_of(36), round_of(640)
    (4, 40)
    """
    return max(LEAST_ROUND, -(-chunks // ROUNDS))


def interval(pairs: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
    """Give the share of rows that came out, in the middle of its interval.

    A ratio of means over chunks, as many of them as there are; its standard error is by how much
    chunks differ from it (Cochran, Sampling Techniques, 6.3).
    """
    count, given = len(pairs), sum(rows for rows, _ in pairs)
    share = sum(made for _, made in pairs) / given
    squares = sum((made - share * rows) ** 2 for rows, made in pairs)
    half = _Z * sqrt(squares * count / max(1, count - 1)) / given
    # Where no row makes several, no more come out than went in.
    most = 1.0 if all(made <= rows for rows, made in pairs) else share + half
    return max(0.0, share - half), share, min(share + half, most)
