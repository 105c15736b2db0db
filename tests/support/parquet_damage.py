"""Small Parquet files of every shape that is decoded natively, and ways to damage them.

Run: python -m support.parquet_damage SEED CASES
"""

import io
import random
import sys
from array import array
from decimal import Decimal

import msgspec
import pyarrow as pa
from pyarrow import parquet
from support.guarded import Guarded

from wherry.base.errors import CorruptError
from wherry.data import parquet_choose, parquet_native, parquet_pages
from wherry.data.late import ValueTest
from wherry.data.parquet_columns import read_footer
from wherry.ir.builder import col
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve
from wherry.ir.stage import Pass, Rows
from wherry.kernels.objects import object_folder
from wherry.render.bind import LITERALS, pack_literals
from wherry.render.passes import plan_pass

ROWS = 300
_INTEGERS = [(i * 7919) % 1000 - 500 for i in range(ROWS)]
_TEXTS = [("", "ab", "a text of some length", "x" * 70)[i % 4] + str(i % 40) for i in range(ROWS)]
_COLUMNS = {
    "int8": pa.array([i % 100 for i in _INTEGERS], pa.int8()),
    "int32": pa.array(_INTEGERS, pa.int32()),
    "int64": pa.array(_INTEGERS, pa.int64()),
    "double": pa.array(_INTEGERS, pa.float64()),
    "flag": pa.array([i % 3 == 0 for i in _INTEGERS]),
    "small": pa.array([Decimal(i) for i in _INTEGERS], pa.decimal128(5, 0)),
    "large": pa.array(_INTEGERS).cast(pa.decimal128(38, 2)),
    "utf8": pa.array(_TEXTS),
    "large_utf8": pa.array(_TEXTS, pa.large_utf8()),
    "view": pa.array(_TEXTS, pa.string_view()),
    "dictionary": pa.array(_TEXTS).dictionary_encode(),
}
_DELTA = ("int8", "int32", "int64")
WRITINGS = (
    {"compression": "snappy"},
    {"compression": "none", "use_dictionary": False},
    {"compression": "snappy", "use_dictionary": False, "data_page_version": "2.0"},
    {"compression": "zstd", "data_page_version": "2.0"},
    {"compression": "snappy", "dictionary_pagesize_limit": 100, "write_batch_size": 32},
    {"compression": "none", "data_page_size": 64, "write_batch_size": 16},
    {
        "compression": "none",
        "use_dictionary": False,
        "column_encoding": dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
    },
    {"compression": "snappy", "store_decimal_as_integer": True},
)


def written(writing, nulls):
    """Give a file with every column, opened: every `nulls`-th value is null; 0: not nullable."""
    columns = [_with_nulls(column, nulls) for column in _COLUMNS.values()]
    fields = [
        pa.field(name, column.type, nullable=bool(nulls))
        for name, column in zip(_COLUMNS, columns, strict=True)
    ]
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=pa.schema(fields)), stream, **writing)
    return read_footer("a file", pa.py_buffer(stream.getvalue()))


def _with_nulls(column, nulls):
    if not nulls:
        return column
    values = [None if i % nulls == 0 else v for i, v in enumerate(column.to_pylist())]
    if pa.types.is_dictionary(column.type):
        return pa.array(values, column.type.value_type).dictionary_encode()
    return pa.array(values, column.type)


class Damage:
    """Decodes damaged files in guarded memory, one case after another, from a seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._file_memory, self._targets = Guarded(), Guarded()
        for module, blocks in ((parquet_native, 8), (parquet_pages, 8), (parquet_choose, 16)):
            module._scratch = Guarded(blocks=blocks)
        self._tests = {name: _test(name, column.type) for name, column in _COLUMNS.items()}
        self._files = [
            (file, file.buffer.to_pybytes())
            for writing in WRITINGS
            for nulls in (0, 3, 1)
            if (file := _opened(writing, nulls)) is not None
        ]

    def case(self):
        """Decode one damaged column; tell whether it was refused.

        What is not refused has the right type and length, and can be read to its end.
        """
        file, whole = self._random.choice(self._files)
        column = self._random.randrange(len(file.schema))
        chunk = file.chunks(0, column)[0]
        begin = chunk.dictionary_page_offset or chunk.data_page_offset
        damaged = bytearray(whole)
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            self._damage(damaged, begin, begin + chunk.total_compressed_size)
        memory = self._file_memory.block(len(damaged))
        memory[:] = damaged
        file = msgspec.structs.replace(
            file, buffer=pa.py_buffer(memory), footer=self._footer(file.footer, column)
        )
        kept = None
        if self._random.random() < 0.3:
            kept = self._targets.block(8 * (ROWS // 64 + 2)).view("u8")
            kept[:] = self._random.getrandbits(63) & self._random.getrandbits(63)
        as_dictionary = self._random.random() < 0.3
        try:
            opened = parquet_native.open_chunk(file, 0, column)
            if as_dictionary and parquet_choose.is_testable(opened):
                self._choose(opened, kept, file.schema.names[column])
            found = parquet_native.decode(
                opened, kept, as_dictionary=as_dictionary, allocate=self._targets.allocate
            )
        except CorruptError:
            return True
        rows = file.footer.rows[0]
        wanted = (
            rows if kept is None else sum(int(kept[i // 64]) >> i % 64 & 1 for i in range(rows))
        )
        assert len(found) == wanted
        value_type = (
            found.type.value_type
            if as_dictionary and pa.types.is_dictionary(found.type)
            else found.type
        )
        expected = file.schema.field(column).type
        assert value_type in (expected, getattr(expected, "value_type", None))
        _read_through(found)
        return False

    def _choose(self, chunk, kept, name):
        """Choose rows by the dictionary; those that are found are of those asked for."""
        asked = parquet_choose.Asked(chunk, self._random.random() < 0.5, self._tests[name][0])
        found = parquet_choose.choose([asked], kept, parquet_native.Tally())
        if found is not None and found[0] is not None:
            rows = found[0]
            assert int(sum(int(word).bit_count() for word in rows)) == found[1] <= chunk.pages.rows
            assert kept is None or not (rows & ~kept).any()

    def _damage(self, data, begin, end):
        draw = self._random
        at = draw.randrange(begin, end)
        kind = draw.randrange(6)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.randrange(256)
        elif kind == 2:
            data[at] = draw.choice((0, 1, 127, 128, 254, 255))
        elif kind == 3:
            size = min(draw.randrange(1, 12), end - at)
            data[at : at + size] = draw.choice((b"\xff", b"\0", b"\x80")) * size
        elif kind == 4:
            size = min(draw.randrange(1, 40), end - at)
            source = draw.randrange(begin, end - size + 1)
            data[at : at + size] = data[source : source + size]
        else:
            at = draw.randrange(begin, min(begin + 40, end))  # Most often within the first header.
            data[at] = draw.randrange(256)

    def _footer(self, footer, column):
        if self._random.random() < 0.9:
            return footer
        chunk, rows = footer.chunks[0][column], footer.rows[0]
        if self._random.random() < 0.3:
            rows = self._random.choice((0, 1, rows - 1, rows + 1))
        else:
            name = self._random.choice(
                ("data_page_offset", "dictionary_page_offset", "total_compressed_size")
            )
            value = (getattr(chunk, name) or 0) + self._random.choice((-64, -1, 1, 2, 64, 1 << 40))
            chunk = msgspec.structs.replace(chunk, **{name: max(0, value)})
        chunks = (*footer.chunks[0][:column], chunk, *footer.chunks[0][column + 1 :])
        return msgspec.structs.replace(footer, rows=(rows,), chunks=(chunks,))


def _test(name, t):
    """Give a test of values that about half of them pass, and what it refers to; None for texts."""
    if not (pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t)):
        return None
    predicate = resolve((col(name) < 7).node, pa.schema([(name, t)]))
    (step,), literals = lift((Pass(predicate, Rows(())),))
    plan = plan_pass(step, pa.schema([(name, t)]), {}, object_folder())
    code, packed = plan.compiled(frozenset()), pack_literals(literals)
    context = array("q", [packed.ctypes.data * (slot == LITERALS) for slot in code.slots])
    places = tuple(n for n, slot in enumerate(code.slots) if slot != LITERALS)
    return ValueTest(name, code.addresses["mask"], context, places), code, packed


def _opened(writing, nulls):
    try:
        return written(writing, nulls)
    except pa.ArrowNotImplementedError:  # pyarrow writes no dictionary of nulls alone.
        return None


def _read_through(array):
    """Look at everything that offsets, views and indices lead to; text may be any bytes."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        found = str(error)
        if "UTF8" not in found and "precision" not in found:
            raise


def main(seed, cases):
    """Try `cases` damaged columns; a read or write out of bounds ends the process by a signal."""
    damage = Damage(seed)
    refused = sum(damage.case() for _ in range(cases))
    print(f"{cases} damaged columns, {refused} refused")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
