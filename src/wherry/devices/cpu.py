"""The driver of a CPU that is really there: programs run on this thread, time is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wherry.base.units import Measured
from wherry.data.segment import SegmentPool
from wherry.devices.driver import Execution, Program
from wherry.devices.profile import Profile


@dataclass(frozen=True, slots=True)
class CpuDriver:
    """Runs programs here and now."""

    name: str
    profile: Profile

    def execute(
        self, program: Program, batch: pa.RecordBatch, literals: Any, pool: SegmentPool
    ) -> Execution:
        """Run `program` and measure this thread's wall time."""
        start = time.perf_counter_ns()
        output = program.run(batch, literals, pool)
        return Execution(output, Measured(time.perf_counter_ns() - start))
