"""No program touches memory that is not its own: buffers end where a page begins that kills.

Run as a script, in a child process, because what is tested ends a process. Every buffer, given and
written, ends flush against such a page, and holds garbage under nulls.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import signal
import subprocess
import sys
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wherry.data.validate import check_batch
from wherry.ir.builder import col, count
from wherry.ir.literals import lift
from wherry.ir.resolve import resolve, resolve_call, resolve_condition
from wherry.ir.stage import Groups, Order, Pass, Rows, SortKey, Stage, Totals
from wherry.render.gather import batches_of
from wherry.render.program import render
from wherry.render.reference import run_reference
from wherry.render.team import alone

LONG = "a text that is longer than a view holds"
TEXTS = ["", "a", "ab", "\0", "a\0b", "ü", "日本語", "x" * 12, "x" * 13, LONG, LONG * 200]
INFINITE, NAN = float("inf"), float("nan")
FLOATS = [0.0, -0.0, INFINITE, -INFINITE, NAN, 5e-324, 1e-40, 1.5, -2.25]
TYPES = {
    **{str(t): t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(t): t for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "f32": pa.float32(),
    "f64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("us"),
    "narrow": pa.decimal128(18, 4),
    "wide": pa.decimal128(38, 3),
    "utf8": pa.utf8(),
    "large": pa.large_utf8(),
    "view": pa.string_view(),
    "code8": pa.dictionary(pa.int8(), pa.utf8()),
    "code64": pa.dictionary(pa.int64(), pa.large_utf8()),
}
TEXTUAL = ["utf8", "large", "view", "code8", "code64"]
SCHEMA = pa.schema(list(TYPES.items()))
SIZES = [0, 1, 7, 8, 63, 64, 65, 127, 128, 129]

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def fenced(nbytes: int) -> tuple[Any, np.ndarray]:
    """Give a mapping and its last `nbytes` bytes before a page that nobody may touch."""
    pages = -(-nbytes // mmap.PAGESIZE)
    mapping = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    area = np.frombuffer(mapping, np.uint8)
    end = pages * mmap.PAGESIZE
    assert libc.mprotect(area.ctypes.data + end, mmap.PAGESIZE, 0) == 0
    return mapping, area[end - nbytes : end]


class FencedPool:
    """Gives memory as a SegmentPool does, each buffer before a fence and full of garbage."""

    def allocate(self, nbytes: int) -> pa.Buffer:
        _, area = fenced(nbytes)
        area[:] = 0xAB
        return pa.py_buffer(area)


def fence(data: bytes) -> pa.Buffer:
    _, area = fenced(len(data))
    area[:] = np.frombuffer(data, np.uint8)
    return pa.py_buffer(area)


def used_bytes(array: pa.Array) -> list[int]:
    """Give how many bytes of each buffer the rows of `array` need."""
    t, end = array.type, array.offset + len(array)
    bits, buffers = (end + 7) // 8, array.buffers()
    if pa.types.is_boolean(t):
        return [bits, bits]
    if pa.types.is_string_view(t):
        return [bits, 16 * end, *(b.size for b in buffers[2:])]
    if pa.types.is_string(t) or pa.types.is_large_string(t):
        dtype = np.dtype(np.int64 if pa.types.is_large_string(t) else np.int32)
        last = np.frombuffer(buffers[1], dtype, end + 1)[end]
        return [bits, (end + 1) * dtype.itemsize, int(last)]
    return [bits, end * t.bit_width // 8]


def fenced_array(array: pa.Array, rng: np.random.Generator) -> pa.Array:
    t = array.type
    if pa.types.is_dictionary(t):
        parts = [fenced_array(a, rng) for a in (array.indices, array.dictionary)]
        return pa.DictionaryArray.from_arrays(*parts, safe=False)
    found = []
    for number, (buffer, nbytes) in enumerate(zip(array.buffers(), used_bytes(array), strict=True)):
        data = None if buffer is None else bytearray(buffer.to_pybytes()[:nbytes])
        if number == 1 and data is not None and array.null_count and is_plain(t):
            spoil(data, array, rng)
        found.append(None if data is None else fence(bytes(data)))
    return pa.Array.from_buffers(t, len(array), found, -1, array.offset)


def is_plain(t: pa.DataType) -> bool:
    return not (pa.types.is_boolean(t) or pa.types.is_string_view(t) or t in TYPES_OF_TEXT)


TYPES_OF_TEXT = (pa.utf8(), pa.large_utf8())


def spoil(data: bytearray, array: pa.Array, rng: np.random.Generator) -> None:
    """Put garbage under nulls, indices of dictionaries among it."""
    width = array.type.bit_width // 8
    for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)):
        at = (array.offset + int(row)) * width
        data[at : at + width] = rng.bytes(width)


def choices(t: pa.DataType) -> list[Any]:
    if pa.types.is_dictionary(t) or t in (*TYPES_OF_TEXT, pa.string_view()):
        return TEXTS
    if pa.types.is_boolean(t):
        return [True, False]
    if pa.types.is_floating(t):
        return FLOATS
    if pa.types.is_decimal(t):
        most = 10**t.precision - 1
        unscaled = [0, 1, -1, most, -most, most // 2]
        return [Decimal(n).scaleb(-t.scale, Context(prec=60)) for n in unscaled]
    if pa.types.is_temporal(t):
        return [0, 1, -1, 8_000, -8_000, 10_957]
    low, high = (0, 1 << t.bit_width)
    if pa.types.is_signed_integer(t):
        low, high = -(high >> 1), high >> 1
    return [low, high - 1, low + 1, 0, 1, 2, 3]


def batch_of(rows: int, offset: int, nulls: float, rng: np.random.Generator) -> pa.RecordBatch:
    columns = []
    for t in TYPES.values():
        possible = choices(t)
        picked = rng.integers(0, len(possible), rows + offset)
        values = [None if rng.random() < nulls else possible[i] for i in picked]
        if pa.types.is_dictionary(t):
            array = pa.array(values, t.value_type).dictionary_encode().cast(t)
        elif pa.types.is_string_view(t):
            halves = values[: len(values) // 2], values[len(values) // 2 :]
            array = pa.concat_arrays([pa.array(half, t) for half in halves])
        else:
            array = pa.array(values, t)
        columns.append(fenced_array(array.slice(offset), rng))
    made = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    check_batch(made, "fenced")
    return made


def predicates(rng: np.random.Generator) -> list[Any]:
    name, text = str(rng.choice(TEXTUAL)), TEXTS[int(rng.integers(0, 10))]
    one = col(name)
    return [
        None,
        col("int8") > 0,
        col("bool"),
        (col("wide") > 0) | (col("narrow") < 0),
        (col("f32") < 1.0) & (col("f64") != 0.0),
        (one == text) | (one > "x"),
        one.str.starts_with(text) & (col("uint16") < 9),
        one.str.like("%a%") | one.str.ends_with("語"),
        one.is_in([text, "a", ""]),
        one.is_null() | col("time").is_null(),
        (col("int64") < 5) & one.str.contains("long"),
    ]


def stages(rng: np.random.Generator) -> list[Stage]:
    """Give a stage for each sink, with a random predicate."""
    options = predicates(rng)

    def where() -> Any:
        found = options[int(rng.integers(0, len(options)))]
        return None if found is None else resolve_condition(found.node, SCHEMA)

    def calls(*wanted: tuple[str, Any]) -> Any:
        return tuple((name, resolve_call(a.call, SCHEMA)) for name, a in wanted)

    every = [(n, resolve(col(n).node, SCHEMA)) for n in TYPES]
    computed = {"a": col("int8") + col("int64"), "b": ~col("bool"), "c": -col("f32")}
    more = [(n, resolve(e.node, SCHEMA)) for n, e in computed.items()]
    fixed = tuple(pair for pair in every if is_plain(TYPES[pair[0]]) and pair[0] not in TEXTUAL)
    totals = calls(
        *((f"min {n}", col(n).min()) for n in TYPES if n != "bool"),
        *((f"sum {n}", col(n).sum()) for n in ("int8", "uint64", "narrow")),
        *((f"count {n}", col(n).count()) for n in TYPES),
    )
    keys = [every[i] for i in rng.choice(len(every), 2, replace=False)]
    by = tuple(SortKey(str(n), descending=bool(rng.integers(2))) for n in rng.choice([*TYPES], 2))
    aggregates = calls(("n#", count()), ("s#", col("int32").sum()), ("t#", col("view").max()))
    return [
        Stage((Pass(where(), Rows(tuple(every + more))),)),
        Stage((Pass(where(), Rows(fixed)),)),
        Stage((Pass(where(), Totals(totals)),)),
        Stage((Pass(where(), Groups(tuple(keys), aggregates)),)),
        Stage((Pass(where(), Rows(tuple(every))), Order(by, 50))),
    ]


def roomy(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Give a copy for the interpreter: pyarrow's group_by reads past the end of buffers."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


def comparable(batch: pa.RecordBatch) -> list[list[Any]]:
    def image(value: Any) -> Any:
        return "NaN" if isinstance(value, float) and math.isnan(value) else value

    return [[image(v) for v in column.to_pylist()] for column in batch.columns]


def attack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool: Any = FencedPool()
    for rows in SIZES:
        offset, nulls = int(rng.integers(0, 71)), float(rng.choice([0.0, 0.3, 1.0]))
        batch = batch_of(rows, offset, nulls, rng)
        for unlifted in stages(rng):
            stage, literals = lift(unlifted)
            made = render(stage, SCHEMA, {}).run(batch, literals, pool).batch
            made.validate(full=True)
            wanted = run_reference(stage, roomy(batch), literals)
            assert made.schema.equals(wanted.schema)
            found = comparable(made)
            assert found == comparable(wanted), (seed, rows, offset, nulls, unlifted)
            attack_share(render(stage, SCHEMA, {}), batch, literals, pool)


def attack_share(program: Any, batch: pa.RecordBatch, literals: Any, pool: Any) -> None:
    """Run slices together: what they write lies side by side, before one fence."""
    half = batch.num_rows // 2
    slices = [batch.slice(0, half), batch.slice(half), batch.slice(half // 2, half)]
    bound = program.bind(slices, literals) if program.binds else None
    if bound is None:
        return
    made = program.run_bound(bound, literals, pool, alone).batch
    for part in batches_of(made):
        part.validate(full=True)
    each = [program.run(one, literals, pool).batch for one in slices]
    assert joined(batches_of(made)) == joined(each)


def joined(batches: list[pa.RecordBatch]) -> list[list[Any]]:
    columns = zip(*(comparable(batch) for batch in batches if batch.num_rows), strict=True)
    return [[value for part in column for value in part] for column in columns]


def child(argument: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", __file__, argument]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_nothing_is_touched_behind_a_buffer(seed):
    done = child(seed)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_fence_kills():
    assert child("step over").returncode == -signal.SIGSEGV


if __name__ == "__main__":
    if sys.argv[1] == "step over":
        ctypes.string_at(fenced(8)[1].ctypes.data, 9)
    attack(int(sys.argv[1]))
