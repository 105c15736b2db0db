"""Queries on a card by the public face: the answers are the host's, and what is there is kept."""

import pytest
from pyarrow import parquet
from support.accelerators import ACCELERATORS, the_card
from support.cards import card
from support.compare import assert_same

import wherry as wh
from wherry.benchmarks.gpu import lineitem
from wherry.benchmarks.gpu.ours import ways_of
from wherry.benchmarks.gpu.questions import questions
from wherry.data.arrow_write import write_ipc
from wherry.devices.this_machine import THIS_MACHINE

ROWS = {"shim": 70_000, "card": 6_000_000}


@pytest.fixture(scope="module", params=ACCELERATORS)
def machine(request):
    """Give a system with a card, what the card is called, and rows as many as suit it."""
    data = lineitem.made(1.0).first(ROWS[request.param])
    if request.param == "card":
        yield THIS_MACHINE, the_card().name, data
        return
    with card(1 << 28) as (system, made):
        yield system, made.device.name, data


@pytest.fixture(scope="module")
def sources(machine, tmp_path_factory):
    """Give the rows as a table, as an Arrow file and as a Parquet file."""
    folder, table = tmp_path_factory.mktemp("rows"), machine[2].table()
    path = folder / "rows.arrow"
    write_ipc(path, table.schema, table.to_batches())
    plain = folder / "rows.parquet"
    parquet.write_table(table, plain, compression="none")
    return {"table": table, "arrow": path, "parquet": plain}


@pytest.mark.parametrize("name", questions())
@pytest.mark.parametrize("kind", ["table", "arrow", "parquet"])
def test_answers_are_those_of_the_host(name, kind, machine, sources):
    system, site, _ = machine
    made = questions()[name].pipeline(wh.scan(sources[kind]))
    wanted = made.collect()
    first = made.run(system, placement={"near": site}, strict=True)
    assert_same(first.table, wanted, ordered=name != "q1")
    again = made.run(system, placement={"near": site}, strict=True)
    assert again.table.equals(first.table)
    if kind != "parquet":
        assert sum(ways_of(first).values()) > 0
        assert not ways_of(again)


def test_what_has_no_cuda_form_runs_on_the_host(machine, sources):
    """Merging what was sorted does, over what came from the card."""
    system, site, _ = machine
    rows = wh.scan(sources["arrow"]).filter(wh.col("key") < 5000)
    made = rows.select("key", "l_returnflag", "l_tax").sort("key", "l_tax", "l_returnflag")
    found = made.run(system, placement={"near": site})
    assert_same(found.table, made.collect(), ordered=True)
    assert f"near@{site}" in found.placement
