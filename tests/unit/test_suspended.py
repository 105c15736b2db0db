"""The bytes of a suspended query: what is written is read again, and nothing else is."""

import random
import struct
from functools import cache

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from msgspec.structs import replace

from wherry import CorruptError, InputError, Pipeline, Suspended, col, count, scan
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.run.suspended import State, freeze, thaw

KEY = b"k" * 32
ROWS = 64
CORRUPTIONS = 4000
RUNS = ((0, 0, 0, ROWS, 3),)


def table() -> pa.Table:
    columns = {
        "key": [n % 3 for n in range(4 * ROWS)],
        "value": [n / 7 for n in range(4 * ROWS)],
        "name": [f"name {n % 5} of some length" for n in range(4 * ROWS)],
    }
    made = pa.table(columns | {"code": pa.array(columns["name"]).dictionary_encode()})
    return pa.Table.from_batches(made.to_batches(max_chunksize=ROWS))


ROWS_OF = scan(table())
OTHER = scan(pa.table({"key": [0, 1], "more": ["x", "y"]}))
PIPELINES: dict[str, Pipeline] = {
    "groups": ROWS_OF.group_by("name").agg(s=col("value").sum(), n=count()),
    "codes": ROWS_OF.filter(col("value") > 3).sort("value"),
    "join": ROWS_OF.join(OTHER, on="key").agg(n=col("more").max()),
    "cursor": ROWS_OF.filter(col("value") > 3),
}


@cache
def stopped(title: str) -> State:
    return PIPELINES[title].suspend(after=3).state


@pytest.mark.parametrize("title", PIPELINES)
def test_what_is_written_is_read_again(title: str) -> None:
    state = stopped(title)
    read = thaw(freeze(state, KEY), KEY)
    for name in ("plan", "dataset", "fingerprint", "values", "runs"):
        assert getattr(read, name) == getattr(state, name)
    assert [p.to_pylist() for p in read.parts] == [p.to_pylist() for p in state.parts]
    assert [p.num_rows for p in read.parts] == [p.num_rows for p in state.parts]
    assert [b.digest for b in read.builds] == [b.digest for b in state.builds]
    assert freeze(read, KEY) == freeze(thaw(freeze(read, KEY), KEY), KEY)


def test_it_holds_what_it_says_and_little_more() -> None:
    assert len(freeze(stopped("cursor"), KEY)) < 140
    assert stopped("cursor").runs == RUNS
    assert stopped("cursor").rows == 0
    # One description of all rows, not one a chunk.
    rows = sum(part.nbytes for part in stopped("groups").parts)
    assert len(freeze(stopped("groups"), KEY)) < 2 * rows + 1000


def test_it_says_how_far_it_came() -> None:
    suspended = Suspended(stopped("groups"))
    assert repr(suspended) == "<suspended after 3 chunks of 'memory'; 15 rows wait for the rest>"


def test_rows_that_cannot_be_first_are_left_out() -> None:
    assert ROWS_OF.top_k(5, by="value").suspend(after=4).rows == 5
    assert ROWS_OF.limit(7).suspend(after=4).rows == 7
    assert ROWS_OF.group_by("key").agg(n=count()).suspend(after=4).rows == 3
    # To add floats in another order gives another sum: every chunk's stays.
    assert ROWS_OF.group_by("key").agg(s=col("value").sum()).suspend(after=4).rows == 12


@pytest.mark.parametrize("title", PIPELINES)
def test_another_key_and_every_cut_are_refused(title: str) -> None:
    data = freeze(stopped(title), KEY)
    with pytest.raises(CorruptError, match="the seal at offset"):
        thaw(data, b"another")
    for length in range(0, len(data), max(1, len(data) // 97)):
        with pytest.raises(CorruptError):
            thaw(data[:length], KEY)
    with pytest.raises(CorruptError, match="magic at offset 0"):
        thaw(b"X" + data[1:], KEY)
    with pytest.raises(CorruptError, match="version at offset 4 is 9"):
        thaw(data[:4] + b"\x09" + data[5:], KEY)


def resealed(body: bytes) -> bytes:
    return body + seal(KEY, body)


@pytest.mark.parametrize("title", PIPELINES)
def test_hostile_bytes_with_a_right_seal_are_corrupt_or_harmless(title: str) -> None:
    """Whoever has the key may still write nonsense: an error or rows, never a crash."""
    body = freeze(stopped(title), KEY)[:-DIGEST_BYTES]
    chance, read = random.Random(title), 0
    for _ in range(CORRUPTIONS // len(PIPELINES)):
        changed = bytearray(body)
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = chance.randrange(5, len(changed))
            changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del changed[chance.randrange(len(changed)) :]
        try:
            state = thaw(resealed(bytes(changed)), KEY)
            read += 1
            PIPELINES[title].resume(Suspended(state)).table.validate(full=True)
        except InputError:
            pass
    assert read > 10


def parts_of(state: State) -> tuple[list, bytes, bytes]:
    """Give the frame, the header and what follows the frame."""
    body = freeze(state, KEY)[:-DIGEST_BYTES]
    (length,) = struct.unpack_from("<I", body, 40)
    return msgspec.msgpack.decode(body[52 : 52 + length]), body[:52], body[52 + length :]


def built(header: bytes, frame: object, rest: bytes) -> bytes:
    packed = msgspec.msgpack.encode(frame)
    return resealed(header[:40] + struct.pack("<I", len(packed)) + header[44:] + packed + rest)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (2, [[0, 0, 0, ROWS, -1]], "negative"),
        (3, [1 << 40], "do not fit"),
        (3, [1], "1 rows in parts"),
        (3, [-1], "negative"),
        (4, [8], "end at offset"),
        (0, 7, "frame at offset 52"),
        (1, [[1]], "frame at offset 52"),
    ],
)
def test_a_frame_that_lies_is_refused(field: int, value: object, why: str) -> None:
    frame, header, rest = parts_of(stopped("groups"))
    assert thaw(built(header, frame, rest), KEY).rows == stopped("groups").rows
    frame[field] = value
    with pytest.raises(CorruptError, match=why):
        thaw(built(header, frame, rest), KEY)


def test_compressed_rows_are_refused() -> None:
    batch = pa.record_batch({"x": pa.array([0] * 100_000)})
    coded = pa.record_batch({"x": pa.array(["long text " * 999] * 9).dictionary_encode()})
    for rows in (batch, coded):
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
            writer.write_batch(rows)
        frame, header, _ = parts_of(stopped("groups"))
        frame[3] = [rows.num_rows]
        stream = sink.getvalue().to_pybytes()
        header = header[:44] + struct.pack("<Q", len(stream))
        with pytest.raises(CorruptError, match="compressed"):
            thaw(built(header, frame, stream), KEY)


def test_a_state_that_does_not_fit_the_plan_is_refused() -> None:
    state, other = stopped("groups"), stopped("codes")
    wrong = {
        "its rows have columns": replace(state, parts=other.parts),
        "not the first ones": replace(state, runs=((0, 1, 0, ROWS, 2),)),
        "more joins than": replace(state, builds=stopped("join").builds),
        "another pipeline": replace(state, plan=bytes(16)),
        "over dataset 'sales'": replace(state, dataset="sales"),
        "changed after": replace(state, fingerprint=bytes(16)),
    }
    for why, changed in wrong.items():
        with pytest.raises(InputError, match=why):
            PIPELINES["groups"].resume(Suspended(changed))
    changed = replace(stopped("cursor"), parts=state.parts)
    with pytest.raises(CorruptError, match="nothing where they would meet"):
        PIPELINES["cursor"].resume(Suspended(changed))
    with pytest.raises(CorruptError, match="lacks the rows of a join"):
        PIPELINES["join"].resume(Suspended(replace(stopped("join"), builds=())))


def test_zero_and_minus_zero_are_different_constants() -> None:
    one = ROWS_OF.agg(n=(col("value") * 0.0).sum()).suspend(after=1)
    with pytest.raises(InputError, match=r"constant -0.0 where the suspended one has 0.0"):
        ROWS_OF.agg(n=(col("value") * -0.0).sum()).resume(one)


def test_a_key_has_a_length_at_most() -> None:
    with pytest.raises(InputError, match="a key of 65 bytes; possible: 64"):
        Suspended(stopped("cursor")).to_bytes(bytes(65))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(CorruptError):
        thaw(noise, KEY)
    with pytest.raises(CorruptError):
        thaw(resealed(b"WHRS\x01" + noise), KEY)
