"""No byte of a column is copied between processes of a host, and what the ledger says is so.

A buffer that was handed over lies at the same place of the same file or segment at both ends: its
addresses there prove it. What lies in no such place is copied, and the ledger says how much.
"""

import os

import numpy as np
import pyarrow as pa
import pytest
from support.clusters import HANDED_OVER, cluster, handed_over, store

from wherry import col, count
from wherry.data import mapping
from wherry.serve import connection, unix
from wherry.serve.received import BY_DESCRIPTOR
from wherry.serve.remote import GIVEN
from wherry.session import Options, run

ROWS = 4000


def table():
    rng = np.random.default_rng(5)
    return pa.table(
        {
            "k": rng.integers(0, 9, ROWS),
            "x": pa.array(rng.random(ROWS), mask=rng.random(ROWS) < 0.1),
            "s": [f"text {n % 37} of some length" for n in range(ROWS)],
            "o": rng.random(ROWS) < 0.5,
        }
    )


class Seen:
    """What was handed over: the places of its buffers at both ends, and what was copied."""

    def __init__(self, monkeypatch):
        self.sent, self.came, self.copied, self.outside = [], [], [], []
        export, imported = unix.export, connection.imported

        def exporting(schema, batches, pool):
            made = export(schema, batches, pool)
            places = [self._place(b, pool) for batch in batches for b in buffers_of(batch)]
            self.sent.append({place for place in places if place[0] is not None})
            self.outside.append(sum({p[1:] for p in places if p[0] is None}, start=Sized()).nbytes)
            self.copied.append(made.copied_bytes)
            return made

        def importing(layout, descriptors, mappings, label, **more):
            found = imported(layout, descriptors, mappings, label, **more)
            buffers = [b for batch in found.batches for b in buffers_of(batch)]
            self.came.append({within(b.address, mappings) for b in buffers})
            return found

        monkeypatch.setattr(unix, "export", exporting)
        monkeypatch.setattr(connection, "imported", importing)

    def _place(self, buffer, pool):
        """Give inode and offset of a buffer; None, address and size if it lies nowhere."""
        place = pool.locate(buffer.address) or mapping.locate(buffer.address)
        if place is None or place.descriptor < 0:
            return None, buffer.address, buffer.size
        return os.fstat(place.descriptor).st_ino, buffer.address - place.address


class Sized:
    """Adds up sizes of (address, size)."""

    nbytes = 0

    def __add__(self, pair):
        self.nbytes += pair[1]
        return self


def buffers_of(batch):
    for column in batch.columns:
        yield from (b for b in column.buffers() if b is not None and b.size)


def within(address, mappings):
    """Give inode and offset of an address in what was mapped."""
    for (_, inode), found in list(mappings._known.items()):
        if found.address <= address < found.address + found.size:
            return inode, address - found.address
    raise AssertionError("a buffer lies outside of what was mapped")


@pytest.fixture
def seen(monkeypatch):
    return Seen(monkeypatch)


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("l")
    store(folder, table(), "rows", rows=500)
    store(folder, table(), "packed", form="parquet", rows=500, compression="snappy")
    with cluster(folder) as found:
        yield found


QUERIES = {
    "whole": lambda q: q,
    "filter": lambda q: q.filter(col("x") < 0.3),
    "made": lambda q: q.select("k", y=col("x") * 2, t=col("s")),
    "totals": lambda q: q.agg(n=count(), t=col("x").sum()),
    "groups": lambda q: q.group_by("k").agg(n=count(), t=col("x").sum()),
    "top": lambda q: q.top_k(20, by="x"),
    "encoded": lambda q: q.filter(col("o")).respond("lz4"),
}
WAYS = ({"near": "home"}, {"near": "home", "merge": "dpu0"}, {"near": "dpu0", "respond": "dpu0"})
ROWS_MADE = ("whole", "filter", "made")
"""Their rows lie in files and segments; totals, and what pyarrow orders and encodes, do not."""


@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest.mark.parametrize("name", QUERIES)
def test_addresses_prove_what_is_copied(there, seen, name, way):
    query, pins = QUERIES[name](there.scan("rows")), WAYS[way]
    if "merge" in pins and name in {*ROWS_MADE, "encoded"}:
        pins = {"near": "home", "respond": "csd1"}
    found = run(query, there.system, Options(pins=pins))
    assert len(seen.sent) == len(seen.came) > 0
    for sent, came, copied, outside in zip(
        seen.sent, seen.came, seen.copied, seen.outside, strict=True
    ):
        assert sent <= came, "what lay in a file or segment was mapped"
        assert copied == outside, "what did not was copied"
    told = handed_over(found)
    given = told.pop(GIVEN, (0, 0))
    assert given[0] == 0
    assert sum(copied for _, copied in told.values()) == sum(seen.copied)
    if name in ROWS_MADE and pins["near"] == "home":
        assert sum(seen.copied) == 0
        assert told[BY_DESCRIPTOR][0] > 0


def test_what_was_decoded_is_copied_once_and_said_so(there, seen):
    """A decoded column lies in no segment: its way to another process is a copy, and told."""
    query = there.scan("packed").filter(col("x") < 0.3).select("x", "s")
    found = run(query, there.system, Options(pins={"near": "host0"}))
    between = handed_over(found)
    assert sum(seen.copied) == sum(c for _, c in between.values()) == sum(seen.outside) > 0
    # Where rows are filtered they are written to a segment anyway, and handed over from there.
    for each in (seen.sent, seen.came, seen.copied, seen.outside):
        each.clear()
    near = run(query, there.system, Options(pins={"near": "home"}))
    assert near.table.equals(found.table)
    assert sum(seen.copied) == 0
    assert all(entry.copied_bytes == 0 for entry in near.ledger.entries if entry.why in HANDED_OVER)


def test_an_answer_stays_as_it_is_while_agents_work_on(there):
    """The segments that an answer lies in are not written to as long as somebody reads it."""
    query = there.scan("rows").filter(col("x") < 0.5).select("k", y=col("x") * 3, s=col("s"))
    pins = Options(pins={"near": "home"})
    kept = run(query, there.system, pins).table
    wanted = kept.to_pylist()
    column = kept.column("y").chunk(0).slice(3, 5)
    for number in range(12):
        run(query.filter(col("k") != number % 9), there.system, pins)
    assert kept.to_pylist() == wanted
    del kept
    for _ in range(6):
        run(query, there.system, pins)
    assert column.to_pylist() == [row["y"] for row in wanted[3:8]]
