"""Every journal answers as the one in memory does, whatever is written in whichever order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.postgres import server

from wherry.base.errors import InputError
from wherry.run.journal import Journal, JournalError
from wherry.run.journal_memory import MemoryJournal
from wherry.run.journal_postgres import open_postgres
from wherry.run.journal_sqlite import open_sqlite
from wherry.run.records import (
    PARKED,
    STATES,
    Answered,
    Code,
    Effect,
    Forgotten,
    Held,
    Leased,
    Receipted,
    Record,
    Signal,
    Stepped,
)

IDS = [bytes([n]) * 16 for n in range(4)]
EVENTS = ["", "paid", "päid"]
TENANTS = ["", "a", "b"]

ids = st.sampled_from(IDS)
hops = st.integers(0, 3)
times = st.one_of(st.integers(0, 9), st.just((1 << 63) - 1))
blobs = st.binary(max_size=300)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)

records = st.one_of(
    st.builds(
        Held,
        ids,
        hops,
        hops,
        st.sampled_from(list(STATES)),
        ids,
        hops,
        blobs,
        texts,
        times,
        st.sampled_from(EVENTS),
        st.sampled_from(TENANTS),
        st.integers(-5, 5),
        blobs,
        st.sampled_from([b"", *IDS]),
    ),
    st.builds(Stepped, ids, hops, hops, texts, blobs, blobs),
    st.builds(Effect, ids, ids, hops, st.booleans(), blobs),
    st.builds(Leased, ids, ids, times, times),
    st.builds(Signal, st.sampled_from(EVENTS), ids, blobs, st.sampled_from([b"", *IDS]), times),
    st.builds(
        Receipted, ids, hops, hops, texts, st.sampled_from(TENANTS), blobs, hops, st.booleans()
    ),
    st.builds(Answered, ids, st.booleans(), blobs, times),
    st.builds(Code, ids, st.sampled_from(["program", "plan"]), blobs, st.lists(ids).map(tuple)),
    st.builds(Forgotten, ids, times),
)


class Same(RuleBasedStateMachine):
    """Writes the same to a journal and to the model, and asks both the same."""

    @initialize(home=st.booleans())
    def begin(self, home: bool) -> None:
        self.home = home
        self.model = MemoryJournal(home=home)
        self.place()
        self.journal = self.opened()

    def place(self) -> None:
        """Make a place for the journal."""

    def opened(self) -> Journal:
        raise NotImplementedError

    @rule(batch=st.lists(records, max_size=8))
    def write(self, batch: list[Record]) -> None:
        self.model.write(batch)
        self.journal.write(batch)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.opened()

    @rule()
    def collect(self) -> None:
        assert self.journal.collect() == self.model.collect()

    @rule(before=times, receipts=st.booleans())
    def expire(self, before: int, receipts: bool) -> None:
        assert self.journal.expire(before, receipts=receipts) == self.model.expire(
            before, receipts=receipts
        )

    @rule(now=times, most=st.integers(1, 3))
    def due(self, now: int, most: int) -> None:
        got, wanted = self.journal.due(now, most), self.model.due(now, most)
        assert [one.wake_ns for one in got] == [one.wake_ns for one in wanted]
        assert len({one.id for one in got}) == len(got)
        assert all(one == self.model.held(one.id) for one in got)

    @rule(now=times, most=st.integers(1, 3))
    def leases_ended(self, now: int, most: int) -> None:
        got, wanted = self.journal.leases_ended(now, most), self.model.leases_ended(now, most)
        assert [one.until_ns for one in got] == [one.until_ns for one in wanted]
        assert all(one in self.model.leases_of(one.id) for one in got)

    @rule(
        state=st.sampled_from([None, *STATES]),
        tenant=st.sampled_from([None, *TENANTS]),
        limit=st.integers(1, 5),
        after=st.sampled_from([b"", *IDS]),
    )
    def listed(self, state: int | None, tenant: str | None, limit: int, after: bytes) -> None:
        assert self.journal.listed(state, tenant, limit, after) == self.model.listed(
            state, tenant, limit, after
        )

    @rule(most=st.integers(1, 3))
    def waiting(self, most: int) -> None:
        for event in EVENTS[1:]:
            got = self.journal.waiting(event, most)
            assert len({one.id for one in got}) == len(self.model.waiting(event, most))
            assert all(one.event == event and one.state == PARKED for one in got)
            assert all(one == self.model.held(one.id) for one in got)
            found, wanted = self.journal.match(event), self.model.match(event)
            assert (found is None) == (wanted is None)
            assert found is None or wanted is None or found[1] == wanted[1]

    @invariant()
    def same(self) -> None:
        got, wanted = self.journal, self.model
        assert got.counts() == wanted.counts()
        assert got.next_wake() == wanted.next_wake()
        assert list(got.active()) == list(wanted.active())
        assert list(got.live()) == list(wanted.live())
        assert got.pending() == wanted.pending()
        assert list(got.codes()) == list(wanted.codes())
        assert list(got.receipts()) == list(wanted.receipts())
        for name in EVENTS:
            assert got.signals(name, 2) == wanted.signals(name, 2)
        for tenant in TENANTS:
            assert list(got.receipts(tenant=tenant)) == list(wanted.receipts(tenant=tenant))
        for one in IDS:
            assert got.of(one) == wanted.of(one)
            assert got.held(one) == wanted.held(one)
            assert got.steps(one) == wanted.steps(one)
            assert got.stepped(one, 1) == wanted.stepped(one, 1)
            assert got.effect(one) == wanted.effect(one)
            assert got.leases_of(one) == wanted.leases_of(one)
            assert got.answered(one) == wanted.answered(one)
            assert got.code(one) == wanted.code(one)
            assert got.forgotten_ns(one) == wanted.forgotten_ns(one)
            assert got.signal("paid", one) == wanted.signal("paid", one)
            assert list(got.receipts(one)) == list(wanted.receipts(one))

    def teardown(self) -> None:
        assert self.journal.check() == []
        assert self.journal.damages() == []
        self.same()
        self.journal.close()


class SameInSqlite(Same):
    """The journal in a file."""

    def place(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def opened(self) -> Journal:
        return open_sqlite(self.folder / "journal", home=self.home)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)


TestSqlite = SameInSqlite.TestCase
TestSqlite.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def postgres() -> Iterator[None]:
    with server() as address:
        SameInPostgres.address = address
        yield


class SameInPostgres(Same):
    """The journal on a server."""

    address: str

    def place(self) -> None:
        with psycopg.connect(self.address) as connection:
            connection.execute("DROP SCHEMA IF EXISTS wherry CASCADE")

    def opened(self) -> Journal:
        return open_postgres(self.address, "home", home=self.home)


TestPostgres = SameInPostgres.TestCase
TestPostgres.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    same = {"sqlite": SameInSqlite, "postgres": SameInPostgres}.get(request.param)
    if same is None:
        found: Journal = MemoryJournal()
    else:
        state = same()
        state.home = True
        state.place()
        found = state.opened()
    yield found
    found.close()


def test_what_does_not_fit_is_refused_and_nothing_is_written(journal: Journal) -> None:
    if isinstance(journal, MemoryJournal):
        pytest.skip("it believes what it is given")
    fits = Answered(IDS[0], False, b"")
    for wrong in (
        Answered(IDS[1], False, b"", 1 << 63),
        Receipted(IDS[1], 0, 0, "a\0b", "", b""),
        Receipted(IDS[1], 0, 0, "\ud800", "", b""),
        Answered(IDS[1], False, b"", 1 << 64),
        Code(IDS[1], "\ud800", b""),
        ("no", "record"),
    ):
        with pytest.raises(InputError, match="cannot keep"):
            journal.write([fits, wrong])  # type: ignore[list-item]
    assert not any(journal.counts().rows.values())


def test_ids_in_a_range_are_those_of_which_anything_is_on_record(journal: Journal) -> None:
    held, answered, used, stepped = IDS
    journal.write([
        Held(held, 1, 0, PARKED, held, 1, b""), Answered(answered, False, b""),
        Receipted(used, 1, 0, "a", "", b""), Receipted(used, 1, 1, "a", "", b""),
        Stepped(stepped, 0, 1, "", b"", b""),
    ])  # fmt: skip
    assert journal.ids(bytes(16), b"\xff" * 16, 9) == [held, answered, used]
    assert journal.ids(bytes(16), b"\xff" * 16, 2) == [held, answered]
    assert journal.ids(answered, used, 9) == [answered, used]
    assert journal.ids(stepped, b"\xff" * 16, 9) == []


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.write([Forgotten(IDS[0])])
    with pytest.raises(JournalError, match="closed"):
        journal.held(IDS[0])
