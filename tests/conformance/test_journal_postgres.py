"""Several homes share a journal: who drives what, and what one that was taken for dead may do."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.postgres import server

import wherry as wh
from wherry.base.errors import CorruptError, InputError
from wherry.run.journal import Displaced, JournalBusy
from wherry.run.journal_postgres import PostgresJournal, open_postgres
from wherry.run.records import PARKED, RUNNING, Held, Leased


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture
def address(running: str) -> str:
    with psycopg.connect(running) as connection:
        connection.execute("DROP SCHEMA IF EXISTS wherry CASCADE")
    return running


def held(number: int, state: int = PARKED) -> Held:
    id_ = random.Random(number).randbytes(16)
    return Held(id_, 1, 0, state, b"p" * 16, 0, b"message" + id_, "", number + 1, "paid", "t")


def ids(found: list[Held]) -> set[bytes]:
    return {one.id for one in found}


def silent(address: str, name: str) -> PostgresJournal:
    """Give the journal of a home whose lease ends at once."""
    return open_postgres(address, name, lease_s=0.0)


def test_each_home_drives_its_own_and_sees_all(address: str) -> None:
    one, other = open_postgres(address, "one"), open_postgres(address, "other")
    one.write([held(1), held(2, RUNNING)])
    other.write([held(3), held(4, RUNNING), Leased(b"r", held(4).id, 5)])
    assert ids(one.due(100, 9)) == ids([held(1), held(2)])
    assert ids(list(other.active())) == ids([held(4)])
    assert ids(one.waiting("paid", 9)) == ids([held(1)])
    assert [known.id for known in one.live()] == [held(2).id]
    assert one.leases_ended(9, 9) == []
    assert other.next_wake() == 4
    assert ids(one.listed()) == ids([held(n) for n in (1, 2, 3, 4)])
    assert one.adopt(9) == []
    one.close()
    other.close()


def test_a_name_is_one_home(address: str) -> None:
    one = open_postgres(address, "one")
    with pytest.raises(JournalBusy, match="a home named 'one'"):
        open_postgres(address, "one")
    one.write([held(1)])
    one.close()
    again = open_postgres(address, "one")
    assert ids(again.due(100, 9)) == {held(1).id}
    again.close()


def test_a_home_that_died_is_started_again_before_its_lease_ends(address: str) -> None:
    died = open_postgres(address, "one", lease_s=1000.0)
    died.write([held(1)])
    died._writer.close()  # its process is gone, and its sessions with it
    died._reader.close()
    again = open_postgres(address, "one")
    assert ids(again.due(100, 9)) == {held(1).id}
    again.close()
    with pytest.raises(Displaced, match="another took over"):
        died.write([held(2)])
    died.close()


def test_who_gives_no_sign_of_life_is_displaced(address: str) -> None:
    zombie, heir = silent(address, "zombie"), open_postgres(address, "heir")
    zombie.write([held(n) for n in range(10)])
    zombie.write([Leased(b"r", held(1).id, 5)])
    time.sleep(0.01)
    found = heir.adopt(4) + heir.adopt(100)
    assert ids(found) == ids([held(n) for n in range(10)])
    assert ids(heir.due(100, 99)) == ids(found)
    assert heir.leases_ended(9, 9) == [Leased(b"r", held(1).id, 5)]
    for late in (lambda: zombie.write([held(1, RUNNING)]), zombie.beat, zombie.collect):
        with pytest.raises(Displaced):
            late()
    assert heir.held(held(1).id) == held(1)
    zombie.close()
    heir.close()


def test_who_gives_a_sign_of_life_is_not(address: str) -> None:
    slow, other = open_postgres(address, "slow", lease_s=0.5), open_postgres(address, "other")
    slow.write([held(1)])
    for _ in range(8):
        time.sleep(0.1)
        slow.beat()
        assert other.adopt(9) == []
    slow.write([held(1)])
    slow.close()
    other.close()


def test_two_heirs_share_what_is_left(address: str) -> None:
    gone = silent(address, "gone")
    gone.write([held(n) for n in range(40)])
    heirs = [open_postgres(address, name) for name in ("a", "b")]
    time.sleep(0.01)
    shares = [ids(heir.adopt(7)) for _ in range(4) for heir in heirs]
    assert set.union(*shares) == ids([held(n) for n in range(40)])
    assert sum(map(len, shares)) == 40
    for journal in (gone, *heirs):
        journal.close()


def test_a_lost_connection_is_made_again(address: str) -> None:
    journal = open_postgres(address, "one")
    journal.write([held(1)])
    with psycopg.connect(address, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
    with pytest.raises(JournalBusy, match="it may answer later"):
        journal.write([held(2)])
    journal.write([held(2)])
    assert ids(journal.listed()) == ids([held(1), held(2)])
    journal.close()


def test_a_row_that_was_changed_is_set_aside(address: str) -> None:
    journal = open_postgres(address, "one")
    journal.write([held(n) for n in range(5)])
    with psycopg.connect(address) as other:
        other.execute("UPDATE wherry.held SET wake_ns = 99 WHERE id = %s", (held(3).id,))
    assert ids(journal.due(50, 9)) == ids([held(n) for n in (0, 1, 2, 4)])
    (damage,) = journal.check()
    assert (damage.table, damage.key) == ("held", held(3).id.hex())
    with pytest.raises(CorruptError, match="not as it was written"):
        journal.held(held(3).id)
    assert journal.check() == []
    journal.close()


def test_a_journal_of_a_newer_version_is_refused(address: str) -> None:
    open_postgres(address, "one").close()
    with psycopg.connect(address) as other:
        other.execute("UPDATE wherry.version SET version = 99")
    with pytest.raises(InputError, match="has version 99; this Wherry reads versions up to"):
        open_postgres(address, "one")


def test_a_server_that_is_not_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match="cannot open the journal"):
        open_postgres(f"host={tmp_path_factory.mktemp('none')}", "one")


@wh.movable
async def waits(number: int) -> int:
    more: int = await wh.event("more")
    return number + more


def test_the_next_process_goes_on_with_what_a_server_keeps(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    given = dict(pair.split("=") for pair in address.split())
    address = f"postgresql://{given['user']}@/{given['dbname']}?host={given['host']}"
    with wh.open_home(address) as home:
        id_ = home.start(waits, 40)
        with pytest.raises(wh.Dormant):
            home.result(id_)
    (key,) = tmp_path.glob("wherry/keys/*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    with wh.open_home(address) as home:
        assert home.signal("more", 2) == id_
        assert home.result(id_).value == 42
