"""What the journals in databases share: how records are asked for, and how batches become rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from wherry.base.errors import CorruptError
from wherry.run.journal import Counts, Damage, Known, reachable
from wherry.run.journal_group import Operation
from wherry.run.journal_tables import (
    BY_NAME,
    BY_RECORD,
    TABLES,
    UNTAKEN,
    Row,
    Table,
    quoted,
    record_of,
    row_of,
    selected,
    upsert,
)
from wherry.run.records import (
    PARKED,
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

T = TypeVar("T")


class Ask(Protocol):
    """Carries out one statement and gives its rows, if it has any."""

    def __call__(self, statement: str, *values: Any) -> list[Row]: ...  # noqa: D102


PAGE: Final = 512
"""Rows that are read at once of what may be long: no transaction stays open between pages."""
UNREAD: Final = "its checksum does not fit; it is set aside when the journal is driven"
UNFIT: Final = "its checksum does not fit; it was set aside"
DAMAGES_MOST: Final = 10_000
"""Damages that are told; more are counted by their last."""

_UNLEASE: Final = 'DELETE FROM lease WHERE "resource" = ? AND "id" = ?'
_FORGOTTEN: Final = ("held", "step")
_FORGET: Final = tuple(f"DELETE FROM {name} WHERE id = ?" for name in _FORGOTTEN)  # noqa: S608
_MENDED: Final = "; written again or forgotten since"
_MEND: Final = (
    f"UPDATE damaged SET problem = problem || '{_MENDED}' "  # noqa: S608 - a text of ours
    f"WHERE name = ? AND row_key = ? AND problem NOT LIKE '%{_MENDED}'"
)
_TOLD: Final = "DELETE FROM receipt WHERE id = ? AND epoch = ? AND hop = ? AND node = ? AND run = ?"
_DELETES: Final = frozenset((_UNLEASE, _TOLD, *_FORGET))
_OF: Final = (
    ("held", "id = ?"),
    ("step", "id = ? ORDER BY hop"),
    ("effect", "id = ? ORDER BY key"),
    ("lease", "id = ? ORDER BY resource"),
    ("answer", "id = ?"),
    ("receipt", "id = ? AND NOT told ORDER BY epoch, hop, node, run"),
)
_LIVE: Final = (
    # All of `held` is read: an index of what is not parked would cost every step a tenth.
    f"SELECT id FROM held WHERE state <> {PARKED}{{mine}} "  # noqa: S608 - our names
    "UNION SELECT id FROM lease WHERE true{mine} "
    "UNION SELECT id FROM receipt WHERE NOT told"
)
_IDS: Final = " UNION ".join(
    f"SELECT id FROM {table} WHERE id >= ? AND id <= ?"  # noqa: S608 - our names
    for table in ("held", "answer", "receipt")
)
_EXPIRED: Final = (
    "SELECT id FROM answer WHERE at_ns > 0 AND at_ns < ? AND id NOT IN (SELECT id FROM held) "
    "UNION "
    "SELECT id FROM forgotten WHERE at_ns < ? AND id NOT IN (SELECT id FROM held)"
)
ASIDE: Final = "INSERT INTO damaged (name, row_key, problem, image) VALUES (?, ?, ?, ?)"


def puts(home: int = 0) -> dict[type[Any], str]:
    """Give the statement that writes a record, for each kind; `home` as `upsert` has it."""
    return {table.record: upsert(table, home) for table in TABLES}


def operations(
    records: Sequence[Record], put: dict[type[Any], str], *, keeps_told: bool
) -> list[Operation]:
    """Give the statements that write records, in order.

    Raises
    ------
    InputError
        If a value does not fit its column.
    """
    found: list[Operation] = []
    for record in records:
        kind = type(record)
        if kind in _SPECIAL:
            deletes = _deletes(record, keeps_told=keeps_told)
            found += deletes
            if deletes and not (isinstance(record, Forgotten) and record.at_ns):
                continue
        found.append((put.get(kind, ""), row_of(record)))
    return found


_SPECIAL: Final = frozenset((Forgotten, Leased, Receipted))
"""Kinds of which some delete rows."""


def _deletes(record: Record, *, keeps_told: bool) -> list[Operation]:
    if isinstance(record, Forgotten):
        return [(statement, (record.id,)) for statement in _FORGET]
    if isinstance(record, Leased) and not record.until_ns:
        return [(_UNLEASE, (record.resource, record.id))]
    if isinstance(record, Receipted) and record.told and not keeps_told:
        r = record
        return [(_TOLD, (r.id, r.epoch, r.hop, r.node, r.run))]
    return []


def grouped(done: Iterable[Operation]) -> list[tuple[str, list[Row]]]:
    """Give the operations with those of one statement together, where their order allows it.

    Rows of different tables do not meet, and of one table the order stays; but what is deleted
    must be there before, and not what is written after.
    """
    groups: list[tuple[str, list[Row]]] = []
    open_groups: dict[str, list[Row]] = {}
    deleting = False
    for statement, row in done:
        if (statement in _DELETES) is not deleting:
            deleting = not deleting
            open_groups.clear()
        rows = open_groups.get(statement)
        if rows is None:
            rows = open_groups[statement] = []
            groups.append((statement, rows))
        rows.append(row)
    return groups


class SqlJournal(ABC):
    """The reads of a journal in a database.

    Parameters
    ----------
    address : str
        What the database calls where a row is.
    home : bool
        Whether this node keeps receipts for good.
    mine : str
        A condition for the rows of `held` that this home drives; empty where it drives all.
    """

    def __init__(self, address: str, *, home: bool, mine: str = "") -> None:
        self._is_home = home
        self._put = puts()
        self._row_address = address
        self._mine = f" AND {mine}" if mine else ""
        self._select = {table.name: selected(table, address) for table in TABLES}
        self._lost: set[tuple[str, str]] = set()
        """Tables and keys that were asked for and are damaged: they are no "not there"."""

    @abstractmethod
    def _rows(self, statement: str, *values: Any) -> list[Row]:
        """Give all rows of a statement."""

    @abstractmethod
    def _write(self, done: list[Operation]) -> None:
        """Carry out operations in one durable transaction."""

    @abstractmethod
    def _alone(self, work: Callable[[Ask], T]) -> T:
        """Carry out statements in one durable transaction beside which nobody writes."""

    @abstractmethod
    def _everything(self, table: Table) -> Iterator[list[Row]]:
        """Give all rows of a table, as `selected` reads them, some at a time."""

    def write(self, records: Sequence[Record]) -> None:
        """Write a batch, whole or not at all; it is durable when this returns."""
        done = operations(records, self._put, keeps_told=self._is_home)
        mended = self._mended(records) if self._lost else []
        done += [(_MEND, key) for key in mended]
        self._write(done)
        self._lost.difference_update(mended)

    def _mended(self, records: Sequence[Record]) -> list[tuple[str, str]]:
        """Give which damaged rows are of no account any more once these records are written."""
        found = []
        for record in records:
            if isinstance(record, Forgotten):
                whose = record.id.hex()
                found += [k for k in self._lost if k[0] in _FORGOTTEN and k[1].startswith(whose)]
            else:
                table = BY_RECORD[type(record)]
                found.append((table.name, told(getattr(record, name) for name in table.key)))
        return [key for key in dict.fromkeys(found) if key in self._lost]

    # -- what is held

    def held(self, id: bytes) -> Held | None:  # noqa: A002
        """Give a continuation's state here."""
        return self._one("held", "id = ?", id)

    def of(self, id: bytes) -> Known:  # noqa: A002
        """Give all that is known of a continuation."""
        records: list[Record] = []
        for name, where in _OF:
            records += self._list(name, where, id)
        return Known(id, tuple(records), self._damage(id))

    def live(self) -> Iterator[Known]:
        """Give what this node has to do something for, by id."""
        # Sorted here: to be asked for an order, a database would take the long way by the index.
        ids = sorted(self._rows(_LIVE.format(mine=self._mine)))
        return (self.of(id_) for (id_,) in ids)

    def active(self) -> Iterator[Held]:
        """Give what is running, away or passed and driven by this home, by id."""
        only = f"state < {PARKED}{self._mine}"
        ids = sorted(self._rows(f"SELECT id FROM held WHERE {only}"))  # noqa: S608 - our names
        found = (self._list("held", f"id = ? AND {only}", *row) for row in ids)
        return (held for rows in found for held in rows)

    def due(self, now_ns: int, most: int) -> list[Held]:
        """Give up to `most` whose `wake_ns` has come, earliest first."""
        where = f"wake_ns > 0 AND wake_ns <= ?{self._mine} ORDER BY wake_ns LIMIT ?"
        return self._list("held", where, now_ns, most)

    def next_wake(self) -> int:
        """Give the earliest `wake_ns` of what this home drives; 0 if there is none."""
        where = f"wake_ns > 0{self._mine}"
        return self._rows(f"SELECT min(wake_ns) FROM held WHERE {where}")[0][0] or 0  # noqa: S608

    def waiting(self, event: str, most: int) -> list[Held]:
        """Give up to `most` parked ones that wait for an event."""
        where = f"event = ? AND event <> '' AND state = {PARKED}{self._mine} LIMIT ?"
        return self._list("held", where, event, most)

    def match(self, name: str) -> tuple[Held, Signal] | None:
        """Give a parked one that waits for an event, and the first arrival that nobody took."""
        where = f"name = ? AND {UNTAKEN} ORDER BY at_ns, number LIMIT 1"
        arrived = self._list("signal", where, name)
        waiting = self.waiting(name, 1) if arrived else []
        return (waiting[0], arrived[0]) if waiting else None

    def pending(self) -> list[str]:
        """Give the names of events that arrived and that nobody took."""
        rows = self._rows(f"SELECT DISTINCT name FROM signal WHERE {UNTAKEN} ORDER BY name")  # noqa: S608
        return [row[0] for row in rows]

    def listed(
        self,
        state: int | None = None,
        tenant: str | None = None,
        limit: int = 100,
        after: bytes = b"",
    ) -> list[Held]:
        """Give up to `limit` continuations with ids above `after`, by id, whoever drives them."""
        where, values = "id > ?", [after]
        for column, wanted in (("state", state), ("tenant", tenant)):
            if wanted is not None:
                where += f" AND {column} = ?"
                values.append(wanted)  # type: ignore[arg-type]
        return self._list("held", f"{where} ORDER BY id LIMIT ?", *values, limit)

    def ids(self, first: bytes, last: bytes, most: int) -> list[bytes]:
        """Give up to `most` ids from `first` to `last` of which anything is on record."""
        rows = self._rows(f"{_IDS} ORDER BY id LIMIT ?", *(first, last) * 3, most)
        return [bytes(row[0]) for row in rows]

    # -- what belongs to a continuation

    def signal(self, name: str, number: bytes) -> Signal | None:
        """Give one arrival of an event."""
        return self._one("signal", "name = ? AND number = ?", name, number)

    def signals(self, name: str, most: int) -> list[Signal]:
        """Give up to `most` arrivals of an event, by their numbers."""
        return self._list("signal", "name = ? ORDER BY number LIMIT ?", name, most)

    def stepped(self, id: bytes, hop: int) -> Stepped | None:  # noqa: A002
        """Give what the step of a hop came to."""
        return self._one("step", "id = ? AND hop = ?", id, hop)

    def steps(self, id: bytes) -> list[Stepped]:  # noqa: A002
        """Give a continuation's steps here, by hop."""
        return self._list("step", "id = ? ORDER BY hop", id)

    def effect(self, key: bytes) -> Effect | None:
        """Give what is known of an effect by its dedupe key."""
        return self._one("effect", "key = ?", key)

    def leases_ended(self, now_ns: int, most: int) -> list[Leased]:
        """Give up to `most` leases that ended at or before a time, earliest first."""
        where = f"until_ns <= ?{self._mine} ORDER BY until_ns LIMIT ?"
        return self._list("lease", where, now_ns, most)

    def leases_of(self, id: bytes) -> list[Leased]:  # noqa: A002
        """Give what is kept for a continuation, by resource."""
        return self._list("lease", "id = ? ORDER BY resource", id)

    def answered(self, id: bytes) -> Answered | None:  # noqa: A002
        """Give the answer of a continuation."""
        return self._one("answer", "id = ?", id)

    def receipts(
        self,
        id: bytes | None = None,  # noqa: A002
        tenant: str | None = None,
    ) -> Iterator[Receipted]:
        """Give the receipts of a continuation, of a tenant, or all, in order."""
        parts = [("id = ?", id), ("tenant = ?", tenant)]
        only = " AND ".join(text for text, wanted in parts if wanted is not None)
        values = [wanted for _, wanted in parts if wanted is not None]
        return self._paged(BY_NAME["receipt"], only, *values)

    def forgotten_ns(self, id: bytes) -> int:  # noqa: A002
        """Give when a continuation was forgotten; 0 if it was not."""
        found = self._one("forgotten", "id = ?", id)
        return found.at_ns if found is not None else 0

    # -- code

    def code(self, digest: bytes) -> Code | None:
        """Give the bytes of a program or plan."""
        return self._one("code", "digest = ?", digest)

    def codes(self) -> Iterator[Code]:
        """Give all programs and plans, by digest."""
        return self._paged(BY_NAME["code"], "")

    def collect(self) -> int:
        """Drop code that no continuation and no code in use names."""

        def drop(rows: Ask) -> int:
            found = rows(self._select["code"])
            intact = [record_of(BY_NAME["code"], row) for row in found]
            codes: dict[bytes, Code] = {one.digest: one for one in intact if one is not None}
            named = reachable(self._roots(rows), codes.get)
            dropped = [digest for digest in codes if digest not in named]
            for digest in dropped:
                rows("DELETE FROM code WHERE digest = ?", digest)
            return len(dropped)

        return self._alone(drop)

    def _roots(self, rows: Ask) -> set[bytes]:
        """Give the digests of the code that states name."""
        found: set[bytes] = set()
        after = b""
        while page := rows(f"{self._select['held']} WHERE id > ? ORDER BY id LIMIT {PAGE}", after):
            after = page[-1][0]
            for row in page:
                held = record_of(BY_NAME["held"], row)
                # Of a damaged one, the program at least may be told.
                found |= {held.program, held.setting} if held is not None else {row[2]}
        return found

    def expire(self, before_ns: int, *, receipts: bool) -> int:
        """Drop what was kept of continuations that are over since a time."""
        tables = ["answer", "forgotten", "effect", *(["receipt"] if receipts else [])]

        def drop(rows: Ask) -> int:
            ended = rows(_EXPIRED, before_ns, before_ns)
            for (id_,) in ended:
                for table in tables:
                    rows(f"DELETE FROM {table} WHERE id = ?", id_)  # noqa: S608 - our names
            rows("DELETE FROM signal WHERE at_ns > 0 AND at_ns < ?", before_ns)
            return len(ended)

        return self._alone(drop)

    # -- the whole

    def counts(self) -> Counts:
        """Give how many rows there are."""
        rows = {t.name: self._rows(f"SELECT count(*) FROM {t.name}")[0][0] for t in TABLES}  # noqa: S608
        states = self._rows("SELECT state, count(*) FROM held GROUP BY state ORDER BY state")
        return Counts(rows, {state: number for state, number in states})  # noqa: C416 - typed rows

    def beat(self) -> None:
        """Do nothing: no other home knows of it."""
        return

    def adopt(self, most: int) -> list[Held]:  # noqa: ARG002
        """Give nothing: there are no other homes."""
        return []

    def check(self) -> list[Damage]:
        """Read everything and give what is not as it was written; such rows are set aside."""
        before = len(self.damages())
        for table in TABLES:
            for rows in self._everything(table):
                self._intact(table, rows)
        return self.damages()[before:]

    def damages(self) -> list[Damage]:
        """Give what was found damaged up to now, since the journal was made."""
        rows = self._rows(f"SELECT name, row_key, problem FROM damaged LIMIT {DAMAGES_MOST}")  # noqa: S608
        found = [Damage(*row) for row in rows]
        aside = {(one.table, one.key) for one in found}
        # Who only reads finds damage, too, and sets nothing aside.
        return found + [Damage(*one, UNREAD) for one in sorted(self._lost - aside)]

    def _still_lost(self) -> set[tuple[str, str]]:
        told_of = (one for one in self.damages() if not one.problem.endswith(_MENDED))
        return {(one.table, one.key) for one in told_of}

    # -- rows

    def _one(self, name: str, where: str, *values: Any) -> Any | None:
        found = self._list(name, where, *values)
        if found:
            return found[0]
        if self._lost and (name, told(values)) in self._lost:
            raise CorruptError(
                f"the journal's {name} {told(values)} is not as it was written; `damages` has it"
            )
        return None

    def _damage(self, id_: bytes) -> str:
        """Give which rows of a continuation are known to be damaged."""
        key = id_.hex()
        return ", ".join(f"{table} {row}" for table, row in sorted(self._lost) if key in row)

    def _list(self, name: str, where: str, *values: Any) -> list[Any]:
        return self._intact(
            BY_NAME[name], self._rows(f"{self._select[name]} WHERE {where}", *values)
        )

    def _intact(self, table: Table, rows: list[Row]) -> list[Any]:
        found = [record_of(table, row) for row in rows]
        if None in found:
            for row, record in zip(rows, found, strict=True):
                if record is None:
                    self._set_aside(table, row)
            return [record for record in found if record is not None]
        return found

    def _paged(self, table: Table, only: str, *values: Any) -> Iterator[Any]:
        """Give the records of a table in the order of its key; no transaction spans two pages."""
        keys, marks = quoted(table.key), ", ".join("?" * len(table.key))
        order = f"ORDER BY {keys} LIMIT {PAGE}"
        conditions, after = [only] if only else [], ()
        while True:
            where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
            rows = self._rows(f"{self._select[table.name]} {where} {order}", *values, *after)
            found = self._intact(table, rows)
            yield from found
            if len(rows) < PAGE:
                return
            if not found:
                raise CorruptError(f"the journal's table {table.name} is damaged: {PAGE} rows")
            after = tuple(getattr(found[-1], name) for name in table.key)
            conditions = [*([only] if only else []), f"({keys}) > ({marks})"]

    def _set_aside(self, table: Table, row: Row) -> None:
        """Take a row that is not as it was written out of its table, and keep what it was."""
        self._write(self._aside(table, row))

    def _aside(self, table: Table, row: Row) -> list[Operation]:
        key = told(row[: len(table.key)])
        image = repr(row[:-1]).encode("utf-8", "surrogateescape")
        drop = f"DELETE FROM {table.name} WHERE {self._row_address} = ?"  # noqa: S608 - our names
        self._lost.add((table.name, key))
        return [(ASIDE, (table.name, key, UNFIT, image)), (drop, (row[-1],))]


def told(values: Iterable[Any]) -> str:
    """Give a key for people."""
    key = " ".join(v.hex() if isinstance(v, bytes) else str(v) for v in values)
    return key.encode(errors="backslashreplace").decode()
