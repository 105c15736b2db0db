"""What queries find on a card that others left there, and what a card is given of odd columns."""

import pyarrow as pa
import pytest
from support.cards import ON_CARD, card
from support.compare import assert_same

import wherry as wh
from wherry import col
from wherry.render.cuda.totals import SPAN
from wherry.run.cells import cells_of

WHOLE = {"partial": "gpu0", **ON_CARD}


def table_of(*batches):
    return pa.Table.from_batches([pa.record_batch(each) for each in batches])


def same_again(q, system, pins=ON_CARD):
    """Run a query twice, and see that both answers are the host's."""
    one, other = (q.run(system, placement=pins) for _ in range(2))
    assert_same(one.table, q.collect(), ordered=True)
    assert one.table.combine_chunks().equals(other.table.combine_chunks())
    return other


def loaded(result):
    return sum(e.copied_bytes for e in result.ledger.entries if e.why.startswith("loaded"))


def test_nulls_that_only_rows_of_another_query_have():
    numbers = list(range(1000))
    table = table_of({"x": numbers, "k": [0] * 1000}, {"x": [None, *numbers], "k": [1] * 1001})
    scan = wh.scan(table)
    part = scan.filter(col("k") == 0).agg(x=col("x").sum(), n=col("x").count())
    with card() as (system, _):
        same_again(scan.agg(x=col("x").sum()), system)
        assert loaded(same_again(part, system)) < 20_000  # k only
        same_again(scan.select("x", "k").limit(5), system)


def test_a_device_is_named_as_before_once_it_is_the_home():
    scan = wh.scan(pa.table({"x": [1.5, 2.5], "k": [1, 2]}))
    q = scan.group_by("k").agg(x=col("x").max())
    with card() as (system, made):
        q.to("gpu0", system)
        for pins in (ON_CARD, WHOLE, {}):
            made.device.launches.clear()
            same_again(q, system, pins)
            assert made.device.launches
        with pytest.raises(wh.Refused, match="routing runs on the host"):
            q.run(system, placement={"routing": "gpu0"})


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
def test_columns_of_a_join_can_be_loaded(how):
    scan = wh.scan(pa.table({"k": [1, 2, 3], "x": [1.0, 2.0, 3.0]}))
    side = wh.scan(pa.table({"k": [2, 3], "y": [5, 6]}))
    q = scan.filter(col("x") > 1).join(side, on="k", how=how)
    with card() as (system, made):
        q.to("gpu0", system)
        assert set(made.held.nbytes) == {"k", "x"}
        same_again(q, system, {})


def test_views_go_without_other_rows_texts():
    texts = [f"a text that is longer than a view {n}" for n in range(4 * SPAN)]
    table = pa.table({"v": pa.array([*texts[1:], None], pa.string_view())})
    q = wh.scan(table).filter(col("v").str.ends_with("7")).select("v")
    with card() as (system, made):
        first = q.run(system, placement=ON_CARD)
        whole = table["v"].nbytes
        assert made.held.nbytes["v"] < 1.1 * whole
        assert loaded(first) == made.held.nbytes["v"]
        same_again(q, system)
    with card(whole) as (system, _):
        same_again(q, system)


def test_cells_of_tiny_batches_are_found_in_one_go():
    batch = pa.record_batch({"x": [1, 2, 3]})
    source = wh.scan(pa.Table.from_batches([batch] * 30_000)).source
    cells = cells_of(source, source.chunks())
    assert [cell.rows for cell in cells] == [90_000]
    assert sum(part.rows for part in cells[0].parts) == 90_000
    small = cells_of(source, source.chunks()[5:], SPAN)
    assert [cell.begin for cell in small] == [15, SPAN, 2 * SPAN]
    assert all(sum(part.rows for part in cell.parts) == cell.rows for cell in small)


def test_what_has_no_cuda_form_is_named_as_it_was_asked_for():
    coded = pa.array(["a", "b", "a"]).dictionary_encode()
    scan = wh.scan(pa.table({"c": coded, "m": [1, 2, 3]}))
    side = wh.scan(pa.table({"n": [0, 1], "m": [2, 3]}))
    starts = col("c").str.starts_with("a").cast(pa.int64())
    q = scan.with_columns(n=starts).join(side, on=["n", "m"], how="semi")
    with card() as (system, _), pytest.raises(wh.Refused) as refused:
        q.run(system, placement=ON_CARD)
    assert any("starts_with(c, " in reason for reason in refused.value.reasons)
    with card() as (system, _):
        same_again(q, system, {})


def test_dictionaries_of_the_host_may_have_equal_entries():
    codes = pa.array([0, 1, 2, 2, None, 1], pa.int8())
    odd = pa.DictionaryArray.from_arrays(codes, pa.array(["x", "y", "x"]))
    table = pa.table({"c": odd, "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    q = wh.scan(table).group_by("c").agg(x=col("x").sum(), n=wh.count())
    with card() as (system, _):
        for pins in (WHOLE, {"near": "home", "partial": "gpu0"}, {"near": "gpu0"}):
            same_again(q, system, pins)


def test_groups_by_what_is_looked_up_by_code():
    coded = pa.array(["a", "bc", "a", None, "b"]).dictionary_encode()
    scan = wh.scan(pa.table({"c": coded, "n": [1, 2, 3, 4, 5]}))
    number = col("c").str.starts_with("b").cast(pa.int64()) + col("n")
    with card() as (system, _):
        same_again(scan.group_by(k=number).agg(n=col("n").max()), system, WHOLE)


def test_groups_of_bounded_keys_run_apart_from_what_filters():
    table = pa.table({"k": [n % 5 for n in range(1000)], "x": [n / 8 for n in range(1000)]})
    q = wh.scan(table).filter(col("x") > 3).group_by("k").agg(x=col("x").sum())
    with card() as (system, made):
        for near in ("home", "gpu0"):
            made.device.launches.clear()
            same_again(q, system, {"near": near, "partial": "gpu0"})
            assert set(made.device.launches) == {"group_pass", "fold_pass"}


def test_what_no_kernel_has_room_for_is_refused_when_it_is_planned():
    values = [n / 8 for n in range(1000)]
    coded = pa.array([f"v{n}" for n in range(50_000)]).dictionary_encode()
    scan = wh.scan(pa.table({"k": range(1000), "x": values}))
    texts = wh.scan(pa.table({"c": coded, "x": [1.0] * len(coded)}))
    summed = {"x": col("x").sum()}
    wide = scan.select(**{f"a{n}": col("x") > n for n in range(70)})
    for q, reason in (
        (scan.group_by(k=col("k") + 1).agg(**summed), "no fixed order"),
        (texts.group_by("c").agg(**summed), "no fixed order"),
        (wide, "70 outputs are truths"),
        (scan.select(**{f"a{n}": col("x") + n for n in range(600)}), "kernel takes 512"),
    ):
        with card() as (system, _):
            with pytest.raises(wh.Refused, match=f"{kind_of(q)} at gpu0: .*{reason}"):
                q.run(system, placement=WHOLE)
            same_again(q, system, {})


def kind_of(q):
    return "partial" if any("Group" in type(each).__name__ for each in q.operators) else "near"


def test_what_is_known_of_rows_that_lie_there_is_bounded():
    table = pa.table({"k": list(range(100)), "x": [0.5] * 100})
    scan = wh.scan(pa.Table.from_batches(table.to_batches(max_chunksize=1)))
    with card() as (system, made):
        scan.agg(x=col("x").sum(), k=col("k").sum()).to("gpu0", system)
        for k in range(100):
            q = scan.filter(col("k") == k).agg(x=col("x").sum())
            assert q.run(system).table.to_pylist() == [{"x": 0.5}]
        assert len(made.held._together) == 64
