"""Flight SQL, as far as clients need it to ask a SELECT: statements, prepared ones, the catalogue.

Commands are protobuf messages in an `Any` (FlightSql.proto of Arrow). The few fields that are read
here are read by hand. Handles of prepared statements are the text itself: the agent keeps nothing
for them, and who holds one can ask no more than who has the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import pyarrow as pa

from wherry.base.errors import InputError
from wherry.serve.answers import Answers
from wherry.serve.protobuf import every, field, first, flag, numbers
from wherry.serve.requests import REQUEST_BYTES_MAX, Dataset

_PREFIX: Final = b"type.googleapis.com/arrow.flight.protocol.sql."
_START: Final = re.compile(rb"\x0a[\x00-\x7f]" + re.escape(_PREFIX))
_TABLE_TYPE: Final = "TABLE"

_CREATE: Final = "CreatePreparedStatement"
_CLOSE: Final = "ClosePreparedStatement"
ACTIONS: Final = (
    (_CREATE, "Flight SQL: prepare a SELECT"),
    (_CLOSE, "Flight SQL: forget a prepared SELECT"),
)

_text = pa.utf8()
_named: Final = [("catalog_name", _text), ("db_schema_name", _text)]
_TABLES: Final = pa.schema(
    [*_named, pa.field("table_name", _text, False), pa.field("table_type", _text, False)]
)
_SCHEMAS: Final = {
    "CommandGetCatalogs": pa.schema([pa.field("catalog_name", _text, False)]),
    "CommandGetDbSchemas": pa.schema([_named[0], pa.field("db_schema_name", _text, False)]),
    "CommandGetTables": _TABLES,
    "CommandGetTableTypes": pa.schema([pa.field("table_type", _text, False)]),
    "CommandGetSqlInfo": pa.schema(
        [
            pa.field("info_name", pa.uint32(), False),
            pa.field(
                "value",
                pa.dense_union(
                    [
                        pa.field("string_value", _text),
                        pa.field("bool_value", pa.bool_()),
                        pa.field("bigint_value", pa.int64()),
                        pa.field("int32_bitmask", pa.int32()),
                        pa.field("string_list", pa.list_(_text)),
                        pa.field(
                            "int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))
                        ),
                    ]
                ),
                False,
            ),
        ]
    ),
}

_INFO: Final[dict[int, str | bool]] = {
    0: "wherry",  # FLIGHT_SQL_SERVER_NAME
    2: pa.__version__,  # FLIGHT_SQL_SERVER_ARROW_VERSION
    3: True,  # FLIGHT_SQL_SERVER_READ_ONLY
    4: True,  # FLIGHT_SQL_SERVER_SQL
    5: False,  # FLIGHT_SQL_SERVER_SUBSTRAIT
}


def is_command(data: bytes) -> bool:
    """Tell whether bytes are a command of Flight SQL; tickets of ours never begin so."""
    return _START.match(data) is not None


def is_metadata(command: bytes) -> bool:
    """Tell whether a command asks about datasets or the server, not for their rows."""
    return is_command(command) and _unpacked(command)[0] in _SCHEMAS


def schema_of(command: bytes) -> pa.Schema:
    """Give the columns of the answer to a command about datasets or the server."""
    name, value = _unpacked(command)
    schema = _SCHEMAS[name]
    if name == "CommandGetTables" and flag(value, 5):
        schema = schema.append(pa.field("table_schema", pa.binary(), False))
    return schema


def table_of(command: bytes, datasets: Sequence[Dataset]) -> pa.Table:
    """Answer a command about datasets or the server.

    Raises
    ------
    InputError
        If the command asks for something else.
    """
    if not is_metadata(command):
        raise _unknown(_unpacked(command)[0])
    name, value = _unpacked(command)
    schema = schema_of(command)
    if name == "CommandGetSqlInfo":
        return _sql_info(value, schema)
    if name == "CommandGetTableTypes":
        return pa.table([[_TABLE_TYPE]], schema=schema)
    if name != "CommandGetTables":
        # There is one catalogue and one schema, and both are called nothing.
        wanted = name == "CommandGetCatalogs" or _matches(value, 2, "")
        return pa.table([[""] * wanted for _ in schema], schema=schema)
    kinds = [v.decode(errors="replace") for v in every(value, 4)]
    of_kind = not kinds or _TABLE_TYPE in kinds
    here = of_kind and first(value, 1) in {None, b""} and _matches(value, 2, "")
    found = [d for d in datasets if here and _matches(value, 3, d.name)]
    columns = [[""] * len(found), [""] * len(found)]
    columns += [[d.name for d in found], [_TABLE_TYPE] * len(found)]
    if len(schema) > len(columns):
        columns.append([d.schema for d in found])  # type: ignore[misc]
    return pa.table(columns, schema=schema)


def query_of(command: bytes) -> str:
    """Give the SQL of a command: plain text, a statement, or a prepared one.

    Raises
    ------
    InputError
        If the command holds no query.
    """
    if not is_command(command):
        return _sql(command)
    name, value = _unpacked(command)
    if name == "CommandStatementQuery":
        _no_transaction(value, 2)
        return _sql(first(value, 1) or b"")
    if name == "CommandPreparedStatementQuery":
        return _sql(first(value, 1) or b"")
    raise _unknown(name)


def act(kind: str, body: bytes, answers: Callable[[], Answers], peer: Any) -> list[bytes]:
    """Answer an action of Flight SQL.

    Raises
    ------
    InputError
        If there is no such action, or the query is none.
    """
    if kind not in {_CREATE, _CLOSE}:
        names = ", ".join(["wherry", *(name for name, _ in ACTIONS)])
        raise InputError(f"no action {kind!r}; actions: {names}")
    _, value = _unpacked(body)
    if kind == _CLOSE:
        return []
    _no_transaction(value, 2)
    text = first(value, 1) or b""
    schema = answers().schema(_sql(text), peer)
    none = pa.schema([])
    images = (text, *(s.serialize().to_pybytes() for s in (schema, none)))
    made = b"".join(field(number, image) for number, image in enumerate(images, 1))
    return [_packed("ActionCreatePreparedStatementResult", made)]


def _sql(text: bytes) -> str:
    if len(text) > REQUEST_BYTES_MAX:
        raise InputError(f"a query of {len(text)} bytes; possible: {REQUEST_BYTES_MAX}")
    try:
        return text.decode()
    except UnicodeDecodeError as problem:
        raise InputError(f"a query is UTF-8; {problem}") from None


def _no_transaction(value: bytes, number: int) -> None:
    if first(value, number):
        raise InputError("there are no transactions: agents only read")


def _unknown(name: str) -> InputError:
    known = ", ".join(["CommandStatementQuery", "CommandPreparedStatementQuery", *_SCHEMAS])
    return InputError(f"no command {name or 'of Flight SQL'}; commands: {known}")


def _sql_info(value: bytes, schema: pa.Schema) -> pa.Table:
    asked = set(numbers(value, 1)) or set(_INFO)
    found = {k: v for k, v in _INFO.items() if k in asked}
    kinds = [1 if isinstance(v, bool) else 0 for v in found.values()]
    children: list[list[object]] = [[], [], [], [], [], []]
    places = []
    for kind, v in zip(kinds, found.values(), strict=True):
        places.append(len(children[kind]))
        children[kind].append(v)
    union = schema.field("value").type
    values = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(places, pa.int32()),
        [pa.array(c, f.type) for c, f in zip(children, union, strict=True)],
        [f.name for f in union],
    )
    return pa.table([pa.array(list(found), pa.uint32()), values], schema=schema)


def _matches(value: bytes, number: int, name: str) -> bool:
    """Tell whether a name fits a pattern of SQL's LIKE, where one is given."""
    pattern = first(value, number)
    if pattern is None:
        return True
    text = re.escape(pattern.decode(errors="replace")).replace("%", ".*").replace("_", ".")
    return re.fullmatch(text, name, re.DOTALL) is not None


def _unpacked(data: bytes) -> tuple[str, bytes]:
    """Give the name and the message in an `Any`."""
    url = first(data, 1) or b""
    if not url.startswith(_PREFIX):
        raise InputError("a command of Flight SQL is a protobuf message in an Any")
    return url.removeprefix(_PREFIX).decode(errors="replace"), first(data, 2) or b""


def _packed(name: str, value: bytes) -> bytes:
    return field(1, _PREFIX + name.encode()) + field(2, value)
