"""What is left of a decoded chunk does not hold all of it, and the ledger says what that took."""

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from wherry import col, scan
from wherry.render.apart import APART, HELD_SHARE

ROWS = 20_000
PART = ROWS // 4


def _part(first):
    numbers = range(first, first + PART)
    words = pa.array([f"a text that no view holds {i}" for i in numbers], pa.string_view())
    return pa.record_batch({"n": pa.array(numbers), "word": words})


TABLE = pa.Table.from_batches([_part(first) for first in range(0, ROWS, PART)])


@pytest.fixture(params=["parquet", "lz4", "arrow"])
def rows(request, tmp_path):
    """The same rows, decoded when read or (arrow) lying in their file."""
    path = tmp_path / request.param
    if request.param == "parquet":
        parquet.write_table(TABLE, path, row_group_size=PART, use_dictionary=False)
    else:
        options = ipc.IpcWriteOptions(compression="lz4" if request.param == "lz4" else None)
        with ipc.new_file(path, TABLE.schema, options=options) as writer:
            writer.write_table(TABLE)
    return request.param, scan(path)


def _held(table):
    """The bytes of all buffers behind the rows, whole."""
    buffers = {
        (b.address, b.size)
        for column in table.columns
        for chunk in column.chunks
        for b in chunk.buffers()
        if b is not None
    }
    return sum(size for _, size in buffers)


QUERIES = {
    "filter": lambda q: q.filter(col("n") < 200),
    "top": lambda q: q.top_k(20, by="n"),
    "limit": lambda q: q.limit(50),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_few_rows_hold_few_bytes(rows, query):
    form, pipeline = rows
    result = query(pipeline).run()
    assert result.table.equals(query(scan(TABLE)).collect())
    if form != "arrow":
        own = sum(len(str(w)) + 24 for w in result.table.column("word"))
        assert _held(result.table) <= max(HELD_SHARE * own, own + 4096)
    written = sum(e.copied_bytes for e in result.ledger.entries if e.why == APART)
    assert (written > 0) == (form != "arrow")


def test_all_rows_are_handed_on_as_they_were_decoded(rows):
    _, pipeline = rows
    result = pipeline.select("word").run()
    assert result.table.equals(TABLE.select(["word"]))
    assert [e for e in result.ledger.entries if e.why == APART] == []
