"""TPC-H tables: the generator's rows in the layout that is promised, made once."""

import subprocess
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from wherry.base.errors import InputError, WherryError
from wherry.benchmarks import kept, tpch, tpch_layout, tpchgen
from wherry.data.sharding import ShardScheme
from wherry.data.source import column_bounds, open_source

CODES = pa.dictionary(pa.int8(), pa.utf8())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tpch")
    return directory, tpch.generate(directory, 0.001)


def _read(path):
    source = open_source(path)
    names = source.schema.names
    return pa.Table.from_batches([source.read(ref, names) for ref in source.chunks()])


def test_layout(made):
    directory, folders = made
    assert sorted(p.name for p in directory.iterdir()) == [
        ".wherry-tpch",
        "customer",
        "lineitem",
        "orders",
    ]
    lineitem, orders, customer = (open_source(folders[t]) for t in tpch.TABLES)
    assert (lineitem.name, lineitem.fragments) == ("lineitem", 2)
    assert [ref.rows for ref in lineitem.chunks()] == [3003, 3002]
    assert orders.shards == ShardScheme("hash", "o_custkey", 2)
    assert sum(ref.rows for ref in orders.chunks()) == 1500
    assert [ref.rows for ref in customer.chunks()] == [150]
    for source in (lineitem, orders, customer):
        for field in source.schema:
            coded = field.name in tpch_layout.FEW_VALUES
            assert field.type == (CODES if coded else field.type)
            assert field.type != pa.string_view()
            assert field.metadata is None
    assert lineitem.schema.field("l_tax").type == pa.decimal128(15, 2)
    assert lineitem.schema.field("l_shipdate").type == pa.date32()


def test_the_rows_are_the_generators(made, tmp_path):
    subprocess.run([tpchgen.find(), "parquet", "-s", "0.001", "-o", str(tmp_path)], check=True)
    for table, folder in made[1].items():
        wanted = parquet.read_table(tmp_path / f"{table}.parquet")
        seen = _read(folder)
        if table == "orders":
            seen = seen.sort_by("o_orderkey")
        assert seen.to_pylist() == wanted.to_pylist()
    assert column_bounds(open_source(made[1]["lineitem"]), ["l_discount"])[
        "l_discount"
    ].max == Decimal("0.10")


def test_statistics_are_there(made):
    for folder in made[1].values():
        data = sorted(p.name for p in folder.glob("[!.]*"))
        kept = sorted(p.name for p in folder.glob(".*.wherry-stats"))
        assert kept == [f".{name}.wherry-stats" for name in data]


def test_a_second_call_makes_nothing(made, monkeypatch):
    monkeypatch.setattr(kept, "replace", lambda *_: pytest.fail("made again"))
    assert tpch.generate(made[0], 0.001) == made[1]


def test_an_interrupted_call_is_not_taken_for_finished(tmp_path, monkeypatch):
    plain = tpch.store_orders

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tpch, "store_orders", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tpch.generate(tmp_path, 0.001)
    assert [p.name for p in tmp_path.iterdir()] == [".wherry-tpch"]
    (tmp_path / ".tpch-killed").mkdir()  # what a killed process leaves
    (tmp_path / "orders").mkdir()
    monkeypatch.setattr(tpch, "store_orders", plain)
    folders = tpch.generate(tmp_path, 0.001)
    assert _read(folders["orders"]).num_rows == 1500
    assert not (tmp_path / ".tpch-killed").exists()


def test_another_scale_factor_replaces(tmp_path):
    tpch.generate(tmp_path, 0.001)
    folders = tpch.generate(tmp_path, 0.002)
    assert _read(folders["customer"]).num_rows == 300


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "orders").mkdir()
    with pytest.raises(InputError, match="holds orders, which Wherry did not make"):
        tpch.generate(tmp_path, 0.001)


def test_bad_requests(tmp_path, monkeypatch):
    for scale_factor in (0, -1, float("nan")):
        with pytest.raises(InputError, match="a scale factor is above 0"):
            tpch.generate(tmp_path, scale_factor)
    monkeypatch.setattr(tpchgen, "GENERATOR", "false")
    with pytest.raises(WherryError, match=r"false --version failed \(1\): nothing"):
        tpch.generate(tmp_path, 1)
    monkeypatch.setattr(tpchgen, "GENERATOR", "no-such-generator")
    with pytest.raises(
        InputError, match="no-such-generator is not installed; python -m pip install"
    ):
        tpch.generate(tmp_path, 1)


def test_batches_are_cut_evenly_across_row_groups():
    pieces = [pa.record_batch({"x": list(range(a, b))}) for a, b in [(0, 5), (5, 6), (6, 23)]]
    left: list[pa.RecordBatch] = []
    batches = iter(pieces)
    halves = [list(tpch_layout._rebatch(tpch_layout._take(batches, left, 12), 5)) for _ in range(2)]
    assert [[b.num_rows for b in half] for half in halves] == [[5, 5, 2], [5, 5, 1]]
    assert [x for half in halves for b in half for x in b["x"].to_pylist()] == list(range(23))
