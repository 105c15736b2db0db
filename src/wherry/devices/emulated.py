"""The driver of a device that is emulated: the real program runs here, its time is modelled.

Rows and bytes are real. The time of one core follows from the counted work and the profile; how
cores, media, memory and links are shared among chunks is the simulator's part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wherry.base.errors import InputError
from wherry.base.units import Modelled, format_bytes
from wherry.devices.charge import start_ns
from wherry.devices.driver import Execution, Made
from wherry.devices.profile import Profile
from wherry.devices.work import core_ns, load_reference


@dataclass(frozen=True, slots=True)
class EmulatedDriver:
    """Runs programs within the limits of a profile."""

    name: str
    profile: Profile

    def execute(self, task: Callable[[], Made], given_bytes: Callable[[], int]) -> Execution[Made]:
        """Do `task`, refuse what the device's memory could not hold, and model the time."""
        output = task()
        self._check_memory(given_bytes() + output.nbytes)
        core = core_ns(output.work, self.profile, load_reference())
        return Execution(output, Modelled(start_ns(self.profile) + core))

    def _check_memory(self, needed: int) -> None:
        memory = self.profile.memory
        if memory is not None and needed > memory.capacity_bytes.value:
            raise InputError(
                f"{self.name} has {format_bytes(memory.capacity_bytes.value)} of memory; "
                f"a batch and what comes of it need {format_bytes(needed)}"
            )
