"""A pass of a program and what follows it, run over one chunk."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import InputError
from wherry.data.segment import SegmentPool
from wherry.ir.build import rows_held
from wherry.ir.expr import Literal
from wherry.ir.literals import bind
from wherry.ir.stage import Groups, Matches, Pass, Rows, Take
from wherry.ir.work import Costs, Counter
from wherry.render.execute import Run, arrange
from wherry.render.gather import Arrangement, Piece, choose
from wherry.render.passes import PassPlan
from wherry.render.prepare import Preparer
from wherry.render.reference import run_step


class Part(Struct, frozen=True):
    """A pass, or None at the beginning, and the orders and takes that follow it.

    `groups` says that it groups by keys whose rows may wait for others or be joined.
    """

    plan: PassPlan | None
    preparer: Preparer | None
    costs: Costs | None
    after: Arrangement
    groups: bool = False

    @property
    def joins(self) -> bool:
        """Tell whether rows are looked up in a build, one by one."""
        return self.plan is not None and isinstance(self.plan.step.sink, Matches)


class Ran(Struct, frozen=True):
    """What a part made: a piece, the rows that passed, the groups, and why it ran slowly if so."""

    made: Piece
    passed: int
    groups: int = 0
    slowly: tuple[str, ...] = ()


class Making(Struct):
    """A chunk on its way through the parts of a program.

    Attributes
    ----------
    defer : bool
        The last part's rows are not to be written.
    selected : int or None
        Rows that passed the first part's predicate.
    """

    packed: Any
    literals: tuple[Literal, ...]
    pool: SegmentPool
    defer: bool
    selected: int | None = None
    counter: Counter = field(default_factory=Counter)
    fallbacks: tuple[str, ...] = ()

    def run(self, part: Part, given: pa.RecordBatch, rows: int, texts: int, *, last: bool) -> Piece:
        """Give what a part makes of `given`.

        Parameters
        ----------
        rows, texts : int
            The rows that the part's work is counted for, and the bytes of its columns of text.
        """
        defer = self.defer and last
        ran = run_part(part, given, self.literals, self.packed, self.pool, defer=defer)
        made, passed = ran.made, ran.passed
        self.fallbacks += ran.slowly
        self.selected = passed if self.selected is None else self.selected
        if part.costs is not None:
            self.counter.add_pass(part.costs, rows, passed, texts)
            self.counter.add_groups(part.costs, ran.groups)
        if part.plan is not None and isinstance(part.plan.step.sink, Matches):
            build = rows_held(bind(part.plan.step.sink.build, self.literals))
            self.counter.add_matches(build.known, made.num_rows)
        self.counter.add_after(part.after, passed)
        return made


def run_part(
    part: Part,
    batch: pa.RecordBatch,
    literals: Any,
    packed: Any,
    pool: SegmentPool,
    *,
    defer: bool,
) -> Ran:
    """Run a part over `batch`."""
    plan, preparer = part.plan, part.preparer
    if plan is None or preparer is None:
        arranged = choose(batch, part.after) if defer else arrange(batch, part.after, pool)
        return Ran(arranged, batch.num_rows)
    rows = batch.num_rows
    after = part.after
    if (
        plan.predicate is None
        and isinstance(plan.step.sink, Rows)
        and after
        and isinstance(after[0], Take)
    ):
        batch, after = batch.slice(0, after[0].count), after[1:]
    try:
        prepared = preparer.prepare(batch, literals)
    except InputError as problem:
        reason = f"this chunk: the interpreter, for rows that pass: {problem}"
        return _run_slowly(part, batch, literals, reason)
    run = Run(plan, prepared, packed, pool)
    made = run.output(after, defer=defer)
    return Ran(made, rows if plan.predicate is None else run.selected, run.groups)


def _run_slowly(
    part: Part, batch: pa.RecordBatch, literals: tuple[Literal, ...], reason: str
) -> Ran:
    """Run a part whose residual failed on some row: perhaps that row does not even pass.

    The interpreter computes a sink's expressions only for rows that pass, so it raises again
    exactly if there is no answer.
    """
    assert part.plan is not None
    step = bind(part.plan.step, literals)
    counted = Pass(step.predicate, Rows(()))
    selected = run_step(counted, batch).num_rows
    made = run_step(step, batch)
    groups = made.num_rows if isinstance(step.sink, Groups) else 0
    for following in part.after:
        made = run_step(following, made)
    return Ran(made, selected, groups, (reason,))
