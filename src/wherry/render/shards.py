"""The shard of a key, computed by block functions: the same function as `wherry.data.sharding`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.data.sharding import key_values
from wherry.data.types import type_class
from wherry.ir.expr import Shard
from wherry.ir.resolve import type_of
from wherry.render.loop import I32, I64, Loop, Value, constant, flags, vector

_MOST_BOUNDS: Final = 64
_MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT: Final = 31


def refuse_shard(node: Shard) -> str | None:
    """Give why block functions do not compute a shard, None if they do."""
    t = type_of(node.operand)
    kind = type_class(t)
    if kind not in {"integer", "temporal", "time", "duration", "boolean", "decimal"}:
        return "shards of texts and bytes are computed by wherry.data.sharding"
    if kind == "decimal" and node.by == "range":
        return "shards of decimals by range are computed by wherry.data.sharding"
    if node.by == "range" and (kind == "boolean" or len(node.bounds) > _MOST_BOUNDS):
        return f"shards by more than {_MOST_BOUNDS} bounds, or of truth values"
    return None


def shard(loop: Loop, node: Shard, key: Value) -> Value:
    """Give the int32 shard of every lane's key; null is in shard 0."""
    b = loop.body
    made = _by_range(b, node, key.data) if node.by == "range" else _by_hash(b, node, key.data)
    if key.valid is not None:
        made = b.select(flags(b, key.valid), made, constant(I32, 0))
    return Value(made)


def _by_range(b: Any, node: Shard, keys: Any) -> Any:
    t, element = type_of(node.operand), keys.type.element
    unsigned = pa.types.is_unsigned_integer(t)
    found = constant(I32, 0)
    for bound in _stored(node.bounds, t):
        ask = b.icmp_unsigned if unsigned else b.icmp_signed
        above = ask(">=", keys, constant(element, int(bound)))
        found = b.add(found, b.zext(above, vector(I32)))
    return found


def _stored(bounds: tuple[object, ...], t: pa.DataType) -> list[Any]:
    """Give bounds as they would be stored in a column of type `t`."""
    values = key_values(bounds, t)
    if not pa.types.is_integer(t):
        values = values.view(pa.int32() if t.bit_width == 32 else pa.int64())
    return list(np.asarray(values))


def _by_hash(b: Any, node: Shard, keys: Any) -> Any:
    words = _image(b, node, keys)
    for shift, factor in _MIX:
        words = b.xor(words, b.lshr(words, constant(I64, shift)))
        words = b.mul(words, constant(I64, factor))
    words = b.xor(words, b.lshr(words, constant(I64, _LAST_SHIFT)))
    count = node.count
    power = count & (count - 1) == 0
    rest = b.and_(words, constant(I64, count - 1)) if power else b.urem(words, constant(I64, count))
    return b.trunc(rest, vector(I32))


def _image(b: Any, node: Shard, keys: Any) -> Any:
    """Give the 64 bits of each key that are mixed."""
    t, wide = type_of(node.operand), vector(I64)
    if pa.types.is_boolean(t):
        return b.zext(flags(b, keys), wide)
    if pa.types.is_decimal(t):
        if keys.type.element is I64:
            return b.xor(keys, b.ashr(keys, constant(I64, 63)))
        high = b.ashr(keys, constant(keys.type.element, 64))
        return b.trunc(b.xor(keys, high), wide)
    if keys.type == wide:
        return keys
    return (b.zext if pa.types.is_unsigned_integer(t) else b.sext)(keys, wide)
