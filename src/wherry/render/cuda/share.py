"""A pass over the rows that one device has of a source, in as many pieces as they come.

Rows come in runs: consecutive ones, each behind the last. A run is cut into pieces that are whole
spans of SPAN rows, but for its last. Partial states are of spans, and are folded once: so an answer
is the same bit for bit however runs are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from wherry.base.errors import Refused, WherryError
from wherry.devices.accelerator import Block
from wherry.ir.expr import Column, Literal
from wherry.ir.stage import Groups, Totals
from wherry.render.cuda.bind import Bound, Constants, Given, Piece, bound_to
from wherry.render.cuda.columns import ColumnFacts, DeviceColumn
from wherry.render.cuda.filter import FilterProgram, FilterWork, render_filter
from wherry.render.cuda.groups import (
    GroupsProgram,
    GroupsWork,
    dictionary_sizes,
    domain_numbers,
    domains_of,
    fits_on_chip,
    most_groups,
    render_groups,
)
from wherry.render.cuda.hashed import HashedProgram, HashedWork, render_hashed
from wherry.render.cuda.program import CudaPass
from wherry.render.cuda.top import TopProgram, TopWork, render_top
from wherry.render.cuda.totals import SPAN, TotalsProgram, TotalsWork, render_totals, spans_of

Rendered = TotalsProgram | GroupsProgram | HashedProgram | FilterProgram | TopProgram


M = TypeVar("M")


class Work(Protocol[M]):
    """What is done with pieces, by what a pass gives its rows to.

    `selected` is how many rows passed, once it is finished.
    """

    selected: int

    def add(self, piece: Piece) -> None:
        """Queue a piece."""

    def finish(self) -> list[M]:
        """Give what came of all pieces."""


class Share(Generic[M]):
    """A pass under way on a device; `begin` makes one that gives batches of the host."""

    def __init__(
        self, bound: Bound, work: Work[M], facts: Mapping[str, ColumnFacts], runs: Sequence[int]
    ) -> None:
        self._bound, self._work, self._facts = bound, work, facts
        self._left = [rows for rows in runs if rows]
        self._left.reverse()
        self._added = 0
        self._ones: Block | None = None

    @property
    def uses(self) -> dict[str, frozenset[str]]:
        """Give what the program reads of which columns, as `put_column` has it."""
        return self._bound.layout.read

    @property
    def selected(self) -> int:
        """Give how many rows passed, once it is finished."""
        return self._work.selected

    def add(self, columns: Mapping[str, DeviceColumn], rows: int) -> None:
        """Queue the next `rows` rows; `columns` has those that the program reads.

        Of totals and groups of known keys nothing is waited for; of rows and other groups all is
        done when this returns. Columns may be let go of then: a device uses memory anew only for
        what it is asked for later.

        Raises
        ------
        WherryError
            If the rows are no whole spans and do not end a run, are more than are left of it, or a
            column is not what the share was begun for, or lacks what the program reads of it.
        InputError, CorruptError
            As `finish` does.
        """
        left = self._left[-1] if self._left else 0
        if rows > left or (rows != left and rows % SPAN):
            text = f"a piece of {rows} rows, of a run that has {left} left"
            raise WherryError(f"{text}; all but the last are a multiple of {SPAN}")
        for name, uses in self.uses.items():
            _check(name, columns[name], uses, self._facts[name], rows)
        piece = self._bound.piece(columns, rows, self._added, lambda: self._all_valid(rows))
        self._work.add(piece)
        self._added += rows
        if rows == left:
            del self._left[-1:]
        else:
            self._left[-1] -= rows

    def _all_valid(self, rows: int) -> int:
        """Give the address of bits that are all 1, for as many rows."""
        nbytes = max(-(-rows // 8), 1)
        if self._ones is None or self._ones.nbytes < nbytes:
            self._ones = self._bound.device.put(np.full(nbytes, 255, np.uint8))
        return self._ones.address

    def finish(self) -> list[M]:
        """Give what came of all rows, once it has left the device.

        Totals and groups of known keys give one batch, rows and other groups one of each piece;
        groups come in order of their first rows, rows in key order if only the first are wanted.

        Raises
        ------
        WherryError
            If there are rows that were not added.
        CorruptError
            If a key is not within what bounds it.
        InputError
            If a sum of decimals needs more than 38 digits.
        """
        if self._left:
            raise WherryError(f"{sum(self._left)} rows of a share were not added")
        return self._work.finish()


def _check(
    name: str, column: DeviceColumn, uses: frozenset[str], facts: ColumnFacts, rows: int
) -> None:
    """See that a column is what programs take for granted."""
    if column.rows != rows:
        raise WherryError(f"column {name!r} has {column.rows} rows in a piece of {rows}")
    if column.nulls and not facts.nulls:
        raise WherryError(f"column {name!r} has nulls in a share that was begun without")
    texts, known = column.dictionary, facts.dictionary
    if texts is known or "values" not in uses:
        return
    if texts is None or known is None or not texts.equals(known[: len(texts)]):
        raise WherryError(f"column {name!r} has a dictionary that is not the share's")


def begin(
    plan: CudaPass,
    facts: Mapping[str, ColumnFacts],
    literals: tuple[Literal, ...],
    constants: Constants,
    runs: Sequence[int],
) -> Share[pa.RecordBatch]:
    """Give a pass over rows of one device, ready for the first piece.

    It is ready sooner for a plan and literals that are the same objects as before.

    Parameters
    ----------
    facts : dict
        Of each of `plan.columns`: what is so in all pieces.
    literals : tuple of Literal
        The values of the pass's parameters.
    constants : Constants
        Of the device.
    runs : sequence of int
        How many rows each run has.

    Raises
    ------
    Refused
        If the program needs more arguments than there are, or groups that do not fit on chip cannot
        be hashed.
    """
    made, bound = ready(plan, facts, literals, constants)
    return Share(bound, _work(made, plan, bound, runs), facts, runs)


def ready(
    plan: CudaPass,
    facts: Mapping[str, ColumnFacts],
    literals: tuple[Literal, ...],
    constants: Constants,
) -> tuple[Rendered, Bound]:
    """Give the program of a pass, and the same with its constants on the device, as `begin` does.

    Raises
    ------
    Refused
        As `begin` does.
    """
    of = [facts[name] for name in plan.order]
    key = (id(plan), id(literals), tuple([(fact.nulls, id(fact.dictionary)) for fact in of]))

    def make() -> tuple[Rendered, Bound]:
        made = rendered_for(plan, facts, constants.device.shared_bytes)
        numbers = domain_numbers(made.domains) if isinstance(made, GroupsProgram) else {}
        given = Given(literals, _dictionaries(plan, facts), numbers)
        return made, bound_to(plan, made.program, given, constants)

    return constants.kept(key, (plan, literals, of), make)


def _work(
    made: Rendered, plan: CudaPass, bound: Bound, runs: Sequence[int]
) -> Work[pa.RecordBatch]:
    if isinstance(made, FilterProgram):
        return FilterWork(made, plan)
    if isinstance(made, TopProgram):
        return TopWork(made, plan, bound)
    if isinstance(made, HashedProgram):
        return HashedWork(made, plan, bound)
    spans = spans_of(runs)
    if isinstance(made, GroupsProgram):
        return GroupsWork(made, plan, bound, spans)
    return TotalsWork(made, plan, bound, spans)


def refuse_share(
    plan: CudaPass, nullable: frozenset[str], distinct: Mapping[str, int], shared_bytes: int
) -> tuple[str, ...]:
    """Give why there is no program for such columns, as far as that is known before they are read.

    Parameters
    ----------
    nullable : frozenset of str
        Columns that may have nulls.
    distinct : mapping
        Of dictionary columns how many values they have; one is supposed where that is not known.
    shared_bytes : int
        As `render` takes it.
    """
    sink = plan.step.sink
    keys = plan.roots[: len(sink.keys)] if isinstance(sink, Groups) else ()
    coded = [n.name for n in keys if isinstance(n, Column) and pa.types.is_dictionary(n.type)]
    try:
        render(plan, nullable, {name: distinct.get(name, 1) for name in coded}, shared_bytes)
    except Refused as refused:
        return refused.reasons or (refused.message,)
    return ()


def rendered_for(plan: CudaPass, facts: Mapping[str, ColumnFacts], shared_bytes: int) -> Rendered:
    """Give the program of a pass over columns of which that is so.

    Raises
    ------
    Refused
        As `begin` does.
    """
    nullable = frozenset(name for name in plan.columns if facts[name].nulls)
    grouped = isinstance(plan.step.sink, Groups)
    sizes = dictionary_sizes(plan, _dictionaries(plan, facts)) if grouped else {}
    return render(plan, nullable, sizes, shared_bytes)


def _dictionaries(plan: CudaPass, facts: Mapping[str, ColumnFacts]) -> dict[str, pa.Array]:
    return {n: d for n in plan.order if (d := facts[n].dictionary) is not None}


def render(
    plan: CudaPass, nullable: frozenset[str], sizes: Mapping[str, int], shared_bytes: int
) -> Rendered:
    """Give the program of a pass over pieces of one kind; each is made once for a plan.

    Parameters
    ----------
    nullable : frozenset of str
        The columns with nulls.
    sizes : dict
        By column: how many entries the dictionary of a key has.
    shared_bytes : int
        Memory on chip that a block of the device may have.

    Raises
    ------
    Refused
        As `begin` does.
    """
    key = (nullable & plan.columns, shared_bytes, *sorted(sizes.items()))
    if key not in plan.rendered:
        plan.rendered[key] = _rendered(plan, nullable, dict(sizes), shared_bytes)
    made: Rendered = plan.rendered[key]
    return made


def _rendered(
    plan: CudaPass, nullable: frozenset[str], sizes: dict[str, int], shared_bytes: int
) -> Rendered:
    variant = plan.variant(nullable)
    match plan.step.sink:
        case Totals():
            return render_totals(plan, variant)
        case Groups():
            if not fits_on_chip(plan, variant, sizes, shared_bytes):
                return render_hashed(plan, variant, most_groups(plan, variant, sizes))
            return render_groups(plan, variant, domains_of(plan, variant, sizes), shared_bytes)
    if plan.top is not None:
        return render_top(plan, plan.top, variant, shared_bytes)
    return render_filter(plan, variant)
