"""The time that the whole may take, and what was left out to keep it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Seconds that begin to run when it is made.

    Attributes
    ----------
    dropped : list of str
        What was left out or made smaller, and why.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self.seconds = seconds
        self.dropped: list[str] = []

    @property
    def used(self) -> float:
        """Give the seconds since the beginning."""
        return self._clock() - self._begun

    @property
    def left(self) -> float:
        """Give the seconds that are left; negative once they are spent."""
        return self.seconds - self.used

    def affords(self, what: str, seconds: float) -> bool:
        """Say whether `what` still fits; if not, it is noted as dropped."""
        if seconds <= self.left:
            return True
        self.dropped.append(
            f"{what}: it takes about {seconds:.0f} s, and {max(0.0, self.left):.0f} are left"
        )
        return False
