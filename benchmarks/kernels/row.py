"""One line of the report: a workload, at one scale factor, with one number of threads."""

from __future__ import annotations

from typing import Literal

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; every time is the median of rounds, in milliseconds.

    Attributes
    ----------
    wherry_ms : float or None
        None where Wherry lacks what the workload asks for; `absent` then says what.
    peers : dict of str to float
        By engine and form.
    cpu_ms : dict of str to float
        Processor time of all threads, of "wherry" and each peer: it hardly feels other processes.
    ratio_to_best : float or None
        The best peer's time over Wherry's.
    limit_ms, limit : float or None, and str
        What the memory allows, and what that is the time of.
    share_of_limit : float or None
        `limit_ms` over Wherry's time.
    goal, goal_share : float, and float or None
        Least `ratio_to_best` and `share_of_limit`.
    met : bool or None
        Whether both are reached.
    answers : str
        "equal", or how the first answer that is not differs.
    failed : dict of str to str
        Forms that raised, by name, with what they said.
    rounds, disturbed_rounds : int
        How many there were, and in how many other processes used the cores.
    """

    workload: str
    threads: int
    scale_factor: float
    wherry_ms: float | None = None
    peers: dict[str, float] = {}
    cpu_ms: dict[str, float] = {}
    best_peer: str | None = None
    ratio_to_best: float | None = None
    limit_ms: float | None = None
    limit: str = ""
    share_of_limit: float | None = None
    goal: float
    goal_share: float | None = None
    met: bool | None = None
    answers: str = "none"
    absent: str | None = None
    failed: dict[str, str] = {}
    rounds: int = 0
    disturbed_rounds: int = 0
    origin: Literal["measured"] = "measured"

    @property
    def equal(self) -> bool:
        """Whether no answer differs."""
        return self.absent is not None or self.answers == "equal"
