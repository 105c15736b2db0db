"""A query that stops here goes on in another process, which has the files and the pipeline."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from wherry import InputError, Suspended, col, count, scan

KEY = "shared"
PIPELINE = """
import sys
from wherry import Suspended, col, count, scan
query = (
    scan(sys.argv[1])
    .filter(col("x") > 3)
    .join(scan(sys.argv[2]), on="key")
    .group_by("text")
    .agg(n=count(), s=col("f").sum(), w=col("worth").max())
)
"""
GO_ON = """
data = sys.stdin.buffer.read()
result = query.resume(Suspended.from_bytes(data, b"shared"), sys.argv[3])
print(result.table.to_pylist(), sum(e.rows_in for e in result.evidence if e.stage == 0))
"""


def rows() -> pa.Table:
    made = pa.table(
        {
            "x": list(range(600)),
            "key": [n % 7 for n in range(600)],
            "text": [f"t{n * n % 5}" for n in range(600)],
            "f": [n / 7 for n in range(600)],
        }
    )
    return pa.Table.from_batches(made.to_batches(max_chunksize=100))


@pytest.mark.parametrize("system", ["this-machine", "gpu-direct-host"])
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_another_process_goes_on(tmp_path: Path, form: str, system: str) -> None:
    path, other = tmp_path / f"rows.{form}", tmp_path / "other.parquet"
    if form == "arrow":
        with ipc.new_file(path, rows().schema) as writer:
            writer.write_table(rows())
    else:
        parquet.write_table(rows(), path, row_group_size=100)
    parquet.write_table(pa.table({"key": [1, 2, 3], "worth": [10, 20, 30]}), other)
    query = (
        scan(path)
        .filter(col("x") > 3)
        .join(scan(other), on="key")
        .group_by("text")
        .agg(n=count(), s=col("f").sum(), w=col("worth").max())
    )
    data = query.suspend("dpu-csd-host", after=4).to_bytes(KEY.encode())
    words = [sys.executable, "-c", PIPELINE + GO_ON, str(path), str(other), system]
    said = subprocess.run(words, input=data, capture_output=True, check=True, timeout=120)
    wanted = f"{query.run(system).table.to_pylist()} 200"
    assert said.stdout.decode().strip() == wanted


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(rows(), path, row_group_size=100)
    stopped = scan(path).agg(n=count()).suspend(after=2)
    parquet.write_table(rows().slice(1), tmp_path / "new", row_group_size=100)
    (tmp_path / "new").rename(path)
    with pytest.raises(InputError, match="dataset 'rows' changed after the query was suspended"):
        scan(path).agg(n=count()).resume(Suspended.from_bytes(stopped.to_bytes()))
