"""Every command in text and JSON, and every error as one sentence with its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet
from support.interrupted import interruptible

from wherry import Measured, Modelled
from wherry.benchmarks import tpch
from wherry.cli import output, tpch_data
from wherry.devices.profile import profile_folder

SYSTEM = ("--system", "dpu-csd-host")
MAIN = [sys.executable, "-c", "import sys; from wherry.cli import main; sys.exit(main())"]


@pytest.fixture
def small(small_data):
    """The options for q1 and q6 over small tables."""
    return ("--data", small_data, "--sf", "0.001")


@pytest.fixture
def script(tmp_path):
    """Write a Python file and give its path."""

    def write(text, name="query.py"):
        path = tmp_path / name
        path.write_text(f"import wherry as wh\nfrom wherry import col\n{text}\n")
        return path

    return write


@pytest.fixture
def arrow(tmp_path):
    """An Arrow file of 1000 rows: a counts up, b is text."""
    path = tmp_path / "rows.arrow"
    table = pa.table({"price": range(1000), "shop": ["x", "y"] * 500})
    with ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=100)
    return path


# What is asked for and comes.


@pytest.mark.parametrize("query", ["q1", "q6"])
def test_run_on_this_machine_is_measured(wherry, small, query):
    said = wherry("run", query, *small)
    assert said.code == 0
    assert said.err == ""
    assert "measured" in said.out
    assert "modelled" not in said.out
    assert "ledger" in said.out
    assert "receipts" in said.out


def test_run_on_an_emulated_system_is_modelled(wherry, small):
    said = wherry("run", "q6", *small, *SYSTEM, "--json")
    assert said.code == 0
    found = said.json
    assert found["time"]["origin"] == "modelled"
    assert found["time"]["ns"] > 0
    assert found["answer"]["schema"] == [{"name": "revenue", "type": "decimal128(38, 4)"}]
    assert found["answer"]["num_rows"] == 1
    assert {receipt["origin"] for receipt in found["receipts"]} == {"modelled"}
    assert found["ledger"]["entries"]
    assert found["link_bytes"]["client->dpu0"] > 0


def test_placement(wherry, small):
    alone = wherry("run", "q6", *small, *SYSTEM, "--placement", "host-only", "--json").json
    near = wherry("run", "q6", *small, *SYSTEM, "--placement", "near=home,partial=home", "--json")
    assert set(alone["placement"].split()) == {
        f"{kind}@host0" for kind in ("routing", "near", "partial", "merge", "respond")
    }
    assert "near@home partial@home" in near.json["placement"]
    assert near.json["answer"] == alone["answer"]
    assert near.json["link_bytes"]["csd0->pcie0"] < alone["link_bytes"]["csd0->pcie0"]


def test_rows_are_limited(wherry, small):
    said = wherry("run", "q1", *small, "--rows", "2", "--json")
    assert said.json["answer"]["num_rows"] == 4
    assert len(said.json["answer"]["rows"]) == 2
    assert "4 rows, the first 2 shown" in wherry("run", "q1", *small, "--rows", "2").out


def test_explain(wherry, small):
    text = wherry("explain", "q6", *small, *SYSTEM)
    assert (text.code, text.err) == (0, "")
    assert text.out.startswith("on dpu-csd-host: routing@")
    found = wherry("explain", "q6", *small, *SYSTEM, "--json").json
    assert found["origin"] == "modelled"
    assert found["stages"][0]["devices"]
    assert found["chosen"]["busy_ns"]
    assert 10 < len(found["others"]) < found["possible"]
    assert found["refused"][0]["reasons"]


def test_profiles(wherry):
    listed = wherry("profiles", "list")
    assert "bluefield-3" in listed.out
    assert "dpu-csd-host" in listed.out
    assert set(wherry("profiles", "list", "--json").json) == {"devices", "systems"}
    shown = wherry("profiles", "show", "newport")
    assert "read_gb_per_s" in shown.out
    assert "estimate: " in shown.out
    assert wherry("profiles", "show", "newport", "--json").json["device"]["kind"] == "csd"
    assert "pcie0 - host0" in wherry("profiles", "show", "dpu-csd-host").out
    assert wherry("profiles", "show", "dpu-csd-host", "--json").json["host"] == "host0"
    assert "engine deflate (engine).job_start_us" in wherry("profiles", "show", "bluefield-2").out
    rack = wherry("profiles", "show", "rack-16")
    assert "csd0-0 .. csd15-35 (576)" in rack.out
    assert len(rack.out.splitlines()) < 30
    assert "csd0-0 .. csd15-35" in listed.out


def test_profiles_check_says_where_figures_come_from(wherry):
    checked = wherry("profiles", "check")
    assert checked.out.startswith("no problem in every shipped profile and system\n")
    assert "datasheet  paper  measured  estimate" in checked.out
    found = wherry("profiles", "check", "--json").json
    assert (found["checked"], found["problems"]) == ("shipped", [])
    assert found["coverage"]["connectx-7-400"] == {
        "datasheet": 1, "paper": 0, "measured": 0, "estimate": 1,
    }  # fmt: skip
    assert "rack-16" in found["coverage"]


def test_doctor(wherry):
    said = wherry("doctor")
    assert said.code == 0
    assert "GB/s measured" in said.out
    for word in ("cores", "cuda", "gds", "xdp", "ray", "pyarrow"):
        assert word in said.out
    found = wherry("doctor", "--json").json
    assert found["cores"] >= 1
    assert set(found["cuda"]) == {"present", "detail"}
    assert set(found["gpu_paths"]) == {"pinned", "kvikio", "gds"}


def test_warm(wherry):
    assert "group_by" in wherry("warm").out
    skeletons = wherry("warm", "--json").json["skeletons"]
    assert all(row["cached"] for row in skeletons)
    assert "filter" in {row["module"] for row in skeletons}


def test_version(wherry):
    assert wherry("--version").out.startswith("wherry ")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("run",),
        ("explain",),
        ("validate",),
        ("doctor",),
        ("warm",),
        ("profiles",),
        ("profiles", "list"),
        ("profiles", "show"),
        ("profiles", "check"),
    ],
    ids=" ".join,
)
def test_help_has_examples(wherry, command):
    said = wherry(*command, "--help")
    assert said.code == 0
    assert "Example" in said.out
    assert f"wherry {' '.join(command)}".strip() in said.out


def test_a_file_defines_the_query(wherry, script, arrow):
    path = script(f"rows = wh.scan({str(arrow)!r})\npipeline = rows.filter(col('price') < 3)")
    assert wherry("run", path, "--json").json["answer"]["rows"] == [[0, "x"], [1, "y"], [2, "x"]]
    assert wherry("run", f"{path}:rows", "--json").json["answer"]["num_rows"] == 1000
    only = script(f"kept = wh.scan({str(arrow)!r}).limit(1)", "only.py")
    assert wherry("run", only, "--json").json["answer"]["num_rows"] == 1


def test_a_file_sees_what_lies_beside_it(wherry, script, arrow):
    script(f"rows = wh.scan({str(arrow)!r})", "beside_the_query.py")
    path = script("from beside_the_query import rows\nkept = rows.limit(2)")
    assert wherry("run", f"{path}:kept", "--json").json["answer"]["num_rows"] == 2


# What is asked wrongly: exit code 2, one sentence, no traceback.


def _one_sentence(said, *parts, code=2):
    assert said.code == code
    assert said.out == ""
    assert said.err.startswith("wherry: error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    for part in parts:
        assert part in said.err


def test_wrong_column(wherry, script, arrow):
    path = script(f"pipeline = wh.scan({str(arrow)!r}).filter(col('pirce') > 3)")
    said = wherry("run", path)
    _one_sentence(said, "no column 'pirce'; did you mean 'price'? columns: price, shop", "line 3")


def test_wrong_type(wherry, script, arrow):
    path = script(f"pipeline = wh.scan({str(arrow)!r}).filter(col('shop') > 3)")
    _one_sentence(wherry("run", path), "query.py, line 3")


def test_missing_files(wherry, script, tmp_path):
    path = script("pipeline = wh.scan('/nowhere/rows.arrow')")
    _one_sentence(wherry("run", path), "/nowhere/rows.arrow", "No such file")
    _one_sentence(wherry("run", tmp_path / "absent.py"), "no file")


@pytest.mark.parametrize("kept", [3000, 20])
def test_truncated_file(wherry, script, arrow, kept):
    arrow.write_bytes(arrow.read_bytes()[:kept])
    path = script(f"pipeline = wh.scan({str(arrow)!r})")
    _one_sentence(wherry("run", path), "rows.arrow")


def test_corrupt_file(wherry, script, arrow):
    stored = bytearray(arrow.read_bytes())
    middle = len(stored) // 3
    stored[middle : middle + 600] = b"\xff" * 600
    arrow.write_bytes(stored)
    path = script(f"pipeline = wh.scan({str(arrow)!r}).filter(col('price') > 3)")
    _one_sentence(wherry("run", path), "rows.arrow")


def test_unknown_profile_key(wherry, tmp_path):
    text = (profile_folder() / "newport.toml").read_text()
    path = tmp_path / "newport.toml"
    path.write_text(text.replace("\nchannels =", "\nchanels ="))
    said = wherry("profiles", "check", path)
    assert said.code == 2
    assert "no key 'chanels'" in said.err
    assert "did you mean 'channels'" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run", "q7"), "no target 'q7'"),
        (("run", "q6", "--system", "dpu-csd-hots"), "did you mean 'dpu-csd-host'"),
        (("run", "q6", "--placement", "neer=home"), "did you mean 'near'"),
        (("run", "q6", "--placement", "somewhere"), "host-only or SEGMENT=SITE"),
        (("run", "q6", "--sf", "many"), "--sf"),
        (("run", "q6", "--nosuch"), "--nosuch"),
        (("run",), "TARGET"),
        (("launch",), "launch"),
        (("profiles", "show", "newprot"), "did you mean 'newport'"),
        (("profiles", "check", "/nowhere.toml"), "cannot be read"),
        (("demo", "--sf", "-1"), "above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words(wherry, tmp_path, monkeypatch, words, part):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    _one_sentence(wherry(*words), part)
    assert list(tmp_path.iterdir()) == []


def test_refusals_are_listed(wherry, small):
    said = wherry("run", "q1", *small, *SYSTEM, "--placement", "merge=csd9")
    assert said.code == 2
    assert said.err.startswith("wherry: error: ")
    assert "csd9" in said.err
    assert "Traceback" not in said.err


def test_errors_are_json_with_json(wherry, script, arrow, small):
    path = script(f"pipeline = wh.scan({str(arrow)!r}).filter(col('pirce') > 3)")
    said = wherry("run", path, "--json")
    assert (said.code, said.err) == (2, "")
    assert "did you mean 'price'" in said.json["error"]
    assert said.json["reasons"] == []
    usage = wherry("run", "--json")
    assert usage.code == 2
    assert "TARGET" in usage.json["error"]
    refused = wherry("run", "q6", *small, *SYSTEM, "--placement", "merge=csd9", "--json")
    assert refused.code == 2
    assert set(refused.json) == {"error", "reasons"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("def f():\n    return 1 / 0\npipeline = f()", ["ZeroDivisionError", "line 5", "line 4"]),
        ("a = (", ["SyntaxError", "line 3"]),
        ("import nosuchmodule", ["ModuleNotFoundError"]),
    ],
)
def test_a_failing_file_shows_its_own_lines(wherry, script, text, parts):
    said = wherry("run", script(text))
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "site-packages" not in said.err
    for part in parts:
        assert part in said.err


def test_which_pipeline(wherry, script, arrow):
    two = script(f"a = wh.scan({str(arrow)!r})\nb = a.limit(1)")
    _one_sentence(wherry("run", two), "2 pipelines and movables (a, b)", "query.py:NAME")
    _one_sentence(wherry("run", f"{two}:c"), "no pipeline or movable 'c'", "a, b")
    _one_sentence(wherry("run", script("x = 1", "none.py")), "0 pipelines and movables (none)")


# Where data is kept, and what an interruption leaves.


def test_data_lies_in_a_checkout_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert tpch_data.default_folder() == tmp_path / "cache/wherry"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"')
    assert tpch_data.default_folder() == tmp_path / "cache/wherry"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "wherry"')
    assert tpch_data.default_folder() == tmp_path / "data"


def test_interrupted_generation_leaves_nothing(wherry, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tpch, "_lay_out", interrupted)
    said = wherry("run", "q6", "--data", tmp_path / "new", "--sf", "0.001")
    assert (said.code, said.out, said.err) == (130, "", "wherry: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    with interruptible([*MAIN, "run", str(slow)]) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "wherry: interrupted\n")


def test_exit_code_of_the_process():
    done = subprocess.run([*MAIN, "run", "q7"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("wherry: error: no target 'q7'")


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*MAIN, "profiles", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["profiles list", "profiles list --json", "run q7 --json"])
def test_a_full_disk_is_said_where_it_can_be(words):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [*MAIN, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode in {1, 2}
    assert done.stderr.startswith("wherry: error: ")
    assert done.stderr.count("\n") == 1


# How it is printed.


def test_plain_values():
    assert output.plain(Modelled(5)) == {"ns": 5, "origin": "modelled"}
    assert output.plain({"a": (Measured(5), Decimal("1.50"), date(2024, 1, 2))}) == {
        "a": [{"ns": 5, "origin": "measured"}, "1.50", "2024-01-02"]
    }
    table = pa.table({"t": pa.array([1], pa.timestamp("ns"))})
    assert output.plain(table)["rows"] == [["1970-01-01 00:00:00.000000001"]]


def test_names_with_brackets_are_not_markup(capsys):
    output.grid(("[bold]",), [("[red]x[/red]",)])
    assert capsys.readouterr().out == "  [bold]\n  [red]x[/red]\n"


def test_wide_answers_are_turned(capsys):
    names = [f"column_{i:02}" for i in range(20)]
    output.show_answer(pa.table({name: [1, None] for name in names}), 10)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["row", "0", "row", "1"]
    assert lines[1].split() == ["column_00", "1", "null"]
    assert len(lines) == 22


def test_a_trace_is_written_and_a_folder_that_is_missing_is_named(wherry, small, tmp_path):
    drawn = tmp_path / "q6.json"
    assert wherry("run", "q6", *small, *SYSTEM, "--trace", str(drawn)).code == 0
    assert json.loads(drawn.read_bytes())["metadata"] == {"origin": "modelled"}
    said = wherry("run", "q6", *small, *SYSTEM, "--trace", str(tmp_path / "none" / "q6.json"))
    assert said.code == 1
    assert "none/q6.json: No such file or directory" in said.err
    assert "Traceback" not in said.err


def test_a_parquet_file_is_run_and_explained(wherry, script, tmp_path):
    table = pa.table({"price": range(1000), "shop": ["x", "y"] * 500})
    for year in (2023, 2024):
        (tmp_path / "sales" / f"year={year}").mkdir(parents=True)
        parquet.write_table(table, tmp_path / "sales" / f"year={year}" / "a.parquet")
    query = script(
        f"pipeline = wh.scan({str(tmp_path / 'sales')!r}).filter(col('year') == 2024)"
        ".group_by('shop').agg(total=col('price').sum())"
    )
    said = wherry("run", query, "--json")
    assert said.code == 0
    assert said.json["answer"]["rows"] == [["x", 249500], ["y", 250000]]
    assert "decoded from Parquet" in said.out
    assert "repeated from the path" in said.out
    told = wherry("explain", query, *SYSTEM)
    assert "reads 1 of 2 chunks, 1,000 rows" in told.out
    assert "decodes about " in told.out


@pytest.mark.parametrize("system", [(), SYSTEM])
def test_an_answer_goes_to_a_file(wherry, small, tmp_path, system):
    path = tmp_path / "q1.arrow"
    wanted = json.loads(wherry("run", "q1", *small, "--json").out)["answer"]["num_rows"]
    told = wherry("run", "q1", *small, *system, "--output", str(path), "--compression", "lz4")
    assert told.code == 0
    assert f"{wanted} rows" in told.out
    assert str(path) in told.out
    assert ipc.open_file(path).read_all().num_rows == wanted
    again = wherry("run", "q1", *small, *system, "--output", str(path))
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err
    over = wherry("run", "q1", *small, *system, "--output", str(path), "--overwrite", "--json")
    assert json.loads(over.out)["output"]["nbytes"] == path.stat().st_size


def test_options_of_a_file_need_one(wherry, small, tmp_path):
    assert wherry("run", "q6", *small, "--compression", "lz4").code == 2
    both = ("--output", str(tmp_path / "a.arrow"), "--trace", str(tmp_path / "t.json"))
    assert wherry("run", "q6", *small, *both).code == 2
    assert list(tmp_path.iterdir()) == []
