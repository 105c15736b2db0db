"""How much work a step is: counted from the step and its rows, the same on every device.

Nothing here looks at a clock or at what runs natively, so the emulator charges one price for one
query wherever it runs; the planner counts by the same rules, with estimated rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.data.decoding import Reading
from wherry.data.encoded import Encoding
from wherry.data.types import layout_of, type_class
from wherry.devices.work import Work
from wherry.ir.build import Known
from wherry.ir.expr import (
    Apply,
    Arithmetic,
    Cast,
    Code,
    Column,
    Compare,
    DatePart,
    Field,
    IsIn,
    IsNull,
    Match,
    Member,
    Negate,
    Node,
    Shard,
    When,
    children,
)
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups, Matches, Order, Pass, Rows, Step, Take, expressions
from wherry.ir.text import to_text

_VIEW_BITS = 128
_WORD = 8
"""Bytes of a sum, and of a slot of a table: a row number and half a hash."""

MEMBER_TERMS = 16
"""Terms that testing a key against the bits of a join counts as: a hash and a gather took 0.3 to
1.0 ns a row in the cache (measured), a term of the reference core takes 0.04. A row that is found
is counted as hashed."""


class _PerRow(Struct, frozen=True):
    """What one row costs in an expression, and the columns it reads."""

    terms: int
    values: int
    texts: int
    hashes: int
    columns: dict[str, pa.DataType]


class Costs(Struct, frozen=True):
    """What a row costs the predicate, and what one that passed costs the sink; what both read.

    `bits` are read of every row, validity aside; `texts` are columns whose bytes differ by row;
    `group_bytes` are what a table of groups holds for each: its keys, its sums, and a slot.
    """

    test: _PerRow
    sink: _PerRow
    bits: int
    texts: tuple[str, ...]
    group_bytes: int = 0


class Counter(Struct):
    """Counts in the making.

    A Work is made of them once, because adding Works takes longer than the kernel of a small chunk.
    """

    scan_bytes: int = 0
    filter_terms: int = 0
    arithmetic_values: int = 0
    string_rows: int = 0
    hash_rows: int = 0
    sort_steps: int = 0
    state_bytes: int = 0

    def add_groups(self, costs: Costs, groups: int) -> None:
        """Note the table of the groups that a pass made."""
        self.state_bytes = max(self.state_bytes, groups * costs.group_bytes)

    def add_matches(self, build: Known, rows: int) -> None:
        """Count `rows` rows that were found in the table of a build."""
        self.hash_rows += rows
        self.state_bytes = max(self.state_bytes, build.state_bytes)

    def add_pass(self, costs: Costs, rows: int, selected: int, text_bytes: int) -> None:
        """Count a pass over `rows` rows, of which `selected` passed; writing not included.

        Parameters
        ----------
        text_bytes : int
            Bytes of the columns `costs.texts`: the only ones whose size their rows do not tell.
        """
        self.scan_bytes += rows * costs.bits // 8 + text_bytes
        for cost, times in ((costs.test, rows), (costs.sink, selected)):
            self.filter_terms += cost.terms * times
            self.arithmetic_values += cost.values * times
            self.string_rows += cost.texts * times
            self.hash_rows += cost.hashes * times

    def add_after(self, steps: Iterable[Order | Take], rows: int) -> None:
        """Count orders and takes of `rows` rows."""
        for step in steps:
            if isinstance(step, Order) and step.buckets is not None:
                self.hash_rows += rows
            elif isinstance(step, Order):
                self.sort_steps += rows * max(0, rows - 1).bit_length()
            rows = rows if step.count is None else min(rows, step.count)

    def work(self, write_bytes: int) -> Work:
        """Give what was counted, with the bytes that were written."""
        return Work(
            self.scan_bytes,
            self.filter_terms,
            self.arithmetic_values,
            self.string_rows,
            self.hash_rows,
            write_bytes,
            self.sort_steps,
            state_bytes=self.state_bytes,
        )


def keep_work(build: Known) -> Work:
    """Give the work of entering the keys of a build into a table: a key, a slot and two chains."""
    written = build.rows * (8 * build.keys + 12)
    return Work(
        scan_bytes=build.nbytes,
        hash_rows=build.rows,
        write_bytes=written,
        state_bytes=build.state_bytes,
    )


def reading_work(reading: Reading) -> Work:
    """Give the work of having a chunk in memory: decoding, and repeating what no media hold."""
    return Work(write_bytes=reading.repeated_bytes, decode_bytes=reading.decoded_bytes)


def encoding_work(encoding: Encoding, rows_bytes: int, stream_bytes: int) -> Work:
    """Give the work of writing rows of `rows_bytes` as a stream of `stream_bytes`."""
    return Work(
        scan_bytes=rows_bytes,
        write_bytes=stream_bytes,
        lz4_bytes=rows_bytes if encoding.compression == "lz4" else 0,
        zstd_bytes=rows_bytes if encoding.compression == "zstd" else 0,
    )


def kinds_of_work(steps: Iterable[Step], encoding: Encoding | None) -> Work:
    """Give work whose counts are above 0 where steps may have any, so what rates they need."""
    counter, found = Counter(), Work()
    for step in steps:
        if isinstance(step, Pass):
            counter.add_pass(costs_of(step), 1, 1, 0)
            counter.hash_rows += isinstance(step.sink, Matches)
        else:
            counter.add_after((step,), 2)
    if encoding is not None:
        found = encoding_work(encoding, 1, 1)
    return found + counter.work(1)


@lru_cache(maxsize=1024)
def costs_of(step: Pass) -> Costs:
    """Give the cost of the predicate for each row in, and of the sink for each row that passed."""
    predicate = () if step.predicate is None else (step.predicate,)
    nodes = expressions(step)[len(predicate) :]
    if isinstance(step.sink, Rows) and step.predicate is None:
        # A column that passes through untested is a reference: nobody reads it.
        nodes = tuple(n for n in nodes if not isinstance(n, Column))
    cost = _cost(nodes)
    calls = len(getattr(step.sink, "calls", ()))
    hashes = cost.hashes + isinstance(step.sink, Groups)
    if isinstance(step.sink, Matches):
        cost = replace(cost, terms=cost.terms + MEMBER_TERMS)
    test = _cost(predicate)
    read = {**test.columns, **cost.columns}
    sizes = {name: _row_bits(t) for name, t in read.items()}
    bits = sum(size for size in sizes.values() if size is not None)
    texts = tuple(name for name, size in sizes.items() if size is None)
    sink = replace(cost, values=cost.values + calls, hashes=hashes)
    return Costs(test, sink, bits, texts, _group_bytes(step))


def _group_bytes(step: Pass) -> int:
    """Give the bytes of a group in a table: keys, a word for each aggregate, and a slot."""
    if not isinstance(step.sink, Groups):
        return 0
    bits = sum(_field_bits(type_of(node)) for _, node in step.sink.keys)
    return -(-bits // 8) + _WORD * (len(step.sink.calls) + 1)


def _cost(nodes: Iterable[Node]) -> _PerRow:
    terms = values = texts = hashes = 0
    columns: dict[str, pa.DataType] = {}
    for node in (n for root in nodes for n in _read(root)):
        match node:
            case Column(name, t):
                columns[name] = t
            case Field(_, _, t):
                # A text in a struct has no column of its own to be measured by.
                columns[to_text(node)] = t if _row_bits(t) else pa.string_view()
            case Compare(_, operand, _) | Match(_, operand, _) | IsIn(operand, _):
                count = max(1, len(node.values)) if isinstance(node, IsIn) else 1
                if _is_plain_text(operand):
                    texts += count
                else:
                    terms += count
            case IsNull() | Member():
                terms += MEMBER_TERMS if isinstance(node, Member) else 1
            case Arithmetic() | Negate() | Cast() | DatePart() | When():
                values += 1
            case Apply():
                values += node.operations
            case Shard() | Code():
                hashes += isinstance(node, Shard)
                texts += isinstance(node, Code)
    return _PerRow(terms, values, texts, hashes, columns)


def _read(node: Node) -> Iterator[Node]:
    """Give a node and those below it; of a struct only the field that is asked for is read."""
    yield node
    if not isinstance(node, Field):
        for child in children(node):
            yield from _read(child)


def _is_plain_text(node: Node) -> bool:
    t = type_of(node)
    return type_class(t) in {"string", "binary"}


def _row_bits(t: pa.DataType) -> int | None:
    """Give the bits a row of a column has, None for texts that lie side by side."""
    match layout_of(t):
        case "narrow" | "wide":
            return None
        case "dictionary":
            return int(t.index_type.bit_width)
        case "views":
            return _VIEW_BITS
        case "struct":
            return sum(_field_bits(field.type) for field in t)
    return int(t.bit_width)


def _field_bits(t: pa.DataType) -> int:
    """Give the bits of a field of a struct; its text is taken to be as long as a view."""
    bits = _row_bits(t)
    return _VIEW_BITS if bits is None else bits
