"""Streams that can be read once: taken a few batches at a time, or kept, never half of either."""

import numpy as np
import pyarrow as pa
import pytest

import wherry as wh
from wherry.base.errors import InputError
from wherry.data.source import open_source

SCHEMA = pa.schema({"k": pa.int64(), "s": pa.utf8()})
ROWS = 50_000


class Given:
    """Batches made when they are asked for, and how many were."""

    def __init__(self, count, fail_at=None):
        self.made, self._count, self._fail_at = 0, count, fail_at

    def reader(self):
        return pa.RecordBatchReader.from_batches(SCHEMA, self._batches())

    def _batches(self):
        for number in range(self._count):
            if number == self._fail_at:
                raise OSError("the other side hung up")
            self.made += 1
            numbers = np.arange(ROWS) + number * ROWS
            yield pa.record_batch([numbers, pa.array(["text"] * ROWS)], schema=SCHEMA)


def test_nothing_is_read_before_it_is_asked_for():
    given = Given(3)
    query = wh.scan(given.reader()).filter(wh.col("k") >= 0)
    assert query.schema == SCHEMA
    assert open_source(query.source) is query.source
    assert given.made == 0
    assert query.collect().num_rows == 3 * ROWS


def test_a_stream_is_taken_a_few_batches_at_a_time():
    given = Given(100)
    query = wh.scan(given.reader()).filter(wh.col("k") >= ROWS // 2).select(twice=wh.col("k") * 2)
    before, most, seen = pa.total_allocated_bytes(), 0, ROWS // 2
    for batch in query.stream():
        assert batch["twice"][0].as_py() == 2 * seen
        seen += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
        assert given.made <= seen // ROWS + 17
    assert seen == 100 * ROWS
    assert most < 100 * ROWS * 16 / 4


def test_what_was_taken_is_gone():
    query = wh.scan(Given(2).reader()).select("k")
    assert sum(batch.num_rows for batch in query.stream()) == 2 * ROWS
    for again in (query.collect, lambda: list(query.stream())):
        with pytest.raises(InputError, match="RecordBatchReader was read to its end or in part"):
            again()


def test_what_is_kept_can_be_read_again():
    given = Given(4)
    query = wh.scan(given.reader())
    total = query.agg(k=wh.col("k").sum(), n=wh.count())
    wanted = [{"k": 4 * ROWS * (4 * ROWS - 1) // 2, "n": 4 * ROWS}]
    assert [row for batch in total.stream() for row in batch.to_pylist()] == wanted
    assert given.made == 4
    assert total.collect().to_pylist() == wanted
    assert query.limit(3).collect()["k"].to_pylist() == [0, 1, 2]
    assert sum(batch.num_rows for batch in query.stream()) == 4 * ROWS


@pytest.mark.parametrize("streamed", [False, True])
def test_a_stream_that_fails_says_so(streamed):
    query = wh.scan(Given(40, fail_at=35).reader()).select("k")
    with pytest.raises(InputError, match=r"cannot be read: .*the other side hung up"):
        list(query.stream()) if streamed else query.collect()


def test_an_empty_stream():
    query = wh.scan(Given(0).reader()).select("k")
    assert list(query.stream()) == []
    assert wh.scan(Given(0).reader()).agg(n=wh.count()).collect().to_pylist() == [{"n": 0}]
