"""Continuations through the real command line: each command is a process of its own."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

import wherry
from wherry.movables.places import opened
from wherry.run.records import Leased

MAIN = [sys.executable, "-c", "import sys; from wherry.cli import main; sys.exit(main())"]
EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(wherry.__file__).parents[1])}
MOVABLES = """
import time
import pyarrow as pa
import wherry as wh
from wherry import col

@wh.once
def charge(customer: int, amount: float) -> str:
    with open({seen!r}, "a") as file:
        file.write(f"{{customer}} {{amount}}\\n")
    return f"receipt of {{customer}}"

@wh.movable
async def bill(customer: int) -> str:
    rows = await wh.scan("orders").filter(col("customer") == customer)
    total = await rows.agg(total=col("price").sum())
    amount: float = await wh.value(total, "total")
    approved: bool = await wh.event("paid")
    if not approved:
        return "refused"
    return await charge(customer, amount)

@wh.movable
async def naps(seconds: float) -> int:
    rows = await wh.scan("orders").limit(3)
    await wh.sleep(seconds)
    return rows.num_rows

@wh.movable
async def wrong(customer: int) -> int:
    rows = await wh.scan("orders").filter(col("customers") == customer)
    return rows.num_rows

@wh.movable
async def divides(n: int) -> int:
    await wh.sleep(0.001)
    return 1 // n
"""


class Said:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def call(tmp_path):
    """Run a command line in a process of its own, in a folder of its own."""

    def run(*words):
        command = [*MAIN, *map(str, words)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return Said(done)

    return run


@pytest.fixture
def quick(wherry, here, monkeypatch):
    """Run a command line in this process, in the same folder."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    return wherry


@pytest.fixture
def here(tmp_path):
    """A folder with movables and the data they name."""
    table = pa.table(
        {"customer": [1, 2] * 500, "price": [float(n) for n in range(1000)]},
    )
    with ipc.new_file(tmp_path / "orders.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=100)
    seen = str(tmp_path / "charges.txt")
    (tmp_path / "billing.py").write_text(MOVABLES.format(seen=seen))
    return tmp_path


def begin(call, *words, journal="j", name="bill", **arguments):
    given = [word for key, value in arguments.items() for word in ("--arg", f"{key}={value}")]
    return call(
        "run", f"billing.py:{name}", "--journal", journal, "--dataset", "orders=orders.arrow",
        *given, *words,
    )  # fmt: skip


def one_sentence(said, *parts, code=2):
    assert said.code == code, said.err
    assert said.out == ""
    assert said.err.startswith("wherry: error: ")
    assert said.err.count("\n") == 1
    for part in parts:
        assert part in said.err


def test_a_life_from_run_to_answer(call, quick, here):
    """Begin, look, approve in other processes; nothing is said but what the journal knows."""
    said = begin(call, "--tenant", "acme", "--budget", "rows=600,hops=20", "--json", customer=2)
    assert (said.code, said.json["state"], said.json["event"]) == (0, "parked", "paid")
    id_ = said.json["id"]

    found = quick("ps", "-j", "j", "--json").json["continuations"]
    line = MOVABLES.splitlines().index('    approved: bool = await wh.event("paid")') + 1
    assert [(row["id"], row["name"], row["state"], row["where"]) for row in found] == [
        (id_, "bill", "parked", "home")
    ]
    assert (found[0]["line"], found[0]["text"]) == (
        line, 'approved: bool = await wh.event("paid")',
    )  # fmt: skip
    assert (found[0]["waits"], found[0]["wake_ns"], found[0]["tenant"]) == (
        "event 'paid'",
        0,
        "acme",
    )
    assert time.time_ns() - 90_000_000_000 < found[0]["since_ns"] < time.time_ns()
    assert quick("ps", "-j", "j", "--tenant", "nobody", "--json").json["continuations"] == []
    assert quick("ps", "-j", "j", "--state", "running", "--json").json["continuations"] == []
    text = quick("ps", "-j", "j").out
    assert id_[:12] in text
    assert "event 'paid'" in text

    shown = quick("show", id_[:5], "-j", "j", "--json").json
    assert {one["name"]: (one["type"], one["value"]) for one in shown["frame"]} == {
        "amount": ("float", 250000.0), "customer": ("int", 2),
    }  # fmt: skip
    assert shown["budget"] == {"rows": 600 - 501, "hops": 20 - len(shown["hops"])}
    assert shown["system"] == "this-machine"
    assert shown["datasets"] == {"orders": [str(here / "orders.arrow")]}
    assert "amount" in quick("show", id_[:5], "-j", "j").out

    one_sentence(
        call("resume", "-j", "j", "--event", "paid", "--payload", "true"),
        "no effect", "charge", "give the file that declares it",
    )  # fmt: skip
    assert not (here / "charges.txt").exists()
    done = call("resume", id_[:5], "billing.py", "-j", "j", "--json")
    assert done.code == 0, done.err
    assert (done.json["answer"], done.json["state"]) == ("receipt of 2", "ended")
    assert (here / "charges.txt").read_text() == "2 250000.0\n"
    assert quick("ps", "-j", "j", "--json").json["continuations"] == []
    ended = quick("ps", "-j", "j", "--state", "ended", "--json").json["continuations"]
    assert [(row["id"], row["name"], row["tenant"]) for row in ended] == [(id_, "bill", "acme")]
    assert quick("show", id_, "-j", "j", "--json").json["answer"] == "receipt of 2"
    assert "receipt of 2" in quick("show", id_, "-j", "j").out


def test_one_trace_and_one_bill_over_all_lives(call, quick, here):
    id_ = begin(call, "--tenant", "acme", "--json", customer=1).json["id"]
    call("resume", id_, "billing.py", "-j", "j", "--event", "paid", "--payload", "false")
    traced = quick("trace", id_[:8], "-j", "j", "--json").json
    hops = traced["hops"]
    assert (traced["trace"], traced["name"]) == (id_, "bill")
    assert [hop["hop"] for hop in hops] == sorted(hop["hop"] for hop in hops)
    assert len({hop["span"] for hop in hops}) == len(hops)
    text = quick("trace", id_[:8], "-j", "j").out
    assert "in 2 lives" in text
    assert text.count("#") >= len(hops)
    wrote = quick("trace", id_, "-j", "j", "--perfetto", "p.json", "--otlp", "o.json")
    assert (wrote.code, wrote.out) == (0, "")
    spans = json.loads((here / "o.json").read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [span["spanId"] for span in spans] == [hop["span"] for hop in hops]
    events = json.loads((here / "p.json").read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(hops)

    begin(call, "--json", name="naps", seconds=0.01)
    bills = quick("usage", "-j", "j", "--json").json["bills"]
    assert [(b["tenant"], b["origin"], b["continuations"]) for b in bills] == [
        ("", "measured", 1), ("acme", "measured", 1),
    ]  # fmt: skip
    for name, amount in bills[1]["used"].items():
        assert amount == sum(hop["used"][name] for hop in hops), name
    assert len(quick("usage", "-j", "j", "--tenant", "acme", "--json").json["bills"]) == 1
    assert quick("usage", "-j", "j", "--since", "2999-01-01", "--json").json["bills"] == []
    assert "acme" in quick("usage", "-j", "j").out
    one_sentence(quick("usage", "-j", "j", "--since", "soon"), "--since is a date")


def test_an_emulated_system_is_on_record(quick, here):
    said = begin(quick, "--system", "dpu-csd-host", "--json", customer=1)
    done = quick(
        "resume", "-j", "j", "billing.py", "--event", "paid", "--payload", "true", "--json"
    )
    (ended,) = done.json["ended"]
    assert (ended["id"], ended["answer"]) == (said.json["id"], "receipt of 1")
    assert ended["time"]["origin"] == "modelled"
    assert {hop["node"] for hop in ended["hops"]} > {"client"}


def test_rows_of_what_sleeps_outlast_their_leases(call, quick, here):
    """A lease ends what nodes have in memory; what is written is home's until the end."""
    id_ = begin(call, "--wait", 0, "--json", name="naps", seconds=3600).json["id"]
    journal = opened(here / "j")
    known = journal.of(bytes.fromhex(id_))
    leases = [one for one in known.records if isinstance(one, Leased) and one.nbytes]
    assert leases
    journal.write([Leased(one.resource, one.id, 1, one.nbytes) for one in leases])
    journal.close()
    assert call("resume", "--all", "-j", "j", "--wait", 0.2).code == 0
    files = list((here / "j.rows").glob("*/*.arrow"))
    assert len(files) == 1
    done = call("resume", id_, "--now", "-j", "j", "--json")
    assert done.json["answer"] == 3
    assert len([hop for hop in done.json["hops"] if "limit(3)" in hop["what"]]) == 1
    assert not list((here / "j.rows").glob("*/*.arrow"))


def test_cancel_ends_it(quick, here):
    id_ = begin(quick, "--json", customer=1).json["id"]
    said = quick("cancel", id_[:6], "-j", "j")
    assert (said.code, said.out) == (0, f"{id_} is cancelled\n")
    one_sentence(quick("cancel", id_, "-j", "j"), "has ended")
    assert "Cancelled" in quick("show", id_, "-j", "j", "--json").json["failed"]
    one_sentence(quick("resume", id_, "-j", "j"), "somebody asked for its end", code=1)
    assert quick("ps", "-j", "j").out.startswith("no continuations in j")


def test_failures_name_line_and_device(quick, here):
    line = MOVABLES.splitlines().index("    return 1 // n") + 1
    said = begin(quick, name="divides", n=0)
    one_sentence(said, "divides", f"billing.py:{line}", "ZeroDivisionError", code=1)
    said = begin(quick, name="wrong", customer=1)
    assert said.code == 1
    assert "no column 'customers'" in said.err


def test_what_is_in_memory_only_says_so(quick, here):
    said = begin(quick, journal="memory", customer=1)
    assert said.code == 0
    assert "in memory only" in said.out
    one_sentence(quick("ps", "-j", "memory"), "in memory only")


def test_every_mistake_is_one_sentence(quick, here):
    for command in (
        ["ps"], ["show", "ab"], ["trace", "ab"], ["usage"], ["cancel", "ab"], ["resume", "--all"],
        ["migrate", "billing.py"],
    ):  # fmt: skip
        one_sentence(quick(*command, "-j", "none"), "there is no journal none")
    assert not (here / "none").exists()
    ids = [begin(quick, "--json", customer=1).json["id"] for _ in range(2)]
    common = next(n for n in range(33) if ids[0][:n] != ids[1][:n])
    if common > 1:
        one_sentence(quick("show", ids[0][: common - 1], "-j", "j"), "more than one id")
    other = f"{(int(ids[0][0], 16) + 8) % 16:x}"
    if ids[1][0] != other:
        one_sentence(quick("show", other, "-j", "j"), "no continuation")
    one_sentence(quick("show", "xyz", "-j", "j"), "hexadecimal")
    one_sentence(quick("ps", "-j", "j", "--state", "asleep"), "no state 'asleep'", "parked")
    one_sentence(quick("resume", "-j", "j"), "an ID, --all, or --event")
    one_sentence(quick("resume", "a", "b", "-j", "j"), "one ID")
    one_sentence(quick("resume", "-j", "j", "--event", "paid", "--payload", "{"), "JSON")
    for hostile in ("NaN", '"\\ud800"', '"\udcff"', "[" * 5000):
        one_sentence(quick("resume", "-j", "j", "--event", "paid", "--payload", hostile), "JSON")
    one_sentence(begin(quick, customer="x"), "bill: customer", "int")
    one_sentence(begin(quick, custom=1), "no parameter 'custom'", "did you mean 'customer'")
    one_sentence(begin(quick), "missing", "customer")
    one_sentence(begin(quick, "--budget", "row=1", customer=1), "no dimension 'row'")
    one_sentence(begin(quick, "--cold", customer=1), "is a movable, which takes no --cold")
    one_sentence(quick("run", "q6", "--arg", "a=1"), "takes no --arg")
    (here / "not").write_text("hello " * 1000)
    one_sentence(quick("ps", "-j", "not"), "not a database")


def test_a_damaged_row_is_told_and_not_taken_for_nothing(quick, here):
    id_ = begin(quick, "--json", customer=1).json["id"]
    with closing(sqlite3.connect(here / "j")) as rows:
        rows.execute("UPDATE held SET image = substr(image, 1, length(image) - 3) || x'000000'")
        rows.commit()
    said = quick("ps", "-j", "j")
    assert said.code == 0
    assert f"damaged: held {id_}" in said.out
    assert quick("ps", "-j", "j", "--json").json["damaged"][0]["table"] == "held"
    one_sentence(quick("show", id_, "-j", "j"), "is not as it was written", code=2)


def test_a_table_in_memory_has_to_be_given_anew(call, here):
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "import pyarrow as pa, wherry as wh\n"
        "from wherry.cli.target import load_file\n"
        "from pathlib import Path\n"
        "bill = load_file(Path('billing.py')).bill\n"
        "table = pa.table({'customer': [1, 1], 'price': [2.0, 3.0]})\n"
        "with wh.open_home('j', datasets={'orders': table}) as home:\n"
        "    id_ = home.start(bill, 1)\n"
        "    try: home.result(id_)\n"
        "    except wh.Dormant: print(id_.hex())\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    id_ = done.stdout.strip()
    one_sentence(
        call("resume", "billing.py", "-j", "j", "--event", "paid", "--payload", "true"),
        "dataset 'orders' was a table in memory", "--dataset orders=PATH",
    )  # fmt: skip
    done = call(
        "resume", id_, "billing.py", "-j", "j", "--dataset", "orders=orders.arrow", "--json"
    )
    assert done.json["answer"] == "receipt of 1"
    assert (here / "charges.txt").read_text() == "1 5.0\n"


def test_a_journal_in_use_can_be_looked_at_and_not_driven(call, quick, here):
    command = [
        *MAIN, "run", "billing.py:naps", "--journal", "j", "--dataset", "orders=orders.arrow",
        "--arg", "seconds=60",
    ]  # fmt: skip
    driving = subprocess.Popen(
        command, cwd=here, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 60
        rows = []
        while not rows and time.monotonic() < end:
            said = quick("ps", "-j", "j", "--state", "parked", "--json")
            rows = said.json["continuations"] if said.code == 0 else []
        assert rows[0]["waits"] == "time"
        assert rows[0]["wake_ns"] > time.time_ns()
        one_sentence(call("resume", "--all", "-j", "j"), "driven by", str(driving.pid), code=1)
        assert driving.poll() is None
    finally:
        os.kill(driving.pid, signal.SIGKILL)
        driving.communicate()
    woken = call("resume", rows[0]["id"], "--now", "-j", "j", "--json")
    assert woken.json["answer"] == 3


def test_explain_shows_the_proof(quick, here):
    found = quick("explain", "billing.py:bill", "--json").json
    assert [row["effect"] for row in found["positions"]][-1] == "once"
    assert found["needs"] == ["agg", "filter"]
    text = quick("explain", "billing.py:bill").out
    assert "bill(customer: int) -> str" in text
    assert "effects once" in text


# Migration.


def top_orders(quick, here, customer):
    table = pa.table({
        "o_orderkey": list(range(400)), "o_custkey": [370, 371] * 200,
        "o_orderdate": pa.array([10_000] * 400, pa.int32()).cast(pa.date32()),
        "o_totalprice": [float(n * 37 % 401) for n in range(400)],
    })  # fmt: skip
    if not (here / "top.arrow").exists():
        with ipc.new_file(here / "top.arrow", table.schema) as file:
            file.write_table(table, max_chunksize=100)
    said = quick(
        "run", EXAMPLES / "top_orders.py", "--arg", f"customer={customer}", "--arg",
        "since=1995-01-01", "--dataset", "orders=top.arrow", "-j", "top", "--json",
    )  # fmt: skip
    assert said.json["event"] == "approved", said.err
    return said.json["id"]


def test_the_examples_migrate(call, quick, here):
    ids = {top_orders(quick, here, customer) for customer in (370, 371)}
    new = EXAMPLES / "top_orders_v2.py"
    before = (here / "top").read_bytes()
    checked = quick("migrate", "--check", new, "-j", "top", "--json").json
    assert (checked["keep"], checked["migrate"], checked["pin"], checked["rewritten"]) == (
        0,
        2,
        0,
        0,
    )
    assert [group["why"] for group in checked["groups"]] == ["declared"]
    assert (here / "top").read_bytes() == before
    same = quick("migrate", "--check", EXAMPLES / "top_orders.py", "-j", "top", "--json").json
    assert (same["keep"], same["migrate"], same["pin"]) == (2, 0, 0)
    done = quick("migrate", new, "-j", "top", "--json").json
    assert (done["migrate"], done["rewritten"]) == (2, 2)
    again = quick("migrate", "--check", new, "-j", "top", "--json").json
    assert (again["keep"], again["migrate"]) == (2, 0)
    id_ = min(ids)
    frame = {v["name"]: v["value"] for v in quick("show", id_, "-j", "top", "--json").json["frame"]}
    assert frame["most"] == 100
    assert frame["found"].startswith("100 rows")
    for _ in ids:
        said = call("resume", "-j", "top", "--event", "approved", "--payload", "true", "--json")
        (ended,) = said.json["ended"]
        prices = [row[1] for row in ended["answer"]["rows"]]
        assert prices == sorted(prices, reverse=True)
        assert ended["answer"]["num_rows"] == 100
        assert [hop["what"] for hop in ended["hops"]].count("return await wh.respond(found)") == 1


def test_what_cannot_migrate_is_pinned_and_still_ends(quick, here):
    id_ = begin(quick, "--json", customer=2).json["id"]
    text = (here / "billing.py").read_text()
    changed = text.replace("amount: float = await", "cents: float = await").replace(
        "charge(customer, amount)", "charge(customer, cents)"
    )
    (here / "billing2.py").write_text(changed)
    found = quick("migrate", "--check", "billing2.py", "-j", "j", "--json").json
    assert (found["keep"], found["migrate"], found["pin"]) == (0, 0, 1)
    assert "no cents: float" in found["groups"][0]["why"]
    assert "@wherry.migrate(old=" in found["groups"][0]["why"]
    rewritten = quick("migrate", "billing2.py", "-j", "j", "--json").json
    assert (rewritten["pin"], rewritten["rewritten"]) == (1, 0)
    advice = re.search(r'old="(\w+)"', found["groups"][0]["why"]).group(1)
    declared = f'@wh.migrate(old="{advice}", positions={{4: 4}}, slots={{"cents": "amount"}})\n'
    where = changed.index("@wh.movable\nasync def bill")
    (here / "billing3.py").write_text(changed[:where] + declared + changed[where:])
    assert quick("migrate", "billing3.py", "-j", "j", "--json").json["rewritten"] == 1
    done = quick("resume", id_, "billing3.py", "-j", "j", "--event", "paid", "--payload", "true",
                "--json")  # fmt: skip
    assert done.json["answer"] == "receipt of 2"
    assert (here / "charges.txt").read_text() == "2 250000.0\n"


def test_what_only_changed_elsewhere_migrates_by_itself(quick, here):
    id_ = begin(quick, "--json", customer=2).json["id"]
    text = (here / "billing.py").read_text()
    (here / "billing2.py").write_text(text.replace('return "refused"', 'return "not paid"'))
    found = quick("migrate", "billing2.py", "-j", "j", "--json").json
    assert (found["migrate"], found["rewritten"]) == (1, 1)
    assert found["groups"][0]["why"] == "same awaits"
    done = quick("resume", id_, "billing2.py", "-j", "j", "--event", "paid", "--payload", "false",
                "--json")  # fmt: skip
    assert done.json["answer"] == "not paid"


# The demonstration.


def test_demo_resume_survives_a_kill(quick):
    said = quick("demo", "resume", "--json")
    assert said.code == 0, said.err
    found = said.json
    assert found["equal"]
    assert len(found["answer"]["number"]) == 3
    assert found["hops_before"] < len(found["hops"])
    steps = [hop["what"] for hop in found["hops"] if "filter" in hop["what"]]
    assert len(steps) == 1  # what was on record was not done again
    text = quick("demo", "resume").out
    assert "SIGKILL" in text
    assert "in 2 lives" in text
    one_sentence(quick("demo", "resum"), "no demo 'resum'")
