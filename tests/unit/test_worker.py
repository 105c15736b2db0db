"""A device trusts its key and nothing else: plans, messages and chunks are checked, or refused."""

from dataclasses import replace

import pyarrow as pa
import pytest

from wherry import InputError, col, scan
from wherry.base.errors import CorruptError
from wherry.data.segment import SegmentPool
from wherry.data.types import to_plain
from wherry.devices.emulated import EmulatedDriver
from wherry.devices.profile import load_profile
from wherry.plan.query import Query, prepare
from wherry.run.continuation import Continuation, freeze
from wherry.run.worker import MissingPlan, Worker

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
        values=tuple(to_plain(literal.value) for literal in found.literals),
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
