"""Types that generated queries are about: their values, and how SQL spells both."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
from msgspec import Struct

from wherry.data.arrays import plain, plain_type

TEXTS = ("", "a", "ab", "abc", "b%", "ü_1", "naïve", "line\nbreak", "a longer text than views hold")
DAYS = (date(1969, 12, 31), date(1970, 1, 1), date(1996, 2, 29), date(2024, 12, 31))
MOMENTS = (
    datetime(1969, 12, 31, 23, 59, 58),
    datetime(1970, 1, 1),
    datetime(1996, 2, 29, 12, 30, 1),
    datetime(2024, 12, 31, 23, 59, 59),
)
CLOCKS = (time(0), time(5, 6, 7), time(12, 30), time(23, 59, 59))
BYTES = (b"", b"a", b"ab", b"\0", b"\xff\0", b"a longer run of bytes than views hold")
FLOATS = (-2.5, 0.0, 0.1, 0.25, 1.0, 3.0, 1e6)
SMALL = (0, 1, 2, 3, 5, 7)
UNITS = ("s", "ms", "us", "ns")

INTEGERS = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
}
DICTIONARIES = (
    pa.dictionary(pa.int8(), pa.utf8()),
    pa.dictionary(pa.int32(), pa.utf8()),
    pa.dictionary(pa.uint16(), pa.large_utf8()),
)
DECIMALS = (
    pa.decimal32(7, 2),
    pa.decimal64(15, 3),
    pa.decimal128(5, 2),
    pa.decimal128(12, 4),
    pa.decimal128(18, 0),
    pa.decimal128(27, 3),
    pa.decimal128(38, 6),
)
TYPES = (
    *(pa.bool_(), *INTEGERS, pa.float32(), pa.float64(), pa.date32(), pa.date64()),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp("us", "UTC"), *DECIMALS),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us")),
    *(pa.utf8(), pa.large_utf8(), pa.string_view(), *DICTIONARIES),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
    *(pa.dictionary(pa.uint8(), t) for t in (pa.large_binary(), pa.time64("us"), pa.date32())),
)


class Known(Struct, frozen=True):
    """A column of a relation in the making: its type, integers' bounds, and whether it is exact.

    Inexact values (sums and means of floats, decimals as floats) may differ in the last digits
    between two engines, so nothing is compared, ordered or grouped by them.
    """

    type: pa.DataType
    low: int = 0
    high: int = 0
    exact: bool = True


def family(t: pa.DataType) -> str:
    """Give what may meet what without a thought."""
    if pa.types.is_dictionary(t):
        return family(t.value_type)
    if "string" in str(t):
        return "text"
    if "binary" in str(t):
        return "bytes"
    if pa.types.is_time(t):
        return "clock"
    if pa.types.is_timestamp(t):
        return "zoned" if t.tz else "time"
    if pa.types.is_date(t):
        return "time"
    return "bool" if pa.types.is_boolean(t) else "number"


def limits(t: pa.DataType) -> tuple[int, int]:
    """Give the least and the greatest value of an integer type."""
    if pa.types.is_unsigned_integer(t):
        return 0, (1 << t.bit_width) - 1
    return -(1 << t.bit_width - 1), (1 << t.bit_width - 1) - 1


def pool(t: pa.DataType, *, wide: bool = False) -> tuple[object, ...]:
    """Give the values that a column of a type is drawn from; wide ones reach the type's ends."""
    if pa.types.is_integer(t):
        low, high = limits(t)
        negative = () if low == 0 else (-1, -3)
        return (*SMALL, *negative, *((low, high) if wide else ()))
    if pa.types.is_floating(t):
        return FLOATS
    if pa.types.is_decimal(t):
        step = Decimal(1).scaleb(-t.scale)
        return (Decimal(0), step, -3 * step, Decimal(7), 125 * step)
    if pa.types.is_timestamp(t):
        parts = 0 if t.unit in "sms" and t.unit != "us" else 123456
        return tuple(m.replace(microsecond=parts, tzinfo=UTC if t.tz else None) for m in MOMENTS)
    pools = {"time": DAYS, "bool": (True, False), "text": TEXTS, "bytes": BYTES, "clock": CLOCKS}
    return pools[family(t)]


def sql_type(t: pa.DataType) -> str:
    """Give DuckDB's name of a type."""
    if t in INTEGERS:
        return INTEGERS[t]
    if pa.types.is_decimal(t):
        return f"DECIMAL({t.precision}, {t.scale})"
    if pa.types.is_timestamp(t):
        units = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
        return "TIMESTAMP WITH TIME ZONE" if t.tz else units[t.unit]
    if pa.types.is_floating(t):
        return "FLOAT" if t == pa.float32() else "DOUBLE"
    return {
        "time": "DATE",
        "bool": "BOOLEAN",
        "text": "VARCHAR",
        "bytes": "BLOB",
        "clock": "TIME",
    }[family(t)]


def sql_literal(value: object, t: pa.DataType) -> str:
    """Give a value as SQL, in type `t`."""
    match value:
        case bool():
            return str(value).upper()
        case int() | Decimal():
            return f"({value})"
        case float():
            return f"CAST({value!r} AS {sql_type(t)})"
        case datetime():
            zone = "+00" if value.tzinfo else ""
            text = value.replace(tzinfo=None).isoformat(" ") + zone
            return f"CAST('{text}' AS {sql_type(t)})"
        case date():
            return f"DATE '{value}'"
        case time():
            return f"TIME '{value}'"
        case bytes():
            return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"
    return "'" + str(value).replace("'", "''") + "'"


def plain_for_duckdb(table: pa.Table) -> pa.Table:
    """Give values in types that DuckDB registers: it knows not every view, dictionary and unit."""
    fields = [pa.field(f.name, _plain_type(f.type)) for f in table.schema]
    return pa.table([plain(table[f.name]).cast(f.type) for f in fields], schema=pa.schema(fields))


def _plain_type(t: pa.DataType) -> pa.DataType:
    t = plain_type(t)
    if t == pa.date64():
        return pa.date32()
    return {"text": pa.utf8(), "bytes": pa.binary(), "clock": pa.time64("us")}.get(family(t), t)
