"""The groups of a share: those of all chunks in one call for each thread where they are few.

Each chunk is grouped by itself, so that what comes out does not depend on threads; the groups of
neighbouring chunks become one batch. A chunk with more groups goes on by itself from where it
stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.segment import SegmentPool
from wherry.ir.expr import Literal
from wherry.render.execute import Run
from wherry.render.few import Few, find_few
from wherry.render.gather import Piece
from wherry.render.grouped import Start, Task
from wherry.render.passes import PassPlan
from wherry.render.prepare import Prepared
from wherry.render.share import Array, Bound
from wherry.render.team import Team, each

_TOGETHER: Final = 1024
"""Chunks whose groups are held before they become columns: a few MB."""


class Made(Struct, frozen=True):
    """What became of the chunks `first` to `last` - 1, and how many of their rows passed.

    `most` is how many groups one of them has at most; 0 if rows were dealt instead.
    """

    first: int
    last: int
    rows: Piece
    selected: int
    most: int


class Grouping(Struct, frozen=True):
    """A pass that groups, over chunks that are bound together.

    Parameters
    ----------
    packed : numpy.ndarray
        The literals as `pack_literals` gave them.
    deals : bool
        Whether rows may be dealt instead if they hardly share keys.
    """

    plan: PassPlan
    bound: Bound
    literals: tuple[Literal, ...]
    packed: Array
    pool: SegmentPool
    deals: bool

    def run(self, team: Team) -> list[Made]:
        """Give the groups of the chunks, in their order.

        Raises
        ------
        InputError
            If an aggregate has too many digits.
        """
        bound, found = self.bound, list[Made]()
        table, _contexts = bound.table(self.packed, np.zeros(len(bound.rows), np.int64))
        for first in range(0, len(table), _TOGETHER):
            part = table[first : first + _TOGETHER]
            few = find_few(bound.code, part, team)
            done = few.progress[:, 0] == part[:, 1] + (part[:, 3] > 0)
            stretches = _stretches(done, bound.texts_of[first : first + _TOGETHER])
            found += sorted(
                self._rest(few, first, np.flatnonzero(~done).tolist(), team)
                + [self._together(few, first, low, high) for low, high in stretches],
                key=lambda made: made.first,
            )
        return found

    def _run(self, chunk: int, start: Start | None = None) -> tuple[Prepared, Run]:
        prepared = replace(self.bound.ready[chunk], literals=self.literals)
        return prepared, Run(self.plan, prepared, self.packed, self.pool, start)

    def _together(self, few: Few, first: int, low: int, high: int) -> Made:
        prepared, run = self._run(first + low)
        task = Task(self.plan, prepared, self.bound.code, (0, 0), self.bound.forms, self.bound)
        groups = few.together(task, slice(low, high))
        batch = self.plan.batch_of(run.columns(groups))
        most = int(few.progress[low:high, 1].max())
        return Made(first + low, first + high, batch, groups.selected, most)

    def _rest(self, few: Few, first: int, left: list[int], team: Team) -> list[Made]:
        """Give the groups of chunks that have more, each of which goes on by itself."""

        def one(number: int) -> Made:
            chunk = left[number]
            _, run = self._run(first + chunk, few.start(chunk))
            rows = run.output((), defer=self.deals)
            return Made(first + chunk, first + chunk + 1, rows, run.selected, run.groups)

        return each(team, len(left), one)


def _stretches(done: Array, texts: Array) -> Iterator[tuple[int, int]]:
    """Give where chunks that are done and whose keys have the same texts begin and end."""
    marks = np.where(done, texts, -1)
    edges = [0, *(np.flatnonzero(np.diff(marks)) + 1).tolist(), len(marks)]
    yield from ((low, high) for low, high in pairwise(edges) if marks[low] >= 0)
