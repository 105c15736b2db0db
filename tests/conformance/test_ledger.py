"""No hidden copy: what the ledger says is what the addresses of buffers show."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc
from support.memory import shares_memory

from wherry import Pipeline, Result, col, scan
from wherry.data.chunk import buffer_addresses, referenced_bytes

ROWS, CHUNKS = 4096, 4
SYSTEMS = ("this-machine", "dpu-csd-host")
each_system = pytest.mark.parametrize("system", SYSTEMS)


def table() -> pa.Table:
    """Give fixed-width columns without nulls, text, and a dictionary: several chunks."""
    x = pa.array(range(ROWS), pa.int64())
    return pa.table(
        {
            "x": x,
            "y": pa.array([i * 0.5 for i in range(ROWS)]),
            "text": pa.array([f"row {i}" for i in range(ROWS)]),
            "flag": pa.array([i % 3 == 1 for i in range(ROWS)]),
            "kind": pa.array(["a", "b", "c", "d"] * (ROWS // 4)).dictionary_encode(),
        }
    )


@pytest.fixture(params=["memory", "file"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Pipeline:
    batches = table().to_batches(max_chunksize=ROWS // CHUNKS)
    if request.param == "memory":
        return scan(pa.Table.from_batches(batches))
    with ipc.new_file(tmp_path / "t.arrow", batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return scan(tmp_path / "t.arrow")


def owners(pipeline: Pipeline) -> list[pa.RecordBatch]:
    """Give the stored batches, as the source holds them."""
    source = pipeline.source
    return [source.read(ref, source.schema.names) for ref in source.chunks()]


def new_bytes(result: Result, stored: Pipeline) -> int:
    """Give the bytes of the answer that lie outside the stored buffers, read off addresses."""
    found, given = 0, owners(stored)
    for batch in result.table.to_batches():
        for name in batch.schema.names:
            column = batch.select([name])
            if not shares_memory(column, given):
                found += referenced_bytes([column]) - _old_dictionary(column, given)
    return found


def _old_dictionary(column: pa.RecordBatch, given: list[pa.RecordBatch]) -> int:
    array = column.column(0)
    if not pa.types.is_dictionary(array.type):
        return 0
    values = pa.RecordBatch.from_arrays([array.dictionary], ["v"])
    return referenced_bytes([values]) if shares_memory(values, given) else 0


THROUGH = {
    "scan": lambda q: q,
    "select": lambda q: q.select("text", renamed=col("x")),
    "filter that keeps whole chunks": lambda q: q.filter(col("x") >= ROWS // CHUNKS),
    "limit": lambda q: q.limit(100),
}


@each_system
@pytest.mark.parametrize("title", THROUGH)
def test_what_passes_through_is_a_reference(system: str, title: str, stored: Pipeline) -> None:
    result = THROUGH[title](stored).run(system)
    assert result.table.num_rows > 0
    for batch in result.table.to_batches():
        assert shares_memory(batch, owners(stored))
    assert result.ledger.copied_bytes == 0
    assert result.ledger.referenced_bytes > 0


# Scattered rows: neighbours would be a slice of what is stored, and not be written at all.
KEPT = col("flag")
ONCE: dict[str, Callable[[Pipeline], Pipeline]] = {
    "filter": lambda q: q.filter(KEPT),
    "filter and select": lambda q: q.filter(KEPT).select("y", double=col("x") * 2),
    "filter twice": lambda q: q.filter(KEPT).filter(col("y") < 1900.0),
    "filter and limit": lambda q: q.filter(KEPT).limit(500),
    "filter and sort": lambda q: q.filter(KEPT).sort("y", descending=True),
    "filter and top_k": lambda q: q.filter(KEPT).top_k(20, by="y"),
    "filter, sort and limit": lambda q: q.filter(KEPT).sort("y").limit(700),
    "sort": lambda q: q.sort("y", descending=True),
    "top_k": lambda q: q.top_k(20, by="y"),
}


@each_system
@pytest.mark.parametrize("title", ONCE)
def test_a_surviving_row_is_written_once(system: str, title: str, stored: Pipeline) -> None:
    query = ONCE[title](stored).select("x", "y") if "select" not in title else ONCE[title](stored)
    result = query.run(system)
    answer = referenced_bytes(result.table.to_batches())
    assert answer > 0
    assert new_bytes(result, stored) == answer
    assert result.ledger.copied_bytes == answer


@each_system
def test_the_ledger_counts_text_and_dictionaries_as_addresses_do(
    system: str, stored: Pipeline
) -> None:
    result = stored.filter(KEPT).run(system)
    assert result.ledger.copied_bytes == new_bytes(result, stored)


@each_system
def test_an_aggregate_writes_no_rows(system: str, stored: Pipeline) -> None:
    result = stored.filter(KEPT).agg(total=col("x").sum()).run(system)
    # One partial value a chunk, written and gathered, and the answer.
    assert result.ledger.copied_bytes <= 8 * (2 * CHUNKS + 1)


@each_system
def test_moving_a_chunk_copies_nothing(system: str, stored: Pipeline) -> None:
    for pins in ({"near": "host0"}, {"near": "dpu0", "respond": "host0"}, {"near": "home"}):
        if system == "dpu-csd-host":
            result = stored.run(system, placement=pins)
            assert result.ledger.copied_bytes == 0
            assert new_bytes(result, stored) == 0


def test_the_check_itself_sees_a_copy(stored: Pipeline) -> None:
    batch = owners(stored)[0]
    copy = pa.RecordBatch.from_arrays([pa.array(batch.column(0).to_pylist())], ["x"])
    assert shares_memory(batch, owners(stored))
    assert not shares_memory(copy, owners(stored))
    assert buffer_addresses(copy)
