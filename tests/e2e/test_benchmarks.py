"""`wherry bench kernels`: everybody is asked the same, and answers are compared."""

import os
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import dataset
from support.interrupted import interruptible

from wherry.benchmarks.kernels import measure as measuring
from wherry.benchmarks.kernels import peers, report, rounds
from wherry.benchmarks.kernels.data import generate
from wherry.benchmarks.kernels.families import questions
from wherry.benchmarks.kernels.goals import GOALS
from wherry.benchmarks.kernels.limits import limit, pinned_crew
from wherry.benchmarks.kernels.peers.peer import Form, Peer
from wherry.benchmarks.kernels.row import Row
from wherry.data.source import open_source

SMALL = 0.001
MAIN = [sys.executable, "-c", "import sys; from wherry.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder for `--data`: it holds bench-0.001."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def data(folder):
    return generate(folder / f"bench-{SMALL:g}", SMALL)


@pytest.fixture(scope="module")
def asked(data):
    return questions(data)


def test_every_goal_has_a_question_and_no_more(asked):
    assert sorted(asked) == sorted(GOALS)


def test_tables_are_typed_as_promised(data):
    for table, kind in (("float64", pa.float64()), ("decimal", pa.decimal128(15, 2))):
        assert data.mapped(table).schema.field("l_discount").type == kind
    codes = data.mapped("dictionary").schema.field("l_shipmode").type
    assert codes == pa.dictionary(pa.int8(), pa.utf8())
    assert data.mapped("float64").schema.field("l_shipmode").type == pa.utf8()
    assert {data.mapped(t).num_rows for t in ("float64", "decimal", "shuffled")} == {6005}
    assert open_source(data.path("shuffled")).schema.names == ["l_orderkey", "l_quantity"]


@pytest.mark.parametrize("peer", peers.installed(), ids=lambda peer: peer.package)
@pytest.mark.parametrize("name", GOALS)
def test_peers_answer_as_pyarrow_does(name, peer, data, asked):
    """Whatever Wherry can be asked yet: each form of each peer gives the same rows."""
    question = asked[name]
    tables = {"t": _whole(data, question), "keys": data.mapped("keys")}
    wanted = next(iter(question.arrow(tables).values()))()
    with peer.forms(question, data, 1) as forms:
        assert forms
        for form in forms:
            assert question.differs(form.answer(form.ask()), wanted) is None, form.name


def _whole(data, question):
    if question.from_parquet:
        return dataset.dataset(data.path(question.tables["t"]))
    return data.mapped(question.tables["t"])


@pytest.mark.parametrize("name", GOALS)
def test_wherry_answers_as_its_peers(name, data, asked):
    """Or says in words that it lacks what the question needs."""
    with pinned_crew([min(os.sched_getaffinity(0))]) as crew:
        row = measuring.measure(
            name, asked[name], data, [peers.arrow.PEER], crew, threads=1, rounds=1
        )
    assert row.goal == GOALS[name].ratio
    if row.absent is not None:
        assert row.wherry_ms is None
        assert row.met is None
        return
    assert row.answers == "equal"
    assert row.failed == {}
    assert row.wherry_ms > 0
    assert row.limit_ms > 0
    assert row.ratio_to_best == pytest.approx(row.peers[row.best_peer] / row.wherry_ms, abs=1e-3)


def test_a_wrong_answer_and_a_failure_are_in_the_row(data, asked):
    question = asked["q6-float64"]

    class Forms(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def fail():
        raise ValueError("out of cheese")

    wrong = pa.table({"revenue": [1.0]})
    forms = Forms([Form("liar", lambda: wrong, lambda t: t), Form("broken", fail, lambda t: t)])
    with pinned_crew([min(os.sched_getaffinity(0))]) as crew:
        row = measuring.measure(
            "q6-float64", question, data, [Peer("odd", lambda *_: forms)], crew, threads=1, rounds=1
        )
    assert row.answers.startswith("liar: revenue is 1.0, not ")
    assert row.failed == {"broken": "ValueError: out of cheese"}
    assert set(row.peers) == {"liar"}
    assert not row.equal


def test_rounds_take_turns_and_medians():
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in "abc"}
    timing = rounds.timed(work, 4)
    assert "".join(calls) == "abc" + "bca" + "cab" + "abc"
    assert set(timing.ms) == {"a", "b", "c"}
    assert timing.rounds == 4
    assert 0 <= timing.disturbed <= 4


def test_disturbed_rounds_do_not_count_when_enough_are_quiet(monkeypatch):
    busy = iter([0, 0, 0, 9, 9, 9, 9, 9])  # seconds of others before and after four rounds
    monkeypatch.setattr(rounds, "_others_seconds", lambda: next(busy))
    durations = iter([(1.0, 0.5), (50.0, 9.0), (2.0, 0.7), (3.0, 0.9)])
    monkeypatch.setattr(rounds, "_milliseconds", lambda _: next(durations))
    timing = rounds.timed({"a": lambda: None}, 4)
    assert (timing.ms, timing.cpu_ms, timing.disturbed) == ({"a": 2.0}, {"a": 0.7}, 1)


def test_the_limit_reads_every_byte(data, asked, monkeypatch):
    """Of the columns that are named; text has its offsets and its characters."""
    seen = []

    def crew(_, items):
        seen.append(sum(item.nbytes for item in items))

    limit(asked["q6-float64"], data, crew)()
    limit(asked["text-contains"], data, crew)()
    table = data.mapped("float64")
    assert seen[0] == pytest.approx(table.num_rows * (4 + 8 + 8 + 8), abs=8)
    comments = sum(len(text) for text in table["l_comment"].to_pylist())
    assert seen[1] == pytest.approx(comments + 4 * table.num_rows, abs=16)


def test_json_has_machine_and_rows(wherry, folder, data):
    words = ("--scale-factor", SMALL, "--data", folder, "--rounds", 1, "--threads", 1)
    chosen = ("--workload", "filter-1%", "--workload", "q6-float64", "--workload", "semi-join-1%")
    said = wherry("bench", "kernels", *words, *chosen, "--json")
    assert said.code == 0, said.err
    assert set(said.json) == {"machine", "rows"}
    assert said.json["machine"]["read_gb_per_s"]["1"] > 0
    assert said.json["machine"]["peers"] == peers.versions()
    rows = {row["workload"]: row for row in said.json["rows"]}
    assert list(rows) == ["q6-float64", "filter-1%", "semi-join-1%"]  # the order of the goals
    first = rows["q6-float64"]
    assert (first["threads"], first["scale_factor"], first["goal"]) == (1, SMALL, 1.7)
    assert first["answers"] == "equal"
    assert first["best_peer"] in first["peers"]
    assert set(first["cpu_ms"]) == {"wherry", *first["peers"]}
    assert first["limit"] == "reading l_shipdate, l_discount, l_quantity, l_extendedprice"
    assert first["origin"] == "measured"


def test_table_and_chart(wherry, folder, data, tmp_path):
    pytest.importorskip("matplotlib")
    chart = tmp_path / "kernels.svg"
    words = ("--scale-factor", SMALL, "--data", folder, "--rounds", 1, "--threads", 1)
    said = wherry("bench", "kernels", *words, "--workload", "q6-float64", "--chart", chart)
    assert said.code == 0, said.err
    assert "scale factor 0.001, 1 thread" in said.out
    assert "geometric mean of the ratios" in said.out
    assert "all answers equal" in said.out
    assert "q6-float64" in chart.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--workload", "q7"), "no workload 'q7'"),
        (("--threads", "9999"), "--threads 9999: possible are 1 to "),
        (("--scale-factor", "0"), "a scale factor is above 0 and finite, not 0.0"),
        (("--chart", "kernels.pdf"), "--chart kernels.pdf: possible are .svg and .png files"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_made(wherry, tmp_path, words, complaint):
    said = wherry("bench", "kernels", "--data", tmp_path, *words)
    assert said.code == 2
    assert complaint in said.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_workload_is_told_all_there_are(wherry):
    said = wherry("bench", "kernels", "--workload", "q7")
    assert all(name in said.err for name in GOALS)


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", (Peer("no-such-engine", None), peers.arrow.PEER))
    assert peers.versions()["no-such-engine"] == "absent"
    assert [peer.package for peer in peers.installed()] == ["pyarrow"]


def test_the_mean_is_geometric_and_leaves_out_what_is_absent():
    rows = [
        Row(workload=w, threads=1, scale_factor=1.0, goal=2.0, ratio_to_best=ratio)
        for w, ratio in (("a", 2.0), ("b", 8.0), ("c", None))
    ]
    assert report.mean_ratio(rows) == pytest.approx(4.0)
    assert report.mean_ratio(rows[2:]) is None


def test_interrupted_it_leaves_nothing_behind(folder, data):
    words = ["bench", "kernels", "--scale-factor", str(SMALL), "--data", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    more = ["--rounds", "1000000", "--workload", "q6-float64", "--threads", "1"]
    with interruptible([*MAIN, *words, *more], environment) as process:
        child = _child_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "wherry: interrupted\n"
    assert not Path(f"/proc/{child}").exists()
    assert sorted(path.name for path in data.folder.parent.iterdir()) == [
        ".wherry-tpch",
        "lineitem",
    ]


def _child_of(parent):
    children = Path(f"/proc/{parent}/task/{parent}/children")
    for _ in range(600):
        found = children.read_text().split()
        if found and b"kernels.child" in Path(f"/proc/{found[0]}/cmdline").read_bytes():
            return int(found[0])
        time.sleep(0.05)
    raise AssertionError("no measuring process was started")


def test_growth_is_per_row(wherry, tmp_path):
    scales = ("--scale-factor", 0.001, "--scale-factor", 0.002)
    words = ("bench", "growth", *scales, "--data", tmp_path, "--rounds", 1)
    said = wherry(*words, "--json")
    assert said.code == 0, said.err
    rows = said.json["rows"]
    assert [row["scale_factor"] for row in rows] == [0.001, 0.002] * 3
    assert {row["question"] for row in rows} == {"q6", "q1", "filter 50 %"}
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        assert small["against_first"] == 1
        assert large["against_first"] == pytest.approx(large["row_ns"] / small["row_ns"])
        assert large["rows"] > 1.8 * small["rows"]
        assert large["row_ns"] * large["rows"] == pytest.approx(large["query_ms"] * 1e6)
    assert "q1" in wherry(*words).out
