"""Agents that are not what a system says, data that is not what it was: errors, and others go on.

What kills processes and cuts networks is in `tests/chaos`.
"""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from fuzz.corruptions import corrupted
from fuzz.seeds import files
from msgspec.structs import replace
from support.clusters import Cluster, cluster, store, write

from wherry import CorruptError, InputError, Refused, WherryError, count
from wherry.ir.builder import col
from wherry.serve.live import live
from wherry.session import run, source_at
from wherry.session.agents import connected

ROWS = 120


def table(rows: int = ROWS, first: int = 0) -> pa.Table:
    numbers = range(first, first + rows)
    return pa.table({"row": list(numbers), "s": [f"text {n % 9} of some length" for n in numbers]})


@pytest.fixture
def there(tmp_path: Path):
    store(tmp_path / "f", table(), "rows", rows=25)
    with cluster(tmp_path / "f", emulate=False) as found:
        yield found


def totals(there: Cluster, query=None, name: str = "rows") -> tuple[int, int]:
    query = there.scan(name) if query is None else query
    found = query.agg(n=count(), t=col("row").sum()).collect(there.system).to_pylist()
    return found[0]["n"], found[0]["t"]


WHOLE = ROWS, sum(range(ROWS))


def test_all_that_is_wrong_with_agents_is_said_at_once(there, tmp_path):
    write(tmp_path / "g" / "csd1" / "other.arrow", table())
    with cluster(tmp_path / "g", "csd1", emulate=True) as other:
        wrong = replace(
            there.system,
            name="wrong",
            devices={**there.system.devices, "dpu0": there.system.devices["csd0"]},
            agents={
                "csd0": there.system.agents["csd1"],
                "csd1": other.system.agents["csd1"],
                "dpu0": there.system.agents["dpu0"],
            },
        )
        with pytest.raises(Refused) as refused:
            source_at(wrong, "rows")
    name, profile, kinds = refused.value.reasons
    assert "is 'csd1', not 'csd0'" in name
    assert "dpu0 is a bluefield-3, the system says newport" in profile
    assert "csd1 model their time and csd0, dpu0 do not" in kinds


def test_other_figures_in_a_profile_are_refused(there):
    profile = there.system.devices["csd0"]
    faster = replace(profile, device=replace(profile.device, title="another"))
    other = replace(there.system, devices={**there.system.devices, "csd0": faster})
    with pytest.raises(Refused, match="csd0 has other figures in its profile newport"):
        source_at(other, "rows")


def test_no_agent_at_all(there):
    gone = {name: f"unix:{there.folder}/none-{name}" for name in there.system.agents}
    with pytest.raises(Refused, match=r"no agent of .* can be reached") as refused:
        source_at(replace(there.system, agents=gone), "rows")
    assert len(refused.value.reasons) == 3


def test_columns_that_differ_keep_nobody_from_other_datasets(there):
    write(there.folder / "csd0" / "odd" / "a.arrow", table(5))
    write(there.folder / "csd1" / "odd" / "b.arrow", table(5).select(["s"]))
    with pytest.raises(InputError, match="'odd' has other columns at csd1 than at csd0"):
        there.scan("odd")
    assert totals(there) == WHOLE


def part(there: Cluster) -> Path:
    return there.folder / "csd0" / "rows" / "part-00.arrow"


@pytest.mark.parametrize("ran", [False, True])
def test_a_file_changed_in_place_is_refused(there, ran):
    query = there.scan("rows")
    if ran:
        assert totals(there, query) == WHOLE
    write(there.folder / "new.arrow", table(60, 500), rows=25)
    new = (there.folder / "new.arrow").read_bytes()
    with part(there).open("r+b") as file:
        file.write(new)
        file.truncate(len(new))
    with pytest.raises(WherryError, match=r"csd0: .*part-00.arrow.* changed"):
        totals(there, query)
    assert totals(there) == (ROWS, sum(range(60, ROWS)) + sum(range(500, 560)))


@pytest.mark.parametrize("ran", [False, True])
def test_a_file_that_is_replaced_is_read_as_it_was_or_refused(there, ran):
    query = there.scan("rows")
    if ran:
        assert totals(there, query) == WHOLE
    write(there.folder / "new.arrow", table(60, 500), rows=25)
    (there.folder / "new.arrow").rename(part(there))
    if ran:  # The agent has what the query was planned with.
        assert totals(there, query) == WHOLE
    else:
        with pytest.raises(
            WherryError, match=r"csd0: .*part-00.arrow.* changed after it was listed"
        ):
            totals(there, query)
    assert totals(there) == (ROWS, sum(range(60, ROWS)) + sum(range(500, 560)))


def test_files_that_are_gone(there):
    query = there.scan("rows")
    assert totals(there, query) == WHOLE
    part(there).unlink()
    assert totals(there, query) == WHOLE
    with pytest.raises(InputError, match="csd0: directory rows has no"):
        there.scan("rows")
    shutil.rmtree(there.folder / "csd0" / "rows")
    assert totals(there) == (60, sum(range(60, ROWS)))
    shutil.rmtree(there.folder / "csd1" / "rows")
    with pytest.raises(InputError, match="no dataset 'rows'; datasets: none"):
        there.scan("rows")


def test_a_dataset_that_appears_is_served(there):
    with pytest.raises(InputError, match="no dataset 'later'"):
        there.scan("later")
    store(there.folder, table(30), "later")
    assert totals(there, name="later") == (30, sum(range(30)))


HOSTILE = 40


@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_files_are_refused_by_name_and_others_served(there, seed):
    """Errors name the file and not where it lies on the agent's disk."""
    sound, draw = files(), random.Random(seed)
    ends = {"read": 0, "refused": 0}
    for number in range(HOSTILE):
        name = draw.choice(sorted(sound))
        suffix = "parquet" if name.endswith("parquet") else "arrow"
        path = there.folder / "csd0" / f"hostile{number}.{suffix}"
        path.write_bytes(corrupted(sound[name], draw))
        problem = ""
        try:
            run(there.scan(path.stem), there.system)
        except InputError as refused:
            problem = str(refused)
        ends["refused" if problem else "read"] += 1
        if problem:
            assert problem.startswith("csd0: ")
            assert path.name in problem
            assert str(there.folder) not in problem
            assert "fault of the agent" not in problem
        path.unlink()
    assert min(ends.values()) > HOSTILE // 20
    assert totals(there) == WHOLE


def test_truncated_files_say_where(there):
    sound = part(there).read_bytes()
    (there.folder / "csd1" / "cut.arrow").write_bytes(sound[: len(sound) // 2])
    (there.folder / "csd1" / "bare.arrow").write_bytes(b"")
    (there.folder / "csd1" / "page.parquet").write_bytes(_damaged_page(there.folder))
    with pytest.raises(InputError, match=r"csd1: cut.arrow \(\d+ bytes\): the footer at its end"):
        there.scan("cut")
    with pytest.raises(InputError, match=r"csd1: bare.arrow is empty"):
        there.scan("bare")
    with pytest.raises(CorruptError, match=r"csd1: page.parquet, row group 0, .* at offset \d+"):
        run(there.scan("page"), there.system)
    assert totals(there) == WHOLE


def _damaged_page(folder: Path) -> bytes:
    write(folder / "page.parquet", table(), compression="snappy")
    content = bytearray((folder / "page.parquet").read_bytes())
    content[60:200] = bytes(140)
    return bytes(content)


def test_many_threads_of_one_caller_and_two_callers_at_once(there):
    """Each has its answer; the agents keep nothing of them, nor of their pieces."""
    other = replace(there.system, name="another caller")
    found: list[tuple[int, int]] = []

    def ask(system) -> None:
        for _ in range(3):
            query = there.scan("rows", system).sort("s").agg(n=count(), t=col("row").sum())
            answer = query.collect(system).to_pylist()[0]
            found.append((answer["n"], answer["t"]))

    threads = [threading.Thread(target=ask, args=(s,)) for s in (there.system, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [WHOLE] * 24
    assert connected(other) is not connected(there.system)
    for agent in there.agents.values():
        assert len(agent.station.visits) == 0
        assert agent.listeners[0].lent == 0


def test_a_query_is_let_go_when_its_caller_falls_silent(tmp_path, monkeypatch):
    """Nobody releases it, nobody speaks of it: after a lease it is gone, and what comes is told."""
    store(tmp_path / "f", table(), "rows")
    with cluster(tmp_path / "f", emulate=False, lease_s=0.2) as there:
        monkeypatch.setattr("wherry.serve.remote.RemoteCarrier.release", lambda self: None)
        assert totals(there) == WHOLE
        station = there.agents["csd0"].station
        assert len(station.visits) == 1
        (visit,) = station.visits
        visit.touched -= int(1e9)
        station.sweep()
        assert len(station.visits) == 0
        with pytest.raises(WherryError, match="over here"):
            station.visits.find(visit.tenant, visit.query, visit.epoch)


def test_nothing_is_kept_of_a_query_that_failed(there):
    part(there).write_bytes(part(there).read_bytes()[:-200] + bytes(200))
    with pytest.raises(InputError):
        totals(there)
    for agent in there.agents.values():
        assert len(agent.station.visits) == 0
    assert live(there.system, None) is connected(there.system)
