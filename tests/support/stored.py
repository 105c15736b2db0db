"""Arrow IPC files for readers, and what pyarrow says lies where in them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
from pyarrow import ipc
from support import wild
from support.duals import Draw

from wherry.data.arrays import fields_of

TABLE = pa.table({"a": range(1000), "s": [f"text {i % 7}" for i in range(1000)]})


def write(path: Path, batches: Sequence[pa.RecordBatch], **options: object) -> Path:
    """Write batches as an Arrow IPC file; dictionaries may grow from one to the next."""
    settings = ipc.IpcWriteOptions(emit_dictionary_deltas=True, **options)
    with (
        pa.OSFile(str(path), "wb") as sink,
        ipc.new_file(sink, batches[0].schema, options=settings) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return path


def mapped(path: Path) -> tuple[list[pa.RecordBatch], int]:
    """Give a file's batches as pyarrow maps them, and the address of the file's first byte."""
    source = pa.memory_map(str(path))
    whole = source.read_buffer()
    reader = ipc.open_file(whole)
    return [reader.get_batch(i) for i in range(reader.num_record_batches)], whole.address


def own_buffers(array: pa.Array) -> Iterator[pa.Buffer | None]:
    """Give an array's buffers in the order that Arrow IPC lists them: no dictionary's."""
    if pa.types.is_struct(array.type):
        yield array.buffers()[0]
        for field in fields_of(array):
            yield from own_buffers(field)
    elif pa.types.is_dictionary(array.type):
        yield from array.indices.buffers()
    else:
        yield from array.buffers()


def content(array: pa.Array) -> list[object]:
    """Give what an array is made of, bytes of dictionaries included; padding is not."""
    found: list[object] = [len(array), array.offset, array.null_count, str(array.type)]
    found += [b.to_pybytes() if b else b"" for b in own_buffers(array)]
    if not pa.types.is_struct(array.type):
        found.append(array.buffers()[0] is None)  # whoever sees a bitmap reads it
    for field in fields_of(array):
        found.append(content(field))
    if pa.types.is_dictionary(array.type):
        found.append(content(array.dictionary))
    return found


@st.composite
def batches(draw: Draw) -> list[pa.RecordBatch]:
    """Give batches of one schema, of every type: slices, with and without nulls, some empty."""
    whole = wild.batch_of(draw(st.integers(0, 8)))
    names = draw(st.lists(st.sampled_from(whole.schema.names), min_size=1, unique=True))
    ends = sorted(draw(st.lists(st.integers(0, whole.num_rows), min_size=1, max_size=6)))
    starts = [draw(st.integers(0, end)) for end in ends]
    return [
        whole.select(names).slice(start, end - start)
        for start, end in zip(starts, ends, strict=True)
    ]
