"""Answers as files: they appear whole or not at all, batch by batch."""

import resource

import pyarrow as pa
import pytest
from pyarrow import ipc

from wherry import InputError, col, scan
from wherry.data.arrow_write import write_ipc

TABLE = pa.table({"a": range(1000), "b": ["x", "y"] * 500})
ROWS = pa.Table.from_batches(TABLE.to_batches(max_chunksize=100))


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("system", ["this-machine", "dpu-csd-host"])
def test_the_file_holds_the_answer(tmp_path, compression, system):
    path, query = tmp_path / "out.arrow", scan(ROWS).filter(col("a") >= 300)
    written = query.write(path, system, compression=compression)
    assert (written.path, written.rows, written.nbytes) == (path, 700, path.stat().st_size)
    assert ipc.open_file(path).read_all().equals(query.collect())
    assert scan(path).collect().equals(query.collect())
    assert list(tmp_path.glob(".*part")) == []


def test_a_file_is_not_overwritten_unless_asked(tmp_path):
    path = tmp_path / "out.arrow"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"out\.arrow exists already"):
        scan(ROWS).write(path)
    assert path.read_bytes() == b"mine"
    assert scan(ROWS).write(path, overwrite=True).rows == 1000
    assert ipc.open_file(path).read_all().equals(TABLE)


def test_what_is_read_may_be_overwritten(tmp_path):
    path = tmp_path / "out.arrow"
    scan(ROWS).write(path)
    assert scan(path).filter(col("a") < 10).write(path, overwrite=True).rows == 10
    assert ipc.open_file(path).read_all().equals(TABLE.slice(0, 10))


def test_batches_are_written_as_they_come(tmp_path):
    """No more than one is held: what was written before the last one comes is on the disk."""
    sizes = []

    def batches():
        for _ in range(20):
            sizes.extend(part.stat().st_size for part in tmp_path.glob(".*part"))
            yield pa.record_batch({"a": pa.array(range(10_000))})

    write_ipc(tmp_path / "out.arrow", pa.schema([("a", pa.int64())]), batches())
    assert len(sizes) == 20
    assert sizes[-1] > 19 * 80_000


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    path, before = tmp_path / "out.arrow", resource.getrlimit(resource.RLIMIT_FSIZE)
    many = (pa.record_batch({"a": pa.array(range(10_000))}) for _ in range(20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(
            InputError, match=r"out\.arrow cannot be written: File too large, after"
        ):
            write_ipc(path, pa.schema([("a", pa.int64())]), many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "out.arrow"
    path.write_bytes(b"mine")

    def batches():
        yield TABLE.to_batches()[0]
        raise InputError("row 7 cannot be computed")

    with pytest.raises(InputError, match="row 7"):
        write_ipc(path, TABLE.schema, batches(), overwrite=True)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"out\.arrow cannot be written: No such file"):
        scan(ROWS).write(tmp_path / "none" / "out.arrow")


def _coded(*words):
    coded = pa.array(words).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.utf8()))
    return pa.record_batch({"code": coded})


def test_dictionaries_that_differ_become_one(tmp_path):
    parts = [_coded("a", "b"), _coded("c", None, "a"), _coded("b"), _coded("d", "c")]
    rows = pa.Table.from_batches(parts)
    path = tmp_path / "out.arrow"
    assert scan(rows).write(path).rows == 8
    wanted = rows.column("code").to_pylist()
    assert ipc.open_file(path).read_all().column("code").to_pylist() == wanted
    assert scan(path).collect().column("code").to_pylist() == wanted


def test_dictionaries_too_large_together_are_refused(tmp_path):
    parts = [_coded(*(f"{n}.{i}" for i in range(100))) for n in range(2)]
    with pytest.raises(InputError, match="dictionaries of all batches cannot be put together"):
        scan(pa.Table.from_batches(parts)).write(tmp_path / "out.arrow")
    assert list(tmp_path.iterdir()) == []
