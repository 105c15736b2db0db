"""Which Parquet columns are decoded natively, and how what is stored becomes what Arrow holds."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
from msgspec import Struct

from wherry.data.parquet_footer import Chunk, Leaf
from wherry.kernels.parquet_layout import FORM, SINK

_PHYSICAL = {"INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
_CODEC_NAMES = ("UNCOMPRESSED", "SNAPPY", "ZSTD")
_ENCODINGS = {
    "PLAIN": {"BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"},
    "PLAIN_DICTIONARY": {
        "INT32", "INT64", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY",
    },
    "RLE_DICTIONARY": {"INT32", "INT64", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"},
    "DELTA_BINARY_PACKED": {"INT32", "INT64"},
}  # fmt: skip

_MOST_VIEWED = (1 << 31) - 1


class ColumnForm(Struct, frozen=True):
    """How a column's values are stored and decoded.

    Attributes
    ----------
    type : pa.DataType
        Of the field; of its values if it is a dictionary.
    index_type : pa.DataType or None
        Of the field's indices if it is a dictionary.
    physical : str
        How Parquet calls the stored type.
    form, stored_width, width, sink : int
        Entries of `kernels.parquet_layout.JOB`.
    nullable : bool
        True when definition levels are stored.
    """

    type: pa.DataType
    index_type: pa.DataType | None
    physical: str
    form: int
    stored_width: int
    width: int
    sink: int
    nullable: bool

    @property
    def is_text(self) -> bool:
        """Whether values are of any length."""
        return self.form == FORM.TEXT

    @property
    def table_width(self) -> int:
        """Bytes of a value in the table that a dictionary's page becomes."""
        if self.form in (FORM.WIDEN_4, FORM.WIDEN_8):
            return 8
        return 8 if self.form == FORM.BIG_ENDIAN and self.stored_width <= 8 else self.width


@lru_cache(maxsize=1024)
def column_form(leaf: Leaf, t: pa.DataType) -> ColumnForm | str:
    """Give how a column of Arrow type `t` is decoded, or why pyarrow has to do it."""
    index_type = t.index_type if pa.types.is_dictionary(t) else None
    value_type = t if index_type is None else t.value_type
    if pa.types.is_nested(value_type):
        return f"type {t} is nested"
    if index_type is not None and index_type.bit_width > 32:
        return f"dictionary indices are {index_type}, more than 32 bits"
    found = _form(leaf.physical, leaf.length, value_type)
    if found is None or (pa.types.is_timestamp(value_type) and leaf.unit != value_type.unit):
        return f"{leaf.physical} as {value_type} has no native form"
    return ColumnForm(value_type, index_type, leaf.physical, *found, not leaf.required)


def _form(physical: str, length: int, t: pa.DataType) -> tuple[int, int, int, int] | None:
    """Give form, stored width, width and sink of a pair of types."""
    if physical == "BOOLEAN":
        return (FORM.BOOLEAN, 0, 1, SINK.BITS) if pa.types.is_boolean(t) else None
    if physical == "BYTE_ARRAY":
        return _text_form(t)
    if pa.types.is_decimal128(t):
        return _decimal_form(physical, length)
    if physical not in _PHYSICAL or not _stored_as(physical, t):
        return None
    width, stored = t.bit_width // 8, _PHYSICAL[physical]
    return FORM.SAME if width == stored else FORM.NARROW, stored, width, SINK.FIXED


def _text_form(t: pa.DataType) -> tuple[int, int, int, int] | None:
    if pa.types.is_string(t) or pa.types.is_binary(t):
        return FORM.TEXT, 0, 8, SINK.TEXT_4
    if pa.types.is_large_string(t) or pa.types.is_large_binary(t):
        return FORM.TEXT, 0, 8, SINK.TEXT_8
    if pa.types.is_string_view(t) or pa.types.is_binary_view(t):
        return FORM.TEXT, 0, 16, SINK.VIEWS
    return None


def _decimal_form(physical: str, length: int) -> tuple[int, int, int, int] | None:
    if physical == "INT32":
        return FORM.WIDEN_4, 4, 16, SINK.FIXED
    if physical == "INT64":
        return FORM.WIDEN_8, 8, 16, SINK.FIXED
    if physical == "FIXED_LEN_BYTE_ARRAY" and 1 <= length <= 16:
        return FORM.BIG_ENDIAN, length, 16, SINK.FIXED
    return None


def _stored_as(physical: str, t: pa.DataType) -> bool:
    """Say whether Arrow's `t` has the bits of the physical type, or its low ones."""
    if physical == "FLOAT":
        return bool(pa.types.is_float32(t))
    if physical == "DOUBLE":
        return bool(pa.types.is_float64(t))
    if physical == "INT32":
        whole = pa.types.is_integer(t) and t.bit_width <= 32
        decimal = pa.types.is_decimal32(t)
        return bool(whole or decimal or pa.types.is_date32(t) or pa.types.is_time32(t))
    whole = pa.types.is_integer(t) and t.bit_width == 64
    time = pa.types.is_time64(t) or pa.types.is_timestamp(t) or pa.types.is_duration(t)
    return bool(whole or time or pa.types.is_decimal64(t))


def unsupported(form: ColumnForm, chunk: Chunk) -> str | None:
    """Give why pyarrow has to decode a column chunk of a form that is native, or None."""
    if chunk.compression not in _CODEC_NAMES:
        return f"compression {chunk.compression}"
    if form.sink == SINK.VIEWS and chunk.total_uncompressed_size > _MOST_VIEWED:
        return "more text than one buffer of views holds"
    for encoding in chunk.encodings:
        levels = encoding == "RLE" or (encoding == "BIT_PACKED" and not form.nullable)
        if not levels and form.physical not in _ENCODINGS.get(encoding, ()):
            return f"encoding {encoding} of {form.physical}"
    return None
