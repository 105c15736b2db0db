"""Messages of Flight SQL: read by hand, and whatever a stranger sends."""

from __future__ import annotations

from contextlib import suppress

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from wherry.base.errors import InputError
from wherry.serve import flight_sql, protobuf
from wherry.serve.requests import Dataset, Part

URL = b"type.googleapis.com/arrow.flight.protocol.sql."
NAMES = (
    *("CommandStatementQuery", "CommandPreparedStatementQuery", "CommandGetTables"),
    *("CommandGetSqlInfo", "CommandGetCatalogs", "CommandGetDbSchemas", "CommandGetTableTypes"),
    *("CommandGetPrimaryKeys", "CommandStatementUpdate", ""),
)
IMAGE = pa.schema([("x", pa.int8())]).serialize().to_pybytes()
PART = Part("", b"", 1, (1,), False, {})
DATASETS = [Dataset(name, IMAGE, (PART,)) for name in ("orders", "order_lines")]


def command(name: str, value: bytes) -> bytes:
    return protobuf.field(1, URL + name.encode()) + protobuf.field(2, value)


def test_fields_are_read_as_they_were_written() -> None:
    long = b"x" * 300
    data = protobuf.field(1, b"a") + b"\x10\x96\x01" + protobuf.field(3, long) + b"\x10\x01"
    assert list(protobuf.fields(data)) == [(1, b"a"), (2, 150), (3, long), (2, 1)]
    assert protobuf.first(data, 3) == long
    assert protobuf.flag(data, 2)
    assert list(protobuf.numbers(b"\x08\x05\x0a\x03\x01\x96\x01", 1)) == [5, 1, 150]


def test_tables_are_found_by_pattern() -> None:
    def names(value: bytes) -> list[str]:
        found = flight_sql.table_of(command("CommandGetTables", value), DATASETS)
        return found.column("table_name").to_pylist()

    assert names(b"") == ["orders", "order_lines"]
    assert names(protobuf.field(3, b"order%")) == ["orders", "order_lines"]
    assert names(protobuf.field(3, b"order_")) == ["orders"]
    assert names(protobuf.field(3, b"o.*")) == []
    assert names(protobuf.field(1, b"other")) == []
    assert names(protobuf.field(4, b"VIEW")) == []
    table = flight_sql.table_of(command("CommandGetTables", b"\x28\x01"), DATASETS)
    assert pa.ipc.read_schema(table.column("table_schema")[0].as_buffer()).names == ["x"]


def test_statements_give_their_text() -> None:
    text = protobuf.field(1, "SELECT 'ä'".encode())
    for name in NAMES[:2]:
        assert flight_sql.query_of(command(name, text)) == "SELECT 'ä'"
    assert flight_sql.query_of(b"SELECT 1") == "SELECT 1"
    for bad, why in (
        (command(NAMES[0], text + protobuf.field(2, b"t")), "no transactions"),
        (command("CommandStatementUpdate", text), "no command CommandStatementUpdate; commands"),
        (command(NAMES[0], protobuf.field(1, b"\xff")), "UTF-8"),
        (b"x" * (2 << 20), "2097152 bytes"),
    ):
        with pytest.raises(InputError, match=why):
            flight_sql.query_of(bad)


@given(name=st.sampled_from(NAMES), value=st.binary(max_size=60), cut=st.integers(0, 90))
def test_anything_is_answered_or_refused(name: str, value: bytes, cut: int) -> None:
    for data in (command(name, value), command(name, value)[:cut], value):
        for ask in (
            flight_sql.query_of,
            lambda d: flight_sql.is_metadata(d) and flight_sql.schema_of(d),
            lambda d: flight_sql.is_command(d) and flight_sql.table_of(d, DATASETS),
            lambda d: flight_sql.act("ClosePreparedStatement", d, lambda: None, None),
        ):
            with suppress(InputError):
                ask(data)
