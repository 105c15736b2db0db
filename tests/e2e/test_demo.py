"""The demo, small: all answers equal to DuckDB's, and the same figures every time."""

import json

import pyarrow as pa
import pytest

from wherry import cli
from wherry.benchmarks import offload, tpch, workload
from wherry.benchmarks.workloads import WORKLOADS, orders
from wherry.devices.system import load_system


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tpch.generate(folder / "tpch-0.01", 0.01)
    return folder


@pytest.fixture(scope="module")
def tables(data):
    return tpch.generate(data / "tpch-0.01", 0.01)


@pytest.fixture
def few(monkeypatch):
    """Ask a tenth of the requests: the rest would only take longer."""
    monkeypatch.setattr(orders, "REQUESTS", 100)


def _demo(capsys, data, *words):
    code = cli.main(["demo", "--data", str(data), "--sf", "0.01", *words])
    return code, capsys.readouterr().out


def test_all_are_equal_to_duckdb_and_the_same_every_time(capsys, data, few):
    code, out = _demo(capsys, data, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["took"]["origin"] == "measured"
    assert [w["name"] for w in found["workloads"]] == ["q6", "q1", "orders"]
    for each in found["workloads"]:
        assert each["equal_to_duckdb"] is True
        assert each["rows"] > 0
        assert "host only" in {run["role"] for run in each["runs"]}
        for run in each["runs"]:
            assert run["time"]["origin"] == "modelled"
            assert run["p50"]["ns"] <= run["p99"]["ns"] <= run["time"]["ns"]
    _, again = _demo(capsys, data, "--json")
    assert json.loads(again)["workloads"] == found["workloads"]


def test_text_says_all_of_it(capsys, data, few):
    code, out = _demo(capsys, data)
    assert code == 0
    assert out.count("equal to DuckDB") == 3
    for words in ("host only", "client->dpu0", "all links", "cold", "p99", "modelled", "measured"):
        assert words in out
    assert "routing@dpu0 near+respond@home" in out


def test_requests_are_routed_on_the_nic_and_answered_by_one_drive(tables, few):
    system = load_system("dpu-csd-host")
    outcome = offload.compare(WORKLOADS["orders"], tables, system)
    near, host = outcome.runs
    assert near.placement == "routing@dpu0 near@home respond@home"
    assert "pcie0->host0" not in near.link_bytes
    assert sum(near.link_bytes.values()) < sum(host.link_bytes.values()) / 10
    assert outcome.difference is None


def test_some_customers_have_no_orders(tables):
    asked = orders.requests(tables)
    assert len(asked) == 1000
    assert asked == orders.requests(tables)
    answers = orders.reference(tables)
    assert len(answers) == 1000
    assert sum(answer.num_rows == 0 for answer in answers) > 300


def test_a_wrong_answer_is_said_and_fails(capsys, data, monkeypatch):
    wrong = workload.Workload(
        "q6", "wrong", WORKLOADS["q6"].pipelines,
        lambda _: [pa.table({"revenue": [1]})], True, workload.on_drives,
    )  # fmt: skip
    monkeypatch.setattr(cli.demo, "WORKLOADS", {"q6": wrong})
    assert cli.main(["demo", "--data", str(data), "--sf", "0.01"]) == 1
    out, err = capsys.readouterr()
    assert "NOT EQUAL to DuckDB" in out
    assert "not equal to DuckDB: q6: planner's choice: row 0 is " in err
    assert cli.main(["demo", "--data", str(data), "--sf", "0.01", "--json"]) == 1
    out, _ = capsys.readouterr()
    assert json.loads(out)["workloads"][0]["equal_to_duckdb"] is False
