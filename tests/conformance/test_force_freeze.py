"""Every operator in a movable that is frozen, moved to another device and thawed at every await."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

import wherry as wh
from wherry import col, count, lit, scan, when
from wherry.movables import steps

ROWS = 240
CHAINS = {
    "filter": ['filter(col("i") > 3)', 'filter(col("f") < 100.0, col("b"))'],
    "filter by text": ['filter(col("s").str.contains("a"))', 'filter(col("k") == "ab")'],
    "filter by a choice": ['filter(when(col("b")).then(col("i")).otherwise(col("j")) > 2)'],
    "filter by null": ['filter(col("s").is_null() | col("d").is_not_null())'],
    "filter by membership": ['filter(col("i").is_in([1, 2, 3, 90]))'],
    "filter by time": [
        'filter(col("t") >= datetime(2020, 1, 20))', 'filter(col("y").dt.month() == 2)',
    ],
    "filter by decimal": ['filter(col("d") * 2 > Decimal("1.50"))'],
    "select": ['select("s", "i", twice=col("i") * 2)', 'select("twice", "s")'],
    "with_columns": ['with_columns(z=col("f") / 2, w=lit(1))', 'filter(col("z") > 1.0)'],
    "agg": ['agg(n=count(), total=col("i").sum(), mean=col("f").mean(), low=col("d").min())'],
    "agg of texts": ['agg(first=col("s").min(), last=col("s").max(), n=col("k").count())'],
    "agg of spread": ['agg(v=col("f").var(), s=col("f").std(), n=col("i").count_distinct())'],
    "group_by": ['group_by("k").agg(total=col("i").sum(), n=count())', 'filter(col("n") > 1)'],
    "group_by several": ['group_by("b", "j").agg(total=col("d").sum(), m=col("f").max())'],
    "group_by an expression": ['group_by(year=col("y").dt.year()).agg(n=count())'],
    "group_by many": ['group_by("i").agg(n=count(), f=col("f").sum())', 'filter(col("n") > 2)'],
    "distinct": ['distinct("k", "b")', 'sort("k", "b")'],
    "sort": ['sort("i", "f", descending=[True, False])', 'limit(17)'],
    "top_k": ['top_k(9, by="f")', 'select("f", "s")'],
    "top_k smallest": ['top_k(30, by=["j", "i"], descending=False)', 'top_k(3, by="f")'],
    "limit": ["limit(50)", "limit(11)"],
    "nothing left": ['filter(col("i") > 1_000_000)', 'agg(n=count(), s=col("i").sum())'],
    "all together": [
        'filter(col("i") > 0)', 'with_columns(g=col("j") + 1)',
        'group_by("g").agg(f=col("f").sum())', 'sort("g")', 'limit(4)',
    ],
}  # fmt: skip
NAMES = {"col": col, "lit": lit, "when": when, "count": count, "date": date, "datetime": datetime}


def table() -> pa.Table:
    numbers = range(ROWS)

    def some(values, every):
        return [None if n % every == every - 1 else value for n, value in enumerate(values)]

    columns = {
        "i": pa.array(some(((n * 7) % 97 for n in numbers), 11), pa.int64()),
        "j": pa.array((n % 5 for n in numbers), pa.int32()),
        "f": pa.array(some((n * 1.25 for n in numbers), 7)),
        "d": pa.array(some((Decimal(n) / 4 for n in numbers), 5), pa.decimal128(12, 2)),
        "s": pa.array(some((f"{'abc'[n % 3]}{n % 13}" for n in numbers), 13)),
        "k": pa.array(some((("a", "ab", "b")[n % 3] for n in numbers), 17)).dictionary_encode(),
        "b": pa.array(some((n % 4 == 0 for n in numbers), 19)),
        "y": pa.array([date(2019 + n % 3, 1 + n % 12, 1) for n in numbers]),
        "t": pa.array([datetime(2020, 1, 1 + n % 28) for n in numbers], pa.timestamp("us")),
    }
    whole = pa.table(columns)
    return pa.concat_tables([whole.slice(0, 100), whole.slice(100, 1), whole.slice(101)])


SOURCE = """
import datetime as _time
from datetime import date, datetime
from decimal import Decimal
import pyarrow as pa
import wherry as wh
from wherry import col, count, lit, when
"""


@pytest.fixture(scope="module")
def movables(tmp_path_factory):
    """A movable for every chain, with an await for every one of its operators."""
    text = SOURCE
    for number, chain in enumerate(CHAINS.values()):
        awaits = [f"    r = await wh.scan('t').{chain[0]}"]
        awaits += [f"    r = await r.{operator}" for operator in chain[1:]]
        body = "\n".join(awaits)
        text += f"\n@wh.movable\nasync def m{number}() -> pa.Table:\n{body}\n"
        text += "    return await wh.respond(r)\n"
    path = tmp_path_factory.mktemp("movables") / "forced.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("forced", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["forced"] = module
    spec.loader.exec_module(module)
    yield {name: getattr(module, f"m{n}") for n, name in enumerate(CHAINS)}
    del sys.modules["forced"]


@pytest.mark.parametrize("system", ["dpu-csd-host", "nvmeof-dpu"])
@pytest.mark.parametrize("name", CHAINS)
def test_an_answer_does_not_tell_where_it_was_frozen(movables, monkeypatch, name, system):
    rows = table()
    wanted = scan(rows)
    for operator in CHAINS[name]:
        wanted = eval(f"rows.{operator}", {"rows": wanted, "Decimal": Decimal, **NAMES})
    devices = wh.load_system(system).devices
    able = [device for device, profile in devices.items() if profile.runs_programs]
    assert len(able) >= 3
    everywhere = itertools.cycle(able)
    monkeypatch.setattr(steps, "node_for", lambda *_: next(everywhere))
    found = movables[name].run(system=system, datasets={"t": rows})
    assert found.table.equals(wanted.collect())
    nodes = [hop.receipt.node for hop in found.hops]
    assert all(one != other for one, other in itertools.pairwise(nodes))
    assert len(nodes) == len(CHAINS[name]) + 2
