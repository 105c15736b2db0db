"""One line of the report: a workload, how long it took, and what it could have taken."""

from __future__ import annotations

from typing import Literal

import msgspec

from wherry.benchmarks.gpu.goals import Limit
from wherry.benchmarks.gpu.lineitem import Lineitem


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; times are medians of rounds, in milliseconds.

    Attributes
    ----------
    answer_ms : float or None
        From asking until the answer is in the host's memory; None if Wherry failed.
    p99_ms : float or None
        Of many rounds alone.
    card_ms : float or None
        What the card computed in that time, by its own clock.
    bytes : int
        What has to be moved at least.
    limit : str
        Which limit that takes.
    limit_ms : float or None
        How long, at the rate that was measured.
    share : float or None
        `limit_ms` over the time that the goal is said of; above 1 where bytes were left out.
    peers : dict of str to float
        Times of others; those of array code leave rows on the card.
    failed : dict of str to str
        Who raised, "wherry" too, with what was said.
    answers : str
        "equal", or how the first answer that is not differs; "none" where nothing is asked.
    same_bits : bool or None
        Whether a second run gave the same answer bit for bit.
    ways : dict of str to int
        Bytes by the way they took to the card.
    goal : str
        In words.
    met : bool or None
        None if nothing was asked.
    """

    workload: str
    scale_factor: float
    rows: int
    answer_ms: float | None = None
    p99_ms: float | None = None
    card_ms: float | None = None
    bytes: int = 0
    limit: Limit = ""
    limit_ms: float | None = None
    share: float | None = None
    peers: dict[str, float] = {}
    failed: dict[str, str] = {}
    answers: str = "none"
    same_bits: bool | None = None
    ways: dict[str, int] = {}
    goal: str = ""
    met: bool | None = None
    rounds: int = 0
    origin: Literal["measured"] = "measured"

    @property
    def right(self) -> bool:
        """Whether no answer differs, and none changes."""
        return self.answers in {"equal", "none"} and self.same_bits is not False


def row_of(workload: str, data: Lineitem, limit: Limit = "", nbytes: float = 0) -> Row:
    """Give the row of a workload over `data` that has to move so many bytes."""
    return Row(
        workload=workload,
        scale_factor=data.scale_factor,
        rows=data.rows,
        limit=limit,
        bytes=round(nbytes),
    )
