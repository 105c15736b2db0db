"""How a program is run on a device: the protocol of drivers, and what they hand back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from wherry.base.units import Time
from wherry.data.segment import SegmentPool
from wherry.devices.profile import Profile
from wherry.devices.work import Work


class Output(Protocol):
    """What a program made of a chunk."""

    @property
    def batch(self) -> pa.RecordBatch:
        """The rows that came out."""

    @property
    def work(self) -> Work:
        """What a core had to do for them."""


class Program(Protocol):
    """Something that can be run over a batch, from several threads at once."""

    def run(self, batch: pa.RecordBatch, literals: Any, pool: SegmentPool) -> Output:
        """Run over one batch; new buffers are cut from `pool`."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a program: what it made, and the time of one core, measured or modelled."""

    output: Any
    time: Time


class Driver(Protocol):
    """Runs programs on one device.

    Attributes
    ----------
    name : str
        The device's name in its system.
    profile : Profile
        What the device is.
    """

    @property
    def name(self) -> str:
        """The device's name."""

    @property
    def profile(self) -> Profile:
        """What the device is."""

    def execute(
        self, program: Program, batch: pa.RecordBatch, literals: Any, pool: SegmentPool
    ) -> Execution:
        """Run `program` over `batch`.

        Raises
        ------
        InputError
            If the device cannot: its memory is too small for the batch and what comes of it.
        """
