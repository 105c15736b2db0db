"""An answer that travels as a stream is the answer, whoever encodes it; its bytes are accounted."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from support.compare import assert_same
from support.runs import all_placements, emulated, faster_link
from support.tables import array_of
from support.typed import TYPES
from support.typed import pool as typed_values

from wherry import InputError, col, count, scan
from wherry.data.encoded import ENCODED, JOINED, Encoding, encode, joined
from wherry.data.segment import SegmentPool

ENCODINGS = (None, "lz4", "zstd")
SYSTEM = emulated()
ROWS = 3000
each_encoding = pytest.mark.parametrize("compression", ENCODINGS)


@pytest.fixture(scope="module")
def rows():
    """Every column a null, text longer than a view holds, a dictionary that differs by chunk."""
    values = np.arange(ROWS)
    texts = [None if i % 7 == 0 else f"a text that no view holds {i % 50}" for i in values]
    chunks = []
    for part in np.array_split(values, 5):
        mine = [texts[i] for i in part]
        chunks.append(
            pa.record_batch(
                {
                    "n": pa.array(part, mask=part % 11 == 3),
                    "x": part * 1.5,
                    "word": pa.array(mine, pa.string_view()),
                    "code": pa.array(mine).dictionary_encode(),
                }
            )
        )
    return pa.Table.from_batches(chunks)


QUERIES = {
    "all": lambda q: q,
    "filter": lambda q: q.filter(col("x") < 900.0),
    "none": lambda q: q.filter(col("x") < -1.0),
    "sort": lambda q: q.sort("x", descending=True).limit(70),
    "agg": lambda q: q.agg(n=count(), total=col("x").sum()),
    "groups": lambda q: q.group_by("word").agg(n=count()),
}
each_query = pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)


@each_query
@each_encoding
def test_the_stream_holds_the_answer(rows, query, compression):
    wanted = query(scan(rows)).run()
    result = query(scan(rows)).respond(compression).run()
    assert wanted.encoded is None
    stream = ipc.open_stream(result.encoded)
    assert stream.schema == wanted.table.schema
    assert_same(stream.read_all(), wanted.table, ordered=True)
    assert_same(result.table, wanted.table, ordered=True)
    assert query(scan(rows)).respond(compression).collect().equals(result.table)
    streamed = query(scan(rows)).respond(compression).stream().read_all()
    assert_same(streamed, wanted.table, ordered=True)


@pytest.mark.parametrize("query", ["filter", "groups", "none"])
def test_every_placement_gives_the_same_rows(rows, query):
    asked = QUERIES[query](scan(rows))
    wanted, links = asked.collect(), set()
    for placement, pins in all_placements(asked.respond("zstd"), SYSTEM):
        result = asked.respond("zstd").run(SYSTEM, placement=pins)
        assert_same(result.table, wanted, ordered=True)
        entries = [e for e in result.ledger.entries if e.why == ENCODED]
        link = result.timeline.link_bytes()["dpu0->client"]
        assert link == sum(e.copied_bytes for e in entries)
        respond = placement.sites[-1]
        assert {e.device for e in entries} <= ({"csd0"} if respond == "home" else {respond})
        links.add(link)
    assert len(links) <= 2  # by chunks or at once, wherever


@pytest.mark.parametrize("t", TYPES, ids=str)
@each_encoding
def test_types_survive_whole_sliced_and_empty(t, compression):
    values = [*typed_values(t)[:4], None]
    memory, schema = SegmentPool(), pa.schema([("a", t)])
    whole = pa.record_batch([array_of(values, t)], schema=schema)
    wanted = whole.column(0).to_pylist()
    parts = [
        encode(batches, schema, Encoding(compression), memory)
        for batches in ([whole.slice(3, 2)], [], [whole, whole.slice(len(values))])
    ]
    assert [part.num_rows for part in parts] == [len(values[3:5]), 0, len(values)]
    table = ipc.open_stream(joined([part.stream for part in parts], schema)).read_all()
    table.validate(full=True)
    assert table.schema == schema
    assert table.column("a").to_pylist() == [*wanted[3:5], *wanted]


def test_text_of_rows_that_were_dropped_does_not_travel(rows):
    kept = scan(rows).select("n", "word").filter(col("n") == 5).respond().run()
    assert kept.table.num_rows == 1
    assert kept.encoded.size < 2000 < rows.column("word").nbytes


def test_the_ledger_says_what_was_encoded(rows):
    result = scan(rows).select("x").respond("lz4").run()
    written = [e for e in result.ledger.entries if e.copied_bytes]
    assert [(e.why, e.copied_bytes) for e in written] == [(ENCODED, result.encoded.size)]
    parts = scan(rows).select("x").respond("lz4").run(SYSTEM)
    joins = [e for e in parts.ledger.entries if e.why == JOINED]
    assert [(e.device, e.copied_bytes) for e in joins] == [("client", parts.encoded.size)]


def test_compression_pays_on_a_slow_link_and_costs_on_a_fast_one(rows):
    plain, pressed = scan(rows).select("x").respond(), scan(rows).select("x").respond("zstd")
    fast, slow = faster_link(SYSTEM, 0, 1000.0), faster_link(SYSTEM, 0, 0.001)
    pins = {"respond": "host0", "near": "host0"}
    assert pressed.run(fast, placement=pins).time > plain.run(fast, placement=pins).time
    assert pressed.run(slow, placement=pins).time < plain.run(slow, placement=pins).time
    work = [e.work for e in pressed.run(SYSTEM, placement=pins).evidence]
    assert sum(w.zstd_bytes for w in work) == ROWS * 8
    assert sum(w.lz4_bytes for w in work) == 0


def test_explain_says_how_the_answer_travels(rows):
    asked = scan(rows).select("x")
    told = asked.respond("zstd").explain(SYSTEM)
    assert "respond as Arrow IPC stream, zstd" in str(told)
    assert (
        told.chosen.link_bytes["dpu0->client"]
        < asked.explain(SYSTEM).chosen.link_bytes["dpu0->client"]
    )


def test_what_makes_no_sense_is_refused(rows):
    with pytest.raises(InputError, match="no compression 'gzip'; compressions: lz4, zstd"):
        scan(rows).respond("gzip")
    with pytest.raises(InputError, match="filter after respond; respond is the last operator"):
        scan(rows).respond().filter(col("x") > 1.0)
    with pytest.raises(InputError, match="respond after respond"):
        scan(rows).respond().respond("lz4")
    with pytest.raises(InputError, match="join: the other side ends with respond"):
        scan(rows).join(scan(rows).respond(), on="n")
