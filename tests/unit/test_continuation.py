"""The message: its bytes are fixed, small, sealed, and say where they are wrong."""

import ast
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given

import wherry
from wherry import CorruptError, InputError, col, count, scan
from wherry.base.ids import DIGEST_BYTES, seal
from wherry.data.chunk import ChunkRef
from wherry.data.types import to_plain
from wherry.ir.build import Image
from wherry.plan.query import prepare
from wherry.run.continuation import MESSAGE_BYTES_MAX, Continuation, freeze, thaw

KEY = bytes(range(32))
SMALL = Continuation(
    query=b"q" * 16,
    epoch=0x01020304,
    hop=0x0506,
    plan=b"p" * 16,
    first=1,
    last=2,
    values=(7, "x"),
    chunks=(ChunkRef(0, 0, 0, 10), ChunkRef(0, 1, 0, 10), ChunkRef(1, 0, 5, 3)),
    sites=("dpu0", "home"),
)
# Written by hand from the layout in wherry/run/continuation.py.
GOLDEN = (
    "57485259 01 00 0605"  # magic, version, reserved, hop
    "71717171717171717171717171717171"  # query
    "04030201 0100 0200"  # epoch, first, last
    "70707070707070707070707070707070"  # plan
    "1d000000"  # the frame has 29 bytes
    "93"  # an array of three: values, runs, sites
    "92 07 a178"  # [7, "x"]
    "92 95 00 00 00 0a 02 95 01 00 05 03 01"  # two runs: two batches in a row, then one
    "92 a4 64707530 a4 686f6d65"  # ["dpu0", "home"]
)

plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
images = st.builds(
    Image,
    digest=st.binary(min_size=16, max_size=16),
    rows=st.integers(0, 2**31),
    nbytes=st.integers(0, 2**40),
    bounds=st.lists(st.tuples(plain, plain), max_size=3).map(tuple),
)
refs = st.builds(ChunkRef, *(st.integers(0, 2**40) for _ in range(4)))
continuations = st.builds(
    Continuation,
    query=st.binary(min_size=16, max_size=16),
    epoch=st.integers(0, 2**32 - 1),
    hop=st.integers(0, 2**16 - 1),
    plan=st.binary(min_size=16, max_size=16),
    first=st.integers(0, 2**16 - 1),
    last=st.integers(0, 2**16 - 1),
    values=st.lists(plain | images, max_size=8).map(tuple),
    chunks=st.lists(refs, max_size=8).map(tuple),
    sites=st.lists(st.text(max_size=8), max_size=5).map(tuple),
)


@given(continuations)
def test_thaw_gives_back_what_freeze_took(given_one: Continuation) -> None:
    # repr, because NaN is not equal to itself and True is equal to 1.
    assert repr(thaw(freeze(given_one, KEY), KEY)) == repr(given_one)


@given(st.integers(0, 2**20), st.integers(1, 300), st.integers(1, 2**17))
def test_chunks_in_a_row_take_the_room_of_one(batch: int, number: int, rows: int) -> None:
    chunks = tuple(ChunkRef(3, batch + i, 0, rows) for i in range(number))
    message = freeze(_with(chunks), KEY)
    assert thaw(message, KEY).chunks == chunks
    assert len(message) < 120


def _with(chunks: tuple[ChunkRef, ...]) -> Continuation:
    fields = {name: getattr(SMALL, name) for name in Continuation.__slots__}
    return Continuation(**(fields | {"chunks": chunks}))


def test_the_layout_is_fixed() -> None:
    body = bytes.fromhex(GOLDEN.replace(" ", ""))
    assert freeze(SMALL, KEY) == body + seal(KEY, body)
    assert thaw(body + seal(KEY, body), KEY) == SMALL


def test_every_truncation_is_refused() -> None:
    message = freeze(SMALL, KEY)
    for length in range(len(message)):
        with pytest.raises(CorruptError, match=r"^continuation"):
            thaw(message[:length], KEY)


def test_every_flipped_bit_is_refused() -> None:
    message = freeze(SMALL, KEY)
    for place in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptError, match=r"^continuation: .* at offset \d+"):
            thaw(bytes(flipped), KEY)


def test_another_key_is_refused() -> None:
    with pytest.raises(CorruptError, match="the seal at offset 81 does not fit"):
        thaw(freeze(SMALL, KEY), bytes(32))


def sealed(header: bytes, frame: bytes) -> bytes:
    body = header + frame
    return body + seal(KEY, body)


HEADER = freeze(SMALL, KEY)[:52]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x93",
        msgspec.msgpack.encode([[], [[0, 0, 0, 0]], []]),
        msgspec.msgpack.encode([[{"n": "Column"}], [], []]),
        msgspec.msgpack.encode([[b"bytes"], [], []]),
        msgspec.msgpack.encode([[], [[0, 0, 0, -1, 1]], []]),
        msgspec.msgpack.encode([[], [[0, 0, 0, 1, 1 << 40]], []]),
        msgspec.msgpack.encode([[], [], [7]]),
        b"\x91" * 4000,
    ],
)
def test_a_sealed_but_malformed_frame_is_refused(frame: bytes) -> None:
    header = HEADER[:48] + len(frame).to_bytes(4, "little")
    with pytest.raises(CorruptError, match=r"^continuation: "):
        thaw(sealed(header, frame), KEY)


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(CorruptError, match="frame length at offset 48 is 29; 30 follow"):
        thaw(sealed(HEADER, freeze(SMALL, KEY)[52:-DIGEST_BYTES] + b"\0"), KEY)


def test_the_writer_refuses_what_no_reader_takes() -> None:
    long = _with(tuple(ChunkRef(i, 0, i, i) for i in range(100_000)))
    with pytest.raises(InputError, match=f"100000 chunks need .* possible: {MESSAGE_BYTES_MAX}"):
        freeze(long, KEY)


def test_a_typical_query_takes_about_150_bytes() -> None:
    table = pa.table({"shop": [1, 2], "price": [1.0, 2.0], "day": [3, 4]})
    query = (
        scan(table)
        .filter(col("day") >= 3, col("price").is_between(0.5, 2.5), col("shop") < 24)
        .group_by("shop")
        .agg(total=(col("price") * 2).sum(), n=count())
    )
    made = prepare(query.source, query.operators, query.schema)
    values = tuple(to_plain(literal.value) for literal in made.literals)
    sites = tuple(
        "home" if segment.kind in {"near", "partial"} else "host0" for segment in made.segments
    )
    message = freeze(
        Continuation(b"q" * 16, 0, 1, made.plan_digest, 1, 2, values, made.chunks, sites), KEY
    )
    assert 100 < len(message) < 180


FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__", "import_module", "loads"}
REASONED = {
    "devices/gpu_child.py": {"import_module"},  # libraries by names that stand there, in a child
    "devices/cuda.py": {"import_module"},  # cupy, where it is installed
    "devices/kvikio_reader.py": {"import_module"},  # kvikio likewise
    "render/cuda/compile.py": {"import_module"},  # NVRTC, where it is installed
    "flow/generate.py": {"compile"},  # trees made of verified nodes, never text
    "flow/run.py": {"exec"},  # those trees, with listed names and no builtins
    "flow/source.py": {"eval", "compile"},  # a chain's arguments, where their file declares them
    "movables/failure.py": {"eval", "compile"},  # one fixed expression, for a frame to show
    "sim/faults/mutate.py": {
        "exec",
        "compile",
        "import_module",
    },  # our own source with an edit, to judge the judge
}
"""What compiles or runs something, and what that is; none of it is read from a message."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=str(p.relative_to(Path(wherry.__file__).parent)))
        for p in sorted(Path(wherry.__file__).parent.rglob("*.py"))
        if p.relative_to(Path(wherry.__file__).parent).parts[0] not in {"kernels", "benchmarks"}
    ],
)
def test_no_module_can_run_what_it_reads(path: Path) -> None:
    known = REASONED.get(str(path.relative_to(Path(wherry.__file__).parent)), set())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & FORBIDDEN
        if isinstance(node, ast.ImportFrom):
            assert node.module not in FORBIDDEN
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None)
            called = getattr(node.func, "attr", None)
            assert called not in {"import_module"} - known, (
                f"line {node.lineno} imports what it computes"
            )
            assert name not in CALLS - known, f"line {node.lineno} calls {name}"
