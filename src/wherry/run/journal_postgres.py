"""A journal in PostgreSQL: several homes, on several hosts, share it.

Each home drives its own continuations and says now and then that it lives (`beat`). When one stops
to, another takes over what it drove (`adopt`); from then on the first can write nothing more, since
every batch checks, in its own transaction, that the home is still who it was. Times of these leases
are the server's: homes' clocks may differ.

The tables are in the schema `wherry`. psycopg is needed: `pip install 'wherry[postgres]'`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

from wherry.base.errors import CorruptError, InputError, WherryError
from wherry.run.journal import Displaced, JournalBusy, JournalError, JournalFull, refused
from wherry.run.journal_group import GroupCommit, Operation
from wherry.run.journal_sql import PAGE, Ask, SqlJournal, grouped, puts
from wherry.run.journal_tables import APPLICATION, TABLES, VERSION, Row, Table, definitions
from wherry.run.records import Held

T = TypeVar("T")

_CONNECT_S: Final = 10
_HOMES: Final = (
    "CREATE TABLE home (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "name TEXT NOT NULL UNIQUE, token BYTEA NOT NULL, until TIMESTAMPTZ NOT NULL)"
)
_MAKE: Final = (
    "CREATE SCHEMA wherry",
    "SET search_path = wherry",
    *definitions("postgres"),
    *(f"CREATE INDEX {table.name}_home ON {table.name} (home)" for table in TABLES if table.home),
    _HOMES,
    "CREATE TABLE version (version BIGINT NOT NULL)",
    f"INSERT INTO version VALUES ({VERSION})",  # noqa: S608 - a number of ours
)
_ENTER: Final = (
    "INSERT INTO home (name, token, until) "  # noqa: S608 - a number of ours
    "VALUES (?, ?, clock_timestamp() + make_interval(secs => ?)) ON CONFLICT (name) "
    "DO UPDATE SET token = excluded.token, until = excluded.until "
    "WHERE home.until < clock_timestamp() OR home.token = '' "
    f"OR pg_try_advisory_xact_lock({APPLICATION}, home.number::integer) RETURNING number"
)
_HOLD: Final = "SELECT pg_try_advisory_lock(?, ?::integer)"
_BEAT: Final = (
    "UPDATE home SET until = clock_timestamp() + make_interval(secs => ?) "
    "WHERE number = ? AND token = ? RETURNING number"
)
_LEAVE: Final = "UPDATE home SET until = clock_timestamp() WHERE number = ? AND token = ?"
_STILL: Final = "SELECT number FROM home WHERE number = ? AND token = ? FOR SHARE"
_DISPLACE: Final = (
    "UPDATE home SET token = '' WHERE until < clock_timestamp() AND token <> '' AND number <> ?"
)
_TAKE: Final = (
    "UPDATE {table} SET home = ? WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE home IN "
    "(SELECT number FROM home WHERE token = '' AND number <> ?) LIMIT ? FOR UPDATE SKIP LOCKED))"
)


def open_postgres(
    address: str, name: str | None = None, *, lease_s: float = 30.0, home: bool = True
) -> PostgresJournal:
    """Open a journal for the home `name`; it is made if there is none.

    Parameters
    ----------
    address : str
        A connection string or URL of libpq: "host=/run/postgresql dbname=wherry".
    name : str
        Of the home; the same again when it is started again, so that it finds what it drove. None:
        the host's name, which is right where there is one home a host.
    lease_s : float
        Seconds without a `beat` after which another home may take over.
    home : bool
        Whether receipts are kept for good here.

    Raises
    ------
    JournalBusy
        If a home of this name lives.
    InputError
        If the server cannot be reached or refuses, the journal was made by a newer version, or
        psycopg is absent.
    """
    return PostgresJournal(address, name or platform.node(), lease_s=lease_s, home=home)


class PostgresJournal(SqlJournal):
    """A journal on a server; see `wherry.run.journal.Journal` for what it can do."""

    def __init__(self, address: str, name: str, *, lease_s: float, home: bool) -> None:
        super().__init__("ctid", home=home)
        self._psycopg = _psycopg()
        self._address, self._name, self._lease_s = address, name, lease_s
        self._pid = os.getpid()
        self._token = os.urandom(16)
        self._closed = False
        self._group = GroupCommit(self._carry_out)
        self._reading = threading.Lock()
        self._writer: Any = None
        self._reader: Any = None
        try:
            self._connect()
            self._prepare()
        except BaseException as error:
            self._disconnect()
            if not isinstance(error, self._psycopg.Error):
                raise
            raise InputError(f"cannot open the journal of {name!r}: {error}") from None
        self._lost = self._still_lost()

    def _disconnect(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()

    def _connect(self) -> None:
        self._writer = self._psycopg.connect(
            self._address, autocommit=True, connect_timeout=_CONNECT_S
        )
        self._reader = self._psycopg.connect(
            self._address, autocommit=True, connect_timeout=_CONNECT_S
        )
        for connection in (self._writer, self._reader):
            connection.execute("SET search_path = wherry")

    def _prepare(self) -> None:
        with self._writer.transaction():
            self._writer.execute("SELECT pg_advisory_xact_lock(%s)", (APPLICATION,))
            if not self._asked("SELECT 1 FROM pg_namespace WHERE nspname = 'wherry'"):
                for statement in _MAKE:
                    self._writer.execute(statement)
            ((version,),) = self._asked("SELECT version FROM wherry.version")
            if version > VERSION:
                raise InputError(
                    f"the journal has version {version}; this Wherry reads versions up to {VERSION}"
                )
            entered = self._asked(_ENTER, self._name, self._token, self._lease_s)
            if not entered:
                raise JournalBusy(f"a home named {self._name!r} drives its part of the journal")
            self._number = entered[0][0]
        # For as long as this session lives, and its lease, nobody else is this home.
        self._writer.execute(_marked(_HOLD), (APPLICATION, self._number))
        self._mine = f" AND home = {self._number}"
        self._put = puts(self._number)

    # -- reading

    def _rows(self, statement: str, *values: Any) -> list[Row]:
        self._usable()
        with self._reading, self._reporting():
            return self._reader.execute(_marked(statement), values).fetchall()

    def _everything(self, table: Table) -> Iterator[list[Row]]:
        self._usable()
        keys = ", ".join(f'"{name}"' for name in table.key)
        statement = f"{self._select[table.name]} ORDER BY {keys}"
        with self._reporting(), self._psycopg.connect(self._address) as own:
            own.execute("SET search_path = wherry")
            with own.cursor("everything") as rows:
                rows.execute(statement)
                while page := rows.fetchmany(PAGE):
                    yield page

    # -- writing

    def _write(self, done: list[Operation]) -> None:
        self._usable()
        self._group.write(done)

    def _carry_out(self, done: list[Operation]) -> None:
        with self._transaction() as cursor:
            for statement, rows in grouped(done):
                cursor.executemany(_marked(statement), rows)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Begin one that ends well only if this home is still who it was."""
        with self._reporting(), self._writer.transaction(), self._writer.cursor() as cursor:
            if not cursor.execute(_marked(_STILL), (self._number, self._token)).fetchall():
                raise _displaced(self._name)
            yield cursor

    def _alone(self, work: Callable[[Ask], T]) -> T:
        self._usable()
        with self._group.lock, self._transaction() as cursor:
            tables = ", ".join(table.name for table in TABLES)
            cursor.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")

            def rows(statement: str, *values: Any) -> list[Row]:
                cursor.execute(_marked(statement), values)
                return cursor.fetchall() if cursor.description else []

            return work(rows)

    def _asked(self, statement: str, *values: Any) -> list[Row]:
        return self._writer.execute(_marked(statement), values).fetchall()

    # -- homes

    def beat(self) -> None:
        """Tell that this home lives; others take over what it drives when it stops to."""
        self._usable()
        with self._group.lock, self._reporting():
            if not self._asked(_BEAT, self._lease_s, self._number, self._token):
                raise _displaced(self._name)

    def adopt(self, most: int) -> list[Held]:
        """Take over up to `most` continuations of homes that give no sign of life any more."""
        self._usable()
        with self._group.lock, self._transaction() as cursor:
            cursor.execute(_marked(_DISPLACE), (self._number,))
            take = _marked(_TAKE.format(table="lease"))
            cursor.execute(take, (self._number, self._number, most))
            take = _marked(f"{_TAKE.format(table='held')} RETURNING id")
            ids = cursor.execute(take, (self._number, self._number, most)).fetchall()
        found = (self._list("held", "id = ?", *row) for row in ids)
        return [held for rows in found for held in rows]

    # -- its life

    def close(self) -> None:
        """End the use of the journal; a second time does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._group.lock, self._reading:
            self._closed = True
            with contextlib.suppress(self._psycopg.Error):
                self._writer.execute(_marked(_LEAVE), (self._number, self._token))
            self._disconnect()

    def _usable(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed")
        if os.getpid() != self._pid:
            raise JournalError(
                f"the journal was opened by process {self._pid}, and this is a fork of it; "
                f"possible: open it anew"
            )
        if self._writer.closed or self._reader.closed:
            self._reconnect()

    def _reconnect(self) -> None:
        with self._group.lock, self._reading, self._reporting():
            if self._writer.closed or self._reader.closed:
                self._disconnect()
                self._connect()
                self._writer.execute(_marked(_HOLD), (APPLICATION, self._number))

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise self._reported(error) from error

    def _reported(self, error: Any) -> WherryError:
        """Give an error of the server as what it means for the journal."""
        state = error.sqlstate or ""
        seen = f"the journal's server: {str(error).strip()}"
        if state == "53100":
            return JournalFull(f"{seen}; nothing of the batch was written")
        if state in {"25006", "42501"}:
            return InputError(f"{seen}; possible: a server and a role that may write")
        if state.startswith("22") or isinstance(error, self._psycopg.DataError):
            return refused("a record:", str(error).strip(), "what its fields declare")
        if state.startswith("XX"):
            return CorruptError(seen)
        if not state or state[:2] in {"08", "40", "53", "55", "57"}:
            return JournalBusy(f"{seen}; it may answer later")
        return JournalError(seen)


def _psycopg() -> Any:
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:
        raise InputError(
            "a journal in PostgreSQL needs psycopg: python -m pip install 'wherry[postgres]'"
        ) from None
    return psycopg


def _displaced(name: str) -> Displaced:
    return Displaced(f"the home {name!r} gave no sign of life, and another took over what it drove")


@lru_cache(maxsize=256)
def _marked(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")
