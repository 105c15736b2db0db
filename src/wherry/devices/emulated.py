"""The driver of a device that is emulated: the real program runs here, its time is modelled.

Rows and bytes are real. The time of a core, and of engines beside it, follows from the counted work
and the profile; how cores, media, memory and links are shared among chunks is the simulator's part.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.base.units import Modelled, format_bytes
from wherry.devices.demand import demand
from wherry.devices.driver import Execution, Made
from wherry.devices.profile import Profile


class EmulatedDriver(Struct, frozen=True):
    """Runs programs within the limits of a profile."""

    name: str
    profile: Profile

    def execute(self, task: Callable[[], Made], given_bytes: Callable[[], int]) -> Execution[Made]:
        """Do `task`, refuse what the device's memory could not hold, and model the time."""
        output = task()
        self._check_memory(given_bytes() + output.nbytes)
        asked = demand(self.profile, output.work, rows=output.rows_in, packed=output.packed)
        return Execution(output, Modelled(asked.core_ns + asked.waiting_ns))

    def _check_memory(self, needed: int) -> None:
        memory = self.profile.memory
        if memory is None or memory.beyond_gb_per_s is not None:
            return
        if needed > memory.capacity_bytes.value:
            raise InputError(
                f"{self.name} has {format_bytes(memory.capacity_bytes.value)} of memory; "
                f"a batch and what comes of it need {format_bytes(needed)}"
            )
