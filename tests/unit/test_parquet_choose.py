"""Rows chosen by several dictionaries in one call are those whose values pass every test."""

from decimal import Decimal
from functools import reduce
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import wherry as wh
from wherry.base.errors import CorruptError
from wherry.data import parquet_late

TYPES = (
    pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(),
    pa.timestamp("us"), pa.decimal128(9, 2), pa.decimal128(18, 0),
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("choose")
    return (root / f"{number}.parquet" for number in count())


@pytest.fixture
def chosen(monkeypatch):
    """How many rows passed each time, None where all did."""
    seen, plain = [], parquet_late.choose

    def remember(asked, kept, tally):
        found = plain(asked, kept, tally)
        seen.append((tuple(one.test.name for one in asked), None if found is None else found[1]))
        return found

    monkeypatch.setattr(parquet_late, "choose", remember)
    return seen


def _array(values, t):
    """Give small integers as values of a type."""
    if pa.types.is_decimal(t):
        return pa.array([None if value is None else Decimal(value) for value in values], t)
    if pa.types.is_date32(t) or pa.types.is_timestamp(t):
        return pa.array(values, pa.int32() if t.bit_width == 32 else pa.int64()).cast(t)
    return pa.array(values, t)


@settings(max_examples=max(60, settings().max_examples))
@given(st.data())
def test_rows_pass_every_test(files, data):
    rows = data.draw(st.integers(300, 1500))
    types = data.draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4))
    generator = data.draw(st.randoms(use_true_random=False))
    columns, terms, masks = {"n": pa.array(range(rows))}, [], []
    for number, t in enumerate(types):
        different, nulls = data.draw(st.integers(1, 120)), data.draw(st.sampled_from([0, 0, 0.2]))
        values = [
            None if generator.random() < nulls else generator.randrange(different)
            for _ in range(rows)
        ]
        array = columns[f"c{number}"] = _array(values, t)
        most = _array([data.draw(st.integers(0, different))], t)[0]
        terms.append(wh.col(f"c{number}") < most.as_py())
        masks.append(pc.fill_null(pc.less(array, most), False))
    table, path = pa.table(columns), next(files)
    parquet.write_table(
        table,
        path,
        use_dictionary=[name for name in columns if name != "n"],
        row_group_size=data.draw(st.sampled_from([rows, 256, 300])),
        data_page_size=data.draw(st.sampled_from([64, 1 << 20])),
        write_batch_size=64,
        compression=data.draw(st.sampled_from(["snappy", "none", "zstd"])),
    )
    wanted = table.filter(reduce(pc.and_, masks))
    query = wh.scan(path).filter(*terms)
    assert query.select("n").collect()["n"].to_pylist() == wanted["n"].to_pylist()
    total = query.agg(s=wh.col("n").sum(), k=wh.count()).collect().to_pylist()
    assert total == [{"s": pc.sum(wanted["n"]).as_py(), "k": len(wanted)}]


def test_one_call_tests_all_columns(files, chosen):
    table = pa.table(
        {
            "a": pa.array([i % 3 for i in range(1000)]),
            "b": pa.array([Decimal(i % 7) for i in range(1000)], pa.decimal128(9, 2)),
            "s": pa.array([f"text {i}" for i in range(1000)]),
        }
    )
    path = next(files)
    parquet.write_table(table, path, use_dictionary=["a", "b"])
    assert wh.scan(path).filter(wh.col("a") < 9, wh.col("b") < 9).collect().num_rows == 1000
    found = wh.scan(path).filter(wh.col("a") == 1, wh.col("b") < 2).collect()
    wanted = [i for i in range(1000) if i % 3 == 1 and i % 7 < 2]
    assert found["s"].to_pylist() == [f"text {i}" for i in wanted]
    assert wh.scan(path).filter(wh.col("a") < 0, wh.col("b") < 2).collect().num_rows == 0
    # Bounds exclude the last: nothing was asked of the row group.
    assert chosen == [(("a", "b"), 1000), (("a", "b"), len(wanted))]


@pytest.mark.parametrize("name", ["a", "b"])
def test_damage_in_a_dictionary_or_in_indices_is_found(files, name):
    table = pa.table({"a": [i % 300 for i in range(9000)], "b": [i % 5 for i in range(9000)]})
    path = next(files)
    parquet.write_table(table, path, compression="snappy", write_statistics=False)
    column = parquet.read_metadata(path).row_group(0).column("ab".index(name))
    whole, start = path.read_bytes(), column.dictionary_page_offset
    found = set()
    for at in range(start, start + column.total_compressed_size, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            wh.scan(path).filter(wh.col("a") < 100, wh.col("b") < 3).collect()
        except CorruptError as error:
            assert f"column {name!r}" in str(error)  # noqa: PT017  not every damage shows
            found.add("refused")
    assert found


def test_a_decimal_that_its_type_excludes_is_told_by_row(files, chosen):
    narrow, path = pa.decimal128(5, 0), next(files)
    decimals = pa.array([Decimal(i % 40) for i in range(2000)], narrow)
    parquet.write_table(
        pa.table({"d": decimals}), path, store_decimal_as_integer=True, compression="none",
        write_statistics=False,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    place = data.index((7).to_bytes(4, "little") + (8).to_bytes(4, "little"))
    data[place : place + 4] = (2_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="precision"):
        wh.scan(path).filter(wh.col("d") < 5).collect()
    assert [passed for _, passed in chosen] == [None]
