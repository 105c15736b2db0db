"""Hive trees and pyarrow datasets: pyarrow's columns, types and rows; whole files left alone."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, fs, ipc, parquet
from pyarrow import dataset as datasets

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.data import parquet as parquet_fragment
from wherry.data.source import open_source


def _tree(root, folders, write=parquet.write_table, name="part.parquet"):
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        table = pa.table({"k": np.arange(10) + 10 * number, "s": [f"t{number}"] * 10})
        write(table, root / folder / name)
    return root


def _write_ipc(table, path):
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture
def decodings(monkeypatch):
    """Every (file's folder, column) that is decoded."""
    seen, plain = [], parquet_fragment.read_column

    def remember(file, row_group, column, known):
        seen.append((file.label.split("/")[-2], file.schema.names[column]))
        return plain(file, row_group, column, known)

    monkeypatch.setattr(parquet_fragment, "read_column", remember)
    return seen


@pytest.mark.parametrize(
    "folders",
    [
        ["year=2023", "year=2024"],
        ["year=2024/month=1", "year=2024/month=02", "year=2025/month=12"],
        ["a=1", "a=x"],
        ["a=1", "a=99999999999"],
        ["a=-5", "a=0x1F"],
        ["a=1.5", "a=2"],
        ["a=__HIVE_DEFAULT_PARTITION__", "a=7"],
        ["a=x%20y", "a=%C3%A9"],
        ["a=b=c", "a="],
    ],
)
def test_partition_columns_are_those_of_pyarrow(tmp_path, folders):
    _tree(tmp_path, folders)
    wanted = datasets.dataset(tmp_path, partitioning="hive")
    source = open_source(tmp_path)
    assert source.schema.equals(wanted.schema)
    for given in (tmp_path, wanted):
        answer = wh.scan(given).sort("k").collect()
        assert answer.equals(wanted.to_table().sort_by("k").combine_chunks())


def test_partitions_prune_whole_files(tmp_path, decodings):
    _tree(tmp_path, [f"year={y}/month={m}" for y in (2023, 2024) for m in (1, 2)])
    query = wh.scan(tmp_path).filter(wh.col("year") == 2024, wh.col("month") < 2)
    assert query.select("k", "month").collect().num_rows == 10
    assert decodings == [("month=1", "k")]
    assert wh.scan(tmp_path).filter(wh.col("year") == 1999).collect().num_rows == 0
    by_year = wh.scan(tmp_path).group_by("year").agg(n=wh.count(), k=wh.col("k").sum())
    assert by_year.sort("year").collect().to_pylist() == [
        {"year": 2023, "n": 20, "k": 190},
        {"year": 2024, "n": 20, "k": 590},
    ]


def test_columns_of_the_path_are_written_not_read(tmp_path):
    _tree(tmp_path, ["a=1", "a=2"], _write_ipc, "part.arrow")
    result = wh.scan(tmp_path).filter(wh.col("a") >= 1, wh.col("k") >= 0).run("dpu-csd-host")
    assert result.table.num_rows == 20
    reads = [span.nbytes for span in result.timeline.spans if span.kind == "read"]
    assert reads == [10 * 8 + 11 * 4 + 10 * 2] * 2
    (entry,) = [e for e in result.ledger.entries if e.why == "repeated from the path"]
    assert entry.copied_bytes == 20 * 4


def test_trees_that_are_not_regular_are_refused(tmp_path):
    cases = {
        "depth": (["a=1", "a=2/b=3"], "is partitioned by a, b; wanted, each once: a"),
        "names": (["a=1", "b=2"], "is partitioned by b; wanted, each once: a"),
        "twice": (["a=1/a=2"], "is partitioned by a, a; wanted"),
        "stored": (["k=1"], "column 'k' is stored in the files and in their paths"),
        "both": (["a=1", "."], r"has files \(part.parquet\) beside partitions \(a=1/part.parquet"),
    }
    for name, (folders, message) in cases.items():
        with pytest.raises(InputError, match=message):
            open_source(_tree(tmp_path / name, folders))


def test_directories_of_several_formats_are_refused(tmp_path):
    table = pa.table({"k": [1]})
    parquet.write_table(table, tmp_path / "b.parquet")
    _write_ipc(table, tmp_path / "a.arrow")
    message = r"several formats \(a\.arrow and b\.parquet\)"
    with pytest.raises(InputError, match=message):
        open_source(tmp_path)
    assert wh.scan(tmp_path / "*.parquet").collect().equals(table)
    assert wh.scan([tmp_path / "a.arrow", tmp_path / "b.parquet"]).collect().num_rows == 2


def test_metadata_files_and_hidden_folders_are_left_alone(tmp_path):
    _tree(tmp_path, ["a=1", "_delta=2", ".a=3"])
    (tmp_path / "_metadata.parquet").write_bytes(b"not read")
    assert wh.scan(tmp_path).collect()["a"].unique().to_pylist() == [1]


def test_a_dataset_keeps_its_row_groups_and_statistics(tmp_path, decodings):
    folder = tmp_path / "data"
    folder.mkdir()
    parquet.write_table(pa.table({"k": np.arange(100)}), folder / "t.parquet", row_group_size=10)
    given = datasets.dataset(folder)
    assert wh.scan(given).filter(wh.col("k") == 55).collect().num_rows == 1
    assert len(decodings) == 1
    (whole,) = given.get_fragments()
    part = whole.subset(row_group_ids=[7, 2])
    few = datasets.FileSystemDataset([part], given.schema, given.format, given.filesystem)
    assert wh.scan(few).collect().equals(few.to_table().combine_chunks())
    assert wh.scan(few).collect()["k"].to_pylist() == [*range(20, 30), *range(70, 80)]
    assert open_source(few).fingerprint != open_source(given).fingerprint


def test_a_dataset_of_files_that_differ(tmp_path):
    _write = parquet.write_table
    _write(pa.table({"k": pa.array([1, 2], pa.int32()), "s": ["a", "b"]}), tmp_path / "a.parquet")
    _write(pa.table({"k": pa.array([3, None], pa.int64())}), tmp_path / "b.parquet")
    schema = pa.schema({"k": pa.int64(), "s": pa.utf8(), "new": pa.float64()})
    given = datasets.dataset(tmp_path, schema=schema, format="parquet")
    assert wh.scan(given).collect().equals(given.to_table().combine_chunks())
    assert wh.scan(given).filter(wh.col("k") == 2).collect()["s"].to_pylist() == ["b"]
    assert wh.scan(given).filter(wh.col("s").is_null()).collect()["k"].to_pylist() == [3, None]
    narrow = datasets.dataset(tmp_path, schema=pa.schema({"s": pa.int8()}), format="parquet")
    with pytest.raises(CorruptError, match=r"a\.parquet, record batch 0, column 's' cannot"):
        wh.scan(narrow).collect()


def test_datasets_of_other_formats_and_of_memory(tmp_path):
    table = pa.table({"k": [1, 2, 3], "s": ["a", "b", None]})
    (tmp_path / "csv" / "year=7").mkdir(parents=True)
    csv.write_csv(table, tmp_path / "csv" / "year=7" / "t.csv")
    (tmp_path / "ipc").mkdir()
    _write_ipc(table, tmp_path / "ipc" / "t.arrow")
    given = [
        datasets.dataset(tmp_path / "csv", format="csv", partitioning="hive"),
        datasets.dataset(tmp_path / "ipc", format="ipc"),
        datasets.dataset(table),
        datasets.dataset([datasets.dataset(table), datasets.dataset(table)]),
    ]
    for dataset in given:
        answer = wh.scan(dataset).filter(wh.col("k") > 1).collect()
        assert answer.equals(dataset.to_table(filter=datasets.field("k") > 1).combine_chunks())
    names = [open_source(dataset).name for dataset in given]
    assert names == ["t", "t", "dataset", "dataset"]


def test_a_dataset_of_another_file_system(tmp_path):
    parquet.write_table(pa.table({"k": np.arange(50)}), tmp_path / "t.parquet", row_group_size=10)
    there = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    given = datasets.dataset("t.parquet", filesystem=there)
    assert wh.scan(given).filter(wh.col("k") >= 45).collect()["k"].to_pylist() == [*range(45, 50)]


def test_datasets_that_are_refused(tmp_path):
    table = pa.table({"k": [1, 2, 3]})
    with pytest.raises(InputError, match="the dataset has a filter of its own"):
        wh.scan(datasets.dataset(table).filter(datasets.field("k") > 1))
    with pytest.raises(InputError, match="column 'x' of the dataset has type list"):
        wh.scan(datasets.dataset(pa.table({"x": [[1]]})))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    schema = pa.schema({"k": pa.int64()})
    broken = datasets.dataset(tmp_path / "t.parquet", schema=schema)
    with pytest.raises(CorruptError, match=r"t\.parquet"):
        wh.scan(broken)
