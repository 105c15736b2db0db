"""A pass over rows that are read as it goes: first what tells which rows are wanted, then the rest.

Terms of the predicate that look at one column alone are answered by the column's dictionary where
all its rows refer to one: the reference computes them once for each value. What is left is tested
by block functions, over the rows that are still wanted. The sink runs over rows that passed.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field

from wherry.data.chunk import column_bytes
from wherry.data.late import LateRows, ValueTest, count, narrowed
from wherry.data.late import Rows as Kept
from wherry.data.segment import SegmentPool
from wherry.data.types import value_type
from wherry.ir.expr import Code, Column, Literal, Member, Node, all_of, conjuncts, walk
from wherry.ir.literals import bind
from wherry.ir.reference import evaluate
from wherry.ir.stage import Pass, Rows, Stage, input_columns
from wherry.ir.work import costs_of
from wherry.kernels.layout import BLOCK
from wherry.kernels.skeletons import skeletons
from wherry.render.bind import LITERALS, bind_slots
from wherry.render.intervals import Bounds
from wherry.render.output import Selection, keep_rows
from wherry.render.passes import PassPlan, plan_pass
from wherry.render.prepare import Preparer

_filter = skeletons("filter")
_NOTHING = Rows(())
_Numbers = tuple[int, ...]
"""Terms of a predicate, by number."""


class Chosen(Struct, frozen=True):
    """What is left to do of a pass once its rows are read.

    Attributes
    ----------
    plan, preparer
        Of a pass over `batch`: its sink, and what of the predicate no column was read for.
    batch : pyarrow.RecordBatch
        The rows still wanted.
    read : pyarrow.RecordBatch
        Those of its columns that lie where they were read.
    texts : int
        Bytes that were read of columns of text named by `LatePass.texts`.
    """

    plan: PassPlan
    preparer: Preparer
    batch: pa.RecordBatch
    read: pa.RecordBatch
    texts: int


class Residual(Exception):
    """A term would have to be computed for rows that are not read; then all are to be."""


class LatePass:
    """A pass with a predicate, for rows that are read as it goes; any thread may use it.

    Parameters
    ----------
    step : Pass
        Lifted.
    schema : pyarrow.Schema
        Of the rows that come in.
    texts : tuple of str
        The columns whose bytes are to be counted.
    """

    def __init__(
        self, step: Pass, schema: pa.Schema, bounds: Bounds, folder: Path, texts: tuple[str, ...]
    ) -> None:
        assert step.predicate is not None
        self.texts, self.schema = texts, schema
        self._sink, self._bounds, self._folder = step.sink, bounds, folder
        self._needs = frozenset(input_columns(Pass(None, step.sink)))
        self._plans: dict[tuple[_Numbers, bool], tuple[PassPlan, Preparer]] = {}
        self._lock = threading.Lock()
        self._tests: tuple[npt.NDArray[np.uint8], tuple[ValueTest, ...]] | None = None
        self._nulls: tuple[tuple[Literal, ...], dict[str, bool]] | None = None
        self._terms = conjuncts(step.predicate)
        self._columns = [_columns(term) for term in self._terms]
        self._residual = {
            number
            for number in range(len(self._terms))
            if self._plan((number,), mask=True)[0].residuals
        }
        self._groups: dict[str | None, list[int]] = {}
        for number, names in enumerate(self._columns):
            # What is looked up in a build is not computed by its meaning, which takes too long.
            builds = any(isinstance(n, Member | Code) for n in walk(self._terms[number]))
            name = names[0] if len(names) == 1 and not builds else None
            self._groups.setdefault(name, []).append(number)

    def choose(
        self,
        rows: LateRows,
        literals: tuple[Literal, ...],
        packed: npt.NDArray[np.uint8],
        pool: SegmentPool,
    ) -> Chosen:
        """Read what tells the rows that pass, and then those rows' other columns.

        Raises
        ------
        Residual
            If a term would have to be computed through pyarrow: it may fail on rows that others
            exclude, and must then fail.
        InputError
            If a term has no value for some value of a dictionary, which perhaps no row has.
        CorruptError
            If what is stored cannot be decoded.
        """
        stored = count(rows.first, rows.stored_rows)
        run = _Reading(self, rows, literals, packed, pool, rows.first, stored)
        fused = self._test(run, self._by_value(run))
        plan, preparer = self._plan(fused, mask=False)
        batch = run.batch(plan.schema)
        read = [name for name in plan.schema.names if name not in run.moved]
        return Chosen(plan, preparer, batch, batch.select(read), run.texts)

    def _by_value(self, run: _Reading) -> list[int]:
        """Narrow the rows by what dictionaries answer; give the other terms."""
        left: list[int] = []
        found: list[tuple[float, str, npt.NDArray[np.bool_]]] = []
        native = self._native(run)
        dead = native is not None and not run.count
        for name, terms in self._groups.items():
            if native is not None and name in native:
                continue
            if dead and self._residual.isdisjoint(terms):
                continue
            passing = None if name is None else self._passing(run, name, terms)
            if passing is None or name is None:
                left += terms
            else:
                few = int(np.count_nonzero(passing))
                dead = dead or not few
                if few < len(passing) or run.rows.has_nulls(name):
                    found.append((few / max(1, len(passing)), name, passing))
        if not self._residual.isdisjoint(left):
            raise Residual
        if dead:
            run.keep(np.zeros(run.rows.stored_rows // BLOCK + 2, np.uint64), 0)
            return []
        for _, name, passing in sorted(found, key=lambda item: item[0]):
            if run.count:
                kept = run.rows.matching(name, passing, run.kept)
                run.keep(kept, count(kept, run.rows.stored_rows))
        return sorted(left)

    def _native(self, run: _Reading) -> frozenset[str] | None:
        """Narrow the rows by what skeletons answer alone; give the columns they did that for."""
        tests = self._value_tests(run)
        chosen = [test for test in tests if run.rows.testable(test.name)]
        if not chosen:
            return None
        found = run.rows.choose(chosen, run.kept)
        if found is None:
            return None
        kept, rows = found
        if kept is not None:
            run.keep(kept, rows)
        return frozenset(test.name for test in chosen)

    def _value_tests(self, run: _Reading) -> tuple[ValueTest, ...]:
        """Give the terms that one column's values answer without more than a block function."""
        kept = self._tests
        if kept is None or kept[0] is not run.packed:
            null = self._null_passes(run.literals)
            found = []
            for name, terms in self._groups.items():
                if name is not None and not null[name] and self._residual.isdisjoint(terms):
                    found += self._value_test(name, tuple(terms), run.packed)
            kept = self._tests = run.packed, tuple(found)
        return kept[1]

    def _value_test(
        self, name: str, terms: _Numbers, packed: npt.NDArray[np.uint8]
    ) -> list[ValueTest]:
        plan, _ = self._plan(terms, mask=True)
        if plan.residuals or plan.lookups or plan.encoded or plan.fields:
            return []
        code = plan.compiled(frozenset())
        if not all(slot in {LITERALS, ("values", name)} for slot in code.slots):
            return []
        literals = packed.ctypes.data
        context = array("q", [literals if slot == LITERALS else 0 for slot in code.slots])
        places = tuple(n for n, slot in enumerate(code.slots) if slot != LITERALS)
        return [ValueTest(name, code.addresses["mask"], context, places)]

    def _passing(self, run: _Reading, name: str, terms: list[int]) -> npt.NDArray[np.bool_] | None:
        """Tell which values of a column satisfy the terms; None if that has to be told by row.

        A null that passes is one reason: no dictionary holds it.
        """
        if self._null_passes(run.literals)[name]:
            return None
        values = run.rows.values(name)
        if values is None:
            return None
        plan, preparer = self._plan(tuple(terms), mask=True)
        if plan.residuals or plan.lookups:
            return self._evaluated(name, terms, values, run.literals)
        batch = pa.RecordBatch.from_arrays([values], schema=plan.schema)
        words, _ = run.passed(plan, preparer, batch)
        return np.unpackbits(words.view(np.uint8), count=len(values), bitorder="little").view(bool)

    def _evaluated(
        self, name: str, terms: Sequence[int], values: pa.Array, literals: tuple[Literal, ...]
    ) -> npt.NDArray[np.bool_]:
        """Tell which values of a column satisfy the terms, by what these mean."""
        t = self.schema.field(name).type
        if pa.types.is_dictionary(t):
            codes = pa.array(range(len(values)), pa.int32())
            values = pa.DictionaryArray.from_arrays(codes, values, ordered=t.ordered)
        batch = pa.RecordBatch.from_arrays([values], names=[name])
        found = np.ones(len(values), np.bool_)
        for number in terms:
            term = bind(self._terms[number], literals)
            found &= np.asarray(evaluate(term, batch).fill_null(False))
        return found

    def _null_passes(self, literals: tuple[Literal, ...]) -> dict[str, bool]:
        """Tell by column whether a null satisfies all the terms that read only that column."""
        kept = self._nulls
        if kept is None or kept[0] is not literals:
            found = {}
            for name, terms in self._groups.items():
                if name is not None:
                    nothing = pa.nulls(1, value_type(self.schema.field(name).type))
                    found[name] = bool(self._evaluated(name, terms, nothing, literals).all())
            kept = self._nulls = literals, found
        return kept[1]

    def _test(self, run: _Reading, terms: list[int]) -> _Numbers:
        """Narrow the rows by `terms`; give the last ones if the sink reads nothing more than they.

        Those are left to the sink's own pass.
        """
        stages = self._stages(terms)
        for place, (numbers, names) in enumerate(stages):
            if not run.count:
                break
            for name in names:
                run.column(name)
            if place == len(stages) - 1 and self._needs <= run.held.keys():
                return numbers
            later = {name for _, others in stages[place + 1 :] for name in others}
            run.test(*self._plan(numbers, mask=True), self._needs | later)
        return ()

    def _stages(self, terms: list[int]) -> list[tuple[_Numbers, frozenset[str]]]:
        """Give terms in order with what they read, those that read nothing new joined."""
        found: list[tuple[_Numbers, frozenset[str]]] = []
        seen: set[str] = set()
        for number in terms:
            names = frozenset(self._columns[number])
            if found and seen >= names:
                found[-1] = (*found[-1][0], number), found[-1][1] | names
            else:
                found.append(((number,), names))
            seen |= names
        return found

    def _plan(self, numbers: _Numbers, *, mask: bool) -> tuple[PassPlan, Preparer]:
        """Give the pass that tests terms and does nothing (`mask`), or gives rows to the sink."""
        found = self._plans.get((numbers, mask))
        if found is not None:
            return found
        predicate = all_of(tuple(self._terms[n] for n in numbers)) if numbers else None
        step = Pass(predicate, _NOTHING if mask else self._sink)
        schema = pa.schema([self.schema.field(name) for name in input_columns(step)])
        plan = plan_pass(step, schema, self._bounds, self._folder)
        with self._lock:  # Variants that are compiled for a plan must be kept with the one in use.
            return self._plans.setdefault((numbers, mask), (plan, Preparer(plan)))


def late_pass(stage: Stage, schema: pa.Schema, bounds: Bounds, folder: Path) -> LatePass | None:
    """Give the first step of a stage for rows that are read as it goes; None if it tests none."""
    step = stage.steps[0] if stage.steps else None
    if not isinstance(step, Pass) or step.predicate is None:
        return None
    return LatePass(step, schema, bounds, folder, costs_of(step).texts)


class _Reading(Struct):
    """Rows on their way: which are still wanted, and the columns held of them."""

    owner: LatePass
    rows: LateRows
    literals: tuple[Literal, ...]
    packed: npt.NDArray[np.uint8]
    pool: SegmentPool
    kept: Kept | None
    count: int
    held: dict[str, pa.Array] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    texts: int = 0

    def keep(self, kept: Kept, rows: int) -> None:
        """Have only the rows `kept` from now on; nothing is held yet."""
        assert not self.held
        self.kept, self.count = kept, rows

    def column(self, name: str) -> pa.Array:
        """Give a column of the rows that are still wanted; it is held from now on."""
        if name not in self.held:
            array = self.held[name] = self._read(name)
            self.texts += column_bytes(array) if name in self.owner.texts else 0
        return self.held[name]

    def _read(self, name: str) -> pa.Array:
        if not self.count:  # Not even a dictionary is decompressed.
            return pa.array([], self.owner.schema.field(name).type)
        return self.rows.column(name, self.kept)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Give columns of the rows that are still wanted."""
        arrays = [self.column(name) for name in schema.names]
        if arrays:
            return pa.RecordBatch.from_arrays(arrays, schema=schema)
        nothing = pa.StructArray.from_buffers(pa.struct([]), self.count, [None])
        return pa.RecordBatch.from_struct_array(nothing)

    def passed(self, plan: PassPlan, preparer: Preparer, batch: pa.RecordBatch) -> tuple[Kept, int]:
        """Give which rows of `batch` satisfy a predicate, and how many."""
        prepared = preparer.prepare(batch, self.literals)
        code, chunk = plan.compiled(prepared.nullable), prepared.chunk
        context = bind_slots(code.slots, chunk, self.packed)
        words = np.zeros(chunk.rows // BLOCK + 2, np.uint64)
        (whole, padded), mask = context.addresses, code.addresses["mask"]
        at = words.ctypes.data
        passed = _filter.select(mask, whole, chunk.blocks, padded, chunk.rest, at)
        return words, int(passed)

    def test(self, plan: PassPlan, preparer: Preparer, later: Iterable[str]) -> None:
        """Keep the rows that pass, and of the columns held those that are read `later`."""
        words, passed = self.passed(plan, preparer, self.batch(plan.schema))
        needed = set(later)
        held = {name: array for name, array in self.held.items() if name in needed}
        if passed < self.count:
            blocks = words[: -(-self.count // BLOCK)].view(np.int64)
            selection = Selection(self.count, passed, blocks)
            held = {name: keep_rows(array, selection, self.pool) for name, array in held.items()}
            self.moved |= held.keys()
            self.kept = narrowed(self.kept, words, self.rows.stored_rows)
            self.count = passed
        self.held = held


def _columns(term: Node) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n.name for n in walk(term) if isinstance(n, Column)))
