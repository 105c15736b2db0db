"""Movables from declaration to answer: every await, on this machine and on emulated systems."""

import errno
import json
import traceback
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

import wherry as wh
from wherry import col
from wherry.movables.places import sealing_key
from wherry.run.records import RUNNING

ORDERS = pa.table(
    {
        "customer": [1, 2, 1, 1, 3, 1, 2],
        "day": [date(2020, 1, n) for n in range(1, 8)],
        "price": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0],
    }
)
SYSTEMS = ["this-machine", "dpu-csd-host", "gpu-direct-host", "rack-16"]
GIVEN = {"datasets": {"orders": ORDERS}}
CALLS = []


@wh.once
def charge(customer: int, amount: float) -> str:
    CALLS.append((customer, amount))
    return f"receipt {len(CALLS)}"


@wh.once
def fails(customer: int) -> int:
    raise ValueError(f"no account {customer}")


@wh.idempotent(key="customer")
def greet(customer: int) -> str:
    return f"dear {customer}"


@wh.movable
async def largest(customer: int, most: int) -> pa.Table:
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(lambda r: r.customer == customer).select("day", "price")
    if rows.num_rows > most:
        rows = await rows.top_k(most, by="price")
    return await wh.respond(rows)


@wh.movable
async def total(customer: int) -> float:
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("customer") == customer).agg(total=col("price").sum())
    found: float = await wh.value(rows, "total")
    return found


@wh.movable
async def several(first: int, last: int) -> tuple[float, int]:
    whole = 0.0
    count = 0
    for customer in range(first, last):
        amount = await total(customer)
        whole += amount
        count += 1
    return (whole, count)


@wh.movable
async def both(customer: int) -> tuple[int, int]:
    shard = await wh.route("orders", key=customer)
    mine, others = await wh.gather(
        shard.filter(col("customer") == customer), shard.filter(col("customer") != customer)
    )
    return (mine.num_rows, others.num_rows)


@wh.movable
async def bill(customer: int) -> str:
    amount = await total(customer)
    said = await charge(customer, amount)
    hello = await greet(customer)
    return f"{hello}: {said}"


@wh.movable
async def brave(customer: int) -> str:
    try:
        n = await fails(customer)
    except ValueError as error:
        return f"caught {error}"
    return str(n)


@wh.movable
async def patient(customer: int) -> pa.Table:
    rows = await wh.scan("orders").filter(col("customer") == customer)
    ok: bool = await wh.event("ok")
    if not ok:
        rows = await rows.limit(0)
    return await wh.respond(rows)


@wh.movable
async def asked(customer: int) -> int:
    rows = await wh.scan("orders").filter(col("customer") == customer)
    ok: bool = await wh.event("ok")
    return rows.num_rows if ok else 0


@wh.movable
async def sleepy(customer: int) -> int:
    rows = await wh.scan("orders").filter(col("customer") == customer)
    await wh.sleep(timedelta(milliseconds=20))
    return rows.num_rows


@wh.movable
async def busy(times: int) -> int:
    seen = 0
    for _ in range(times):
        rows = await wh.scan("orders").limit(1)
        seen += rows.num_rows
    return seen


@wh.movable
async def wrong(customer: int) -> int:
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("customers") == customer)
    return rows.num_rows


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_answer_is_the_same_wherever_it_runs(system):
    found = largest.run(1, 2, system=system, **GIVEN)
    assert found.table.to_pydict() == {
        "day": [date(2020, 1, 6), date(2020, 1, 4)], "price": [60.0, 40.0],
    }  # fmt: skip
    assert found.used["hops"] == len(found.hops) == 5
    assert total.run(1, system=system, **GIVEN).value == 140.0
    assert several.run(1, 4, system=system, **GIVEN).value == (280.0, 3)
    assert both.run(2, system=system, **GIVEN).value == (2, 5)
    assert sleepy.run(1, system=system, **GIVEN).value == 4


def test_an_emulated_run_says_modelled_and_is_the_same_twice():
    first, second = (largest.run(1, 2, system="dpu-csd-host", **GIVEN) for _ in range(2))
    assert isinstance(first.time, wh.Modelled)
    assert first.time == second.time
    assert [r.used for r in first.receipts] == [r.used for r in second.receipts]
    assert first.used["bytes"] > 0
    assert isinstance(largest.run(1, 2, **GIVEN).time, wh.Measured)


def test_effects_are_called_by_home_and_their_results_come_back():
    CALLS.clear()
    assert bill.run(1, **GIVEN).value == "dear 1: receipt 1"
    assert CALLS == [(1, 140.0)]


def test_an_error_of_an_effect_can_be_caught():
    assert brave.run(7, **GIVEN).value == "caught no account 7"


def test_an_error_comes_with_one_traceback_over_all_hops():
    with pytest.raises(wh.InputError, match="customers") as caught:
        wrong.run(1, system="dpu-csd-host", **GIVEN)
    shown = traceback.extract_tb(caught.value.__traceback__)
    lines = Path(__file__).read_text().splitlines()
    hops = [(f.name, lines[f.lineno - 1].strip()) for f in shown if " on " in f.name]
    assert hops == [
        ("wrong on client", "async def wrong(customer: int) -> int:"),
        ("wrong on dpu0", 'shard = await wh.route("orders", key=customer)'),
        ("wrong on host0", 'rows = await shard.filter(col("customers") == customer)'),
    ]


@pytest.mark.parametrize("system", SYSTEMS[:2])
def test_a_dormant_continuation_outlives_its_home(tmp_path, system):
    journal = tmp_path / "orders.journal"
    given = {"system": system, **GIVEN}
    with wh.open_home(journal, **given) as home:
        id_ = home.start(patient, 1)
        with pytest.raises(wh.Dormant, match="waits for event 'ok'"):
            home.result(id_)
    with wh.open_home(journal, **given) as home:
        home.signal("ok", True)
        found = home.result(id_)
        assert found.table.num_rows == 4
    with wh.open_home(journal, **given) as home:
        assert home.result(id_).table.equals(found.table)


def test_an_event_that_comes_first_is_kept(tmp_path):
    with wh.open_home(tmp_path / "j", **GIVEN) as home:
        home.signal("ok", False)
        assert home.result(home.start(patient, 1)).table.num_rows == 0


def test_an_event_of_another_type_is_an_error_at_its_await(tmp_path):
    with wh.open_home(tmp_path / "j", **GIVEN) as home:
        home.signal("ok", "yes")
        with pytest.raises(wh.InputError, match="should be bool"):
            home.result(home.start(patient, 1))


def test_a_continuation_can_be_cancelled(tmp_path):
    with wh.open_home(tmp_path / "j", **GIVEN) as home:
        id_ = home.start(patient, 1)
        with pytest.raises(wh.Dormant):
            home.result(id_)
        home.cancel(id_)
        with pytest.raises(wh.WherryError, match="somebody asked"):
            home.result(id_)
        assert home.stores.kept() == frozenset()


def test_a_budget_that_is_exceeded_ends_it_at_the_next_await():
    with pytest.raises(wh.BudgetExceeded, match="rows exceeded: 4 used"):
        largest.run(1, 2, budget={"rows": 3}, **GIVEN)
    assert largest.run(1, 2, budget={"rows": 6, "hops": 5}, **GIVEN).table.num_rows == 2
    with pytest.raises(wh.BudgetExceeded, match="hops exceeded"):
        several.run(1, 4, budget={"hops": 5}, **GIVEN)


def test_a_deadline_ends_it(tmp_path):
    with wh.open_home(tmp_path / "j", **GIVEN) as home:
        id_ = home.start(busy, 1_000_000, timeout_s=0.05)
        with pytest.raises(wh.WherryError, match="deadline"):
            home.result(id_, timeout_s=20)


def test_arguments_are_checked():
    with pytest.raises(wh.InputError, match="customer"):
        largest.run("one", 2, **GIVEN)
    with pytest.raises(wh.InputError, match="most"):
        largest.run(1, **GIVEN)
    with pytest.raises(wh.InputError, match=r"use largest\.run"):
        largest(1, 2)
    with pytest.raises(wh.InputError, match="awaited in a function"):
        wh.sleep(1)
    with pytest.raises(wh.InputError, match="no dataset 'orders'"):
        largest.run(1, 2)


def test_the_trace_has_every_hop():
    found = largest.run(1, 2, system="dpu-csd-host", **GIVEN)
    spans = json.loads(found.otlp)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["name"] for span in spans] == [hop.receipt.what for hop in found.hops]


def test_rows_of_the_ended_leave_even_if_home_was_killed_as_they_did(tmp_path, monkeypatch):
    journal = tmp_path / "j"
    with wh.open_home(journal, **GIVEN) as home:
        id_ = home.start(asked, 1)
        with pytest.raises(wh.Dormant):
            home.result(id_)
    (file,) = tmp_path.glob("j.rows/*/*.arrow")
    half = file.with_name(f".{'ab' * 16}.arrow.1.part")
    half.write_bytes(b"a killed process wrote so far")

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("wherry.movables.stores.Stores.end", killed)
        with pytest.raises(Killed), wh.open_home(journal, **GIVEN) as home:
            home.signal("ok", True)
    assert file.exists()
    with wh.open_home(journal, **GIVEN) as home:
        assert not [path for path in tmp_path.glob("j.rows/**/*") if path.is_file()]
        assert home.result(id_).value == 4


def test_a_key_that_is_lost_or_another_one_is_refused_and_nothing_is_made(tmp_path):
    journal, key = tmp_path / "j", tmp_path / "j.key"
    with wh.open_home(journal, **GIVEN) as home:
        id_ = home.start(asked, 1)
        with pytest.raises(wh.Dormant):
            home.result(id_)
    right = key.read_bytes()
    key.unlink()
    with pytest.raises(wh.InputError, match=r"j\.key is not here"), wh.open_home(journal, **GIVEN):
        pass
    assert not key.exists()
    key.write_bytes(bytes(32))
    with pytest.raises(wh.InputError, match="not the key that"), wh.open_home(journal, **GIVEN):
        pass
    key.write_bytes(right)
    with wh.open_home(journal, **GIVEN) as home:
        home.signal("ok", True)
        assert home.result(id_).value == 4


def test_a_key_that_cannot_be_written_whole_is_not_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr("wherry.movables.places.os.write", full)
        with pytest.raises(wh.InputError, match=r"j\.key cannot be written: no room"):
            sealing_key(tmp_path / "j")
    assert not list(tmp_path.iterdir())
    assert sealing_key(tmp_path / "j") == sealing_key(tmp_path / "j")


@pytest.mark.parametrize("payload", ["\ud800", object(), {1j: 1}])
def test_a_payload_that_json_lacks_is_refused(tmp_path, payload):
    with (
        wh.open_home(tmp_path / "j", **GIVEN) as home,
        pytest.raises(wh.InputError, match="not what JSON has"),
    ):
        home.signal("ok", payload)


def test_one_that_was_under_way_when_home_was_killed_can_be_cancelled(tmp_path):
    orders = tmp_path / "orders.arrow"
    with ipc.new_file(orders, ORDERS.drop_columns("day").schema) as file:
        file.write_table(ORDERS.drop_columns("day"))
    with wh.open_home(tmp_path / "j", datasets={"orders": orders}) as home:
        id_ = home.start(asked, 1)
        with pytest.raises(wh.Dormant):
            home.result(id_)
    orders.unlink()
    with pytest.raises(wh.InputError, match="cannot be read"), wh.open_home(tmp_path / "j") as home:
        home.signal("ok", True)
    with wh.open_home(tmp_path / "j", only=()) as home:
        assert [one.state for one in home.journal.active()] == [RUNNING]
        home.cancel(id_)
        with pytest.raises(wh.WherryError, match="somebody asked for its end"):
            home.result(id_)
    assert not [path for path in tmp_path.glob("j.rows/**/*") if path.is_file()]
