"""`wherry bench systems` from the command line: table, JSON, report, mistakes, Ctrl-C."""

import json
import os
import signal
import sys
import time

import pytest
from support.interrupted import interruptible

MAIN = [sys.executable, "-c", "import sys; from wherry.cli import main; sys.exit(main())"]
SMALL = ("--scale-factor", "0.001")
FEW = ("--workload", "q6", "--workload", "lookup", "--workload", "mixed", "--workload", "serve")
ON = ("--system", "dpu-csd-host", "--system", "edge-agilio", "--requests", "30")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


def test_table_json_and_report_say_the_same(wherry, data, tmp_path):
    words = ("bench", "systems", *SMALL, *FEW, *ON, "--data", data)
    out, page = tmp_path / "out.json", tmp_path / "report.html"
    said = wherry(*words, "--json", out, "--report", page)
    assert (said.code, said.err) == (0, "")
    assert "every time modelled" in said.out
    assert "lost against the best placement, over 4 cells" in said.out
    found = json.loads(out.read_bytes())
    assert [(row["workload"], row["system"]) for row in found["rows"]] == [
        ("q6", "dpu-csd-host"), ("q6", "edge-agilio"),
        ("lookup", "dpu-csd-host"), ("lookup", "edge-agilio"),
    ]  # fmt: skip
    assert len(found["serve"]) == len(found["tenants"]) == 2
    assert "q6 on dpu-csd-host" in page.read_text()
    assert wherry(*words, "--json", "-").json == found


def test_the_sweep_is_one_name(wherry, data):
    words = ("bench", "systems", *SMALL, "--workload", "sweep", "--system", "nvme-host")
    found = wherry(*words, "--data", data, "--json", "-").json
    assert len(found["rows"]) == 15
    assert found["maps"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--workload", "q7"), "q7"),
        (("--system", "rack-17"), "rack-17"),
        (("--system", "this-machine"), "this-machine is measured, not emulated"),
        (("--scale-factor", "0"), "above 0"),
        (("--report", "no/such/folder/report.html"), "no folder"),
        (("--json", "no/such/folder/out.json"), "no folder"),
        (("--requests", "0"), "requests"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_made(wherry, tmp_path, words, complaint):
    said = wherry("bench", "systems", "--data", tmp_path, *words)
    assert said.code == 2
    assert complaint in said.err + said.out
    assert list(tmp_path.iterdir()) == []


def test_interrupted_it_writes_nothing(data, tmp_path):
    wherry_words = ["bench", "systems", *SMALL, "--data", str(data), "--requests", "1000000"]
    page = tmp_path / "report.html"
    more = ["--report", str(page), "--workload", "serve"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with interruptible([*MAIN, *wherry_words, *more], environment) as process:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "wherry: interrupted\n"
    assert out == ""
    assert not page.exists()
