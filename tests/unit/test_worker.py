"""A device trusts its key and nothing else: plans, messages and chunks are checked, or refused."""

import pyarrow as pa
import pytest
from msgspec.structs import replace

from wherry import InputError, col, scan
from wherry.base.errors import CorruptError
from wherry.data.segment import SegmentPool
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.profile import load_profile
from wherry.ir.build import Build, Image, image_of, received
from wherry.plan.joins import with_builds
from wherry.plan.query import Query, prepare
from wherry.run.continuation import Continuation, freeze
from wherry.run.worker import MissingBuild, MissingPlan, Worker

KEY = bytes(range(32))
BATCH = pa.record_batch({"x": [1, 2, 3]})
SOURCE = scan(pa.Table.from_batches([BATCH, BATCH])).source


def query() -> Query:
    pipeline = scan(SOURCE).filter(col("x") > 1)
    return prepare(pipeline.source, pipeline.operators, pipeline.schema)


def worker() -> Worker:
    driver = EmulatedDriver("csd0", load_profile("newport"))
    return Worker(driver, (SOURCE,), KEY, SegmentPool())


def message(found: Query, **changes: object) -> bytes:
    whole = Continuation(
        query=b"q" * 16,
        epoch=0,
        hop=1,
        plan=found.plan_digest,
        first=1,
        last=1,
        values=tuple(image_of(literal) for literal in found.literals),
        chunks=found.chunks[:1],
        sites=("host0", "home", "home"),
    )
    return freeze(replace(whole, **changes), KEY)


def test_a_device_reads_only_the_chunks_its_message_names() -> None:
    device, found = worker(), query()
    device.install(found.plan_bytes)
    hop = device.receive(message(found))
    batch = device.read(hop, found.chunks[0])
    assert device.run(hop, batch).output.batch.column("x").to_pylist() == [2, 3]
    with pytest.raises(InputError, match="csd0: the continuation does not name ChunkRef"):
        device.read(hop, found.chunks[1])


def test_a_plan_is_asked_for_once_and_known_by_its_digest() -> None:
    device, found = worker(), query()
    with pytest.raises(MissingPlan, match=found.plan_digest.hex()):
        device.receive(message(found))
    device.install(found.plan_bytes)
    assert device.receive(message(found)).plan == found.plan


def test_a_message_that_does_not_fit_its_plan_is_refused() -> None:
    device, found = worker(), query()
    device.install(found.plan_bytes)
    with pytest.raises(CorruptError, match="2 values for 1 parameters"):
        device.receive(message(found, values=(1, 2)))
    with pytest.raises(CorruptError, match=r"segments 1\.\.7 of a plan with 3"):
        device.receive(message(found, last=7))
    with pytest.raises(CorruptError, match="bytes are not an encoded plan"):
        device.install(b"\x93nonsense")


OTHER = pa.record_batch({"key 0": [2, 3, 3], "w": ["a", "b", "c"]})


def joined(build: Build) -> Query:
    pipeline = scan(SOURCE).join(pa.table({"x": [2], "w": ["a"]}), on="x")
    ready = with_builds(pipeline, lambda side, keys: build)
    return prepare(ready.source, ready.operators, ready.schema)


def test_rows_of_a_join_are_asked_for_once_and_known_by_their_digest() -> None:
    build = Build(OTHER, 1)
    device, found = worker(), joined(build)
    device.install(found.plan_bytes)
    sent = message(found, values=(build.image(),), chunks=found.chunks)
    with pytest.raises(MissingBuild, match=build.digest.hex()):
        device.receive(sent)
    device.keep(received(build.message))
    hop = device.receive(sent)
    made = device.run(hop, device.read(hop, found.chunks[0])).output.batch
    assert made.to_pydict() == {"x": [2, 3, 3], "w": ["a", "b", "c"]}


def test_a_device_that_routes_needs_no_rows() -> None:
    build = Build(OTHER.slice(0, 0), 1)
    device, found = worker(), joined(build)
    device.install(found.plan_bytes)
    hop = device.receive(message(found, values=(build.image(),), first=0, last=0))
    assert device.route(hop) == ()
    full = message(found, values=(Build(OTHER, 1).image(),), first=0, last=0, chunks=())
    assert len(device.route(device.receive(full))) == 2


def test_a_device_that_routes_leaves_out_what_is_done() -> None:
    device, found = worker(), query()
    device.install(found.plan_bytes)
    done = device.receive(message(found, first=0, last=0, chunks=found.chunks[:1]))
    assert device.route(done) == found.chunks[1:]


def test_rows_that_do_not_fit_the_plan_are_refused() -> None:
    build = Build(OTHER, 1)
    device, found = worker(), joined(build)
    device.install(found.plan_bytes)
    with pytest.raises(CorruptError, match="int for a parameter of type list<item: struct"):
        device.receive(message(found, values=(1,)))
    other = Build(OTHER.rename_columns(["key 0", "z"]), 1)
    device.keep(other)
    with pytest.raises(CorruptError, match="of a join do not fit the plan"):
        device.receive(message(found, values=(other.image(),)))
    wide = Image(build.digest, 3, 9, ((1, 2),) * 3)
    with pytest.raises(CorruptError, match="3 keys of a join by 1"):
        device.receive(message(found, values=(wide,)))


def test_rows_of_a_join_are_refused_if_they_are_compressed_or_a_key_is_null() -> None:
    for batch, compression, why in (
        (OTHER, "zstd", "are compressed"),
        (OTHER.set_column(0, "key 0", pa.array([2, None, 3])), None, "a key is null"),
    ):
        sink, marked = pa.BufferOutputStream(), batch.replace_schema_metadata({"keys": "1"})
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, marked.schema, options=options) as writer:
            writer.write_batch(marked)
        with pytest.raises(CorruptError, match=why):
            received(sink.getvalue())
