"""The driver of a device that is really there: its programs are run from here, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from wherry.base.units import Measured
from wherry.devices.driver import Execution, Made
from wherry.devices.profile import Profile


class HereDriver(Struct, frozen=True):
    """Runs programs here and now: on this thread, or on a device that it waits for."""

    name: str
    profile: Profile

    def execute(
        self,
        task: Callable[[], Made],
        given_bytes: Callable[[], int],  # noqa: ARG002
    ) -> Execution[Made]:
        """Do `task` and measure this thread's wall time."""
        start = time.perf_counter_ns()
        output = task()
        return Execution(output, Measured(time.perf_counter_ns() - start))
