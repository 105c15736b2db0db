"""A plan where it runs: verified once, and everything that follows from it kept beside it."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import CorruptError
from wherry.base.ids import digest
from wherry.ir.codec import decode
from wherry.ir.expr import Column, Literal
from wherry.ir.literals import parameters
from wherry.ir.stage import Pass, Rows, Stage, Step
from wherry.plan.query import Plan, segment_schemas
from wherry.plan.segments import stage_of
from wherry.plan.verify import BYTES_MOST, Facts, verified
from wherry.render.cuda.stage import CudaStage, plan_stage
from wherry.render.intervals import Bounds
from wherry.render.program import Program, render


class Installed(Struct, frozen=True):
    """A plan with everything that follows from it, made when it is first needed.

    Attributes
    ----------
    facts : Facts
        What was found out when it was verified.
    """

    digest: bytes
    plan: Plan
    facts: Facts
    literals: dict[str, tuple[Literal, ...]] = field(default_factory=dict)
    programs: dict[tuple[int, int], Program] = field(default_factory=dict)
    on_cards: dict[tuple[int, int], CudaStage] = field(default_factory=dict)
    _read: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def read(self, first: int, last: int) -> frozenset[int]:
        """Give which parameters the segments first..last read."""
        if (first, last) not in self._read:
            here = parameters(self.plan.segments[first : last + 1])
            self._read[first, last] = frozenset(parameter.index for parameter in here)
        return self._read[first, last]

    def runs_something(self, first: int, last: int) -> bool:
        """Tell whether the segments first..last compute anything."""
        return any(segment.steps for segment in self.plan.segments[first : last + 1])

    def place(self, segment: int) -> int:
        """Give how many segments compute something before one: rows that go in are alike by it."""
        return sum(bool(each.steps) for each in self.plan.segments[:segment])


@lru_cache(maxsize=256)
def installed(plan_bytes: bytes) -> Installed:
    """Give the plan that bytes hold; whoever wrote them, programs may be made of it.

    Raises
    ------
    CorruptError
        If they hold none, or one that the planner could not have made.
    Refused
        If it calls a function that this process does not know.
    """
    if len(plan_bytes) > BYTES_MOST:
        raise CorruptError(f"a plan of {len(plan_bytes)} bytes; possible: {BYTES_MOST}")
    plan = decode(plan_bytes)
    if not isinstance(plan, Plan):
        raise CorruptError(f"{len(plan_bytes)} bytes encode a {type(plan).__name__}, no plan")
    return Installed(digest(plan_bytes), plan, verified(plan))


def program_of(plan: Plan, first: int, last: int) -> Program:
    """Give the program of the segments first..last of a plan.

    Bounds speak of stored columns, so only the first segment that computes may use them.
    """
    begins = next(i for i, segment in enumerate(plan.segments) if segment.steps)
    return render(*_given(plan, first, last), plan.bounds_map() if first == begins else {})


def on_card(plan: Plan, first: int, last: int) -> CudaStage:
    """Give the segments first..last of a plan as a device with memory of its own runs them.

    Without bounds there is no room on chip for groups, so columns that are passed on keep theirs.

    Raises
    ------
    Refused
        If it cannot run them; with every reason.
    """
    bounds = plan.bounds_map()
    for step in (step for segment in plan.segments[:first] for step in segment.steps):
        bounds = _passed_on(step, bounds)
    return plan_stage(*_given(plan, first, last), bounds)


def _passed_on(step: Step, bounds: Bounds) -> Bounds:
    """Give the bounds that are true of what comes out of a step."""
    if not isinstance(step, Pass):
        return bounds
    outputs = step.sink.outputs if isinstance(step.sink, Rows) else ()
    return {
        name: bounds[node.name]
        for name, node in outputs
        if isinstance(node, Column) and node.name in bounds
    }


def _given(plan: Plan, first: int, last: int) -> tuple[Stage, pa.Schema]:
    return stage_of(plan.segments[first : last + 1]), segment_schemas(plan)[first]
