"""How work is done on a device: the protocol of drivers, and what they hand back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from wherry.base.units import Time
from wherry.data.decoding import Packed
from wherry.devices.profile import Profile
from wherry.devices.work import Work


class Output(Protocol):
    """What a program made."""

    @property
    def work(self) -> Work:
        """What a core had to do for it."""

    @property
    def nbytes(self) -> int:
        """The bytes of its rows."""

    @property
    def rows_in(self) -> int:
        """How many rows it was given."""

    @property
    def packed(self) -> tuple[Packed, ...]:
        """Of what was decoded, the part that is only compressed."""


Made = TypeVar("Made", bound=Output)


class Execution(Struct, Generic[Made], frozen=True):
    """One run of a program: what it made, and the time of one core, measured or modelled."""

    output: Made
    time: Time


class Driver(Protocol):
    """Runs programs on one device."""

    @property
    def name(self) -> str:
        """The device's name in its system."""

    @property
    def profile(self) -> Profile:
        """What the device is."""

    def execute(self, task: Callable[[], Made], given_bytes: Callable[[], int]) -> Execution[Made]:
        """Do `task`, a program over rows of as many bytes as `given_bytes` counts.

        Raises
        ------
        InputError
            If the device cannot: its memory is too small for what is given and made.
        """
