"""What a chunk needs before a pass: residual columns, texts as integers, lookups by dictionary."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.data.borrowed import is_borrowed
from wherry.ir.expr import Literal, Node
from wherry.ir.literals import bind
from wherry.ir.reference import evaluate
from wherry.render.bind import Chunk, Table
from wherry.render.encode import are_codes, codes_of, ranks_of
from wherry.render.loop import Slot, codes_name
from wherry.render.passes import PassPlan, needed_columns, read_columns
from wherry.render.split import Lookup

_MOST_TABLES: Final = 64


class Prepared(Struct, frozen=True):
    """A chunk ready for a pass.

    Parameters
    ----------
    nullable : frozenset of str
        Columns and tables with nulls: the variant.
    texts : dict
        By encoded column: the texts behind its integers. Those of plain keys are not numbered yet.
    literals : tuple of Literal
        The values of the stage's parameters.
    """

    chunk: Chunk
    nullable: frozenset[str]
    texts: dict[str, pa.Array]
    literals: tuple[Literal, ...]


class Preparer:
    """Prepares chunks for one pass; keeps what it found of dictionaries that come again.

    They are kept with it, and so those in other processes' memory are not: it would stay theirs.
    """

    def __init__(self, plan: PassPlan) -> None:
        self._plan = plan
        self._read = read_columns(plan)
        names, wanted = plan.schema.names, needed_columns(plan)
        self._given = [(name, number) for number, name in enumerate(names) if name in wanted]
        prepared = (plan.residuals, plan.encoded, plan.lookups, plan.keys, plan.fields, plan.picks)
        self._simple = not any(prepared)
        self._lock = threading.Lock()
        self._tables: dict[Any, tuple[Any, Table]] = {}
        self._texts: dict[Any, tuple[pa.Array, bool]] = {}

    def prepare(self, batch: pa.RecordBatch, literals: tuple[Literal, ...]) -> Prepared:
        """Give `batch` as the pass reads it.

        Raises
        ------
        InputError
            If a residual has no value in some row, be it a row that would not pass.
        """
        columns = {name: batch.column(number) for name, number in self._given}
        if self._simple:
            nulls = frozenset([n for n in self._read if columns[n].null_count])
            return Prepared(Chunk(batch.num_rows, columns), nulls, {}, literals)
        numbers: dict[Slot, int] = {}
        for node, column in self._plan.fields.items():
            # Values are the struct's own; only the validity of both may be new.
            columns[column.name] = evaluate(node, batch)
        for node, column in self._plan.residuals.items():
            columns[column.name] = evaluate(bind(node, literals), batch)
        texts = self._encode(columns)
        tables = self._lookups(columns, numbers, literals)
        nullable = {n for n in self._read if n in columns and columns[n].null_count}
        nullable |= {
            f"table {x.number}"
            for x in self._plan.lookups.values()
            if not tables[str(x.number)].known[: None if x.column in nullable else -1].all()
        }
        chunk = Chunk(batch.num_rows, columns, tables, numbers)
        return Prepared(chunk, frozenset(nullable), texts, literals)

    def _encode(self, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
        texts = {}
        for item in self._plan.encoded:
            if item.plain:
                continue
            array = columns[item.node.name]  # type: ignore[attr-defined]
            found = ranks_of(array) if item.ranked else self._codes(array)
            columns[item.column.name], texts[item.column.name] = found
        return texts

    def _codes(self, array: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Give what `codes_of` gives; whether a dictionary can be taken as it is is found once."""
        if not pa.types.is_dictionary(array.type) or is_borrowed(array.dictionary):
            return codes_of(array)
        key = _identity(array.dictionary)
        with self._lock:
            kept = self._texts.get(key)
        if kept is None:
            texts = array.dictionary
            kept = texts, are_codes(texts)
            with self._lock:
                if len(self._texts) >= _MOST_TABLES:
                    self._texts.clear()
                kept = self._texts.setdefault(key, kept)
        return (array.indices, kept[0]) if kept[1] else codes_of(array)

    def _lookups(
        self,
        columns: dict[str, pa.Array],
        numbers: dict[Slot, int],
        literals: tuple[Literal, ...],
    ) -> dict[str, Table]:
        tables = {}
        for node, lookup in self._plan.lookups.items():
            array = columns[lookup.column]
            columns[codes_name(lookup.column)] = array.indices
            numbers["last", lookup.column] = len(array.dictionary)
            tables[str(lookup.number)] = self._table(node, lookup, array, literals)
        return tables

    def _table(
        self, node: Node, lookup: Lookup, array: pa.Array, literals: tuple[Literal, ...]
    ) -> Table:
        texts = array.dictionary
        if is_borrowed(texts):
            return tabulate(bind(node, literals), lookup.column, texts, array.type)
        key = (lookup.number, *_identity(texts), id(literals))
        with self._lock:
            kept = self._tables.get(key)
        if kept is not None:
            return kept[1]
        made = tabulate(bind(node, literals), lookup.column, texts, array.type)
        with self._lock:
            if len(self._tables) >= _MOST_TABLES:
                self._tables.clear()
            # What the key was made of is kept with it, so that no address or id comes again.
            self._tables[key] = ((texts, literals), made)
        return made


def _identity(texts: pa.Array) -> tuple[Any, ...]:
    """Give what is equal for arrays of one type over the same memory, as long as one is kept."""
    places = tuple((b.address, b.size) for b in texts.buffers() if b is not None)
    return places, texts.offset, len(texts), texts.type


def tabulate(node: Node, name: str, texts: pa.Array, t: pa.DataType) -> Table:
    """Give the value of `node` for each entry of the dictionary of column `name`, of type `t`."""
    # Stored indices may be too narrow to number the entries that no row uses.
    codes = pa.array([*range(len(texts)), None], pa.int32())
    entries = pa.DictionaryArray.from_arrays(codes, texts, ordered=t.ordered)
    found = evaluate(node, pa.RecordBatch.from_arrays([entries], names=[name]))
    known = np.asarray(found.is_valid()).astype(np.int32)
    if pa.types.is_boolean(found.type):
        return Table(np.asarray(found.fill_null(False)).astype(np.int32), known)
    size = found.type.bit_width // 8
    start = found.offset * size
    values = np.frombuffer(found.buffers()[1], np.uint8)[start : start + len(found) * size]
    return Table(values.copy(), known)
