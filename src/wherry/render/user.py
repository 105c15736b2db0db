"""Users' functions in block functions: called for the lanes of a loop, by address."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from llvmlite import ir

from wherry.base.errors import InputError
from wherry.ir.expr import Apply
from wherry.ir.user import Kernel, known_kernel
from wherry.kernels.engine import Compiled, engine, symbol
from wherry.kernels.layout import LANES
from wherry.kernels.objects import object_folder
from wherry.kernels.skeletons import over_lanes
from wherry.render.loop import (
    BITS,
    I64,
    Loop,
    Value,
    both,
    constant,
    flags,
    load,
    store,
    stored_element,
    vector,
)

_BYTE = ir.IntType(8)
_NAME = "over_lanes"


def apply(loop: Loop, node: Apply) -> Value:
    """Give the values of a user's function: arguments go to the stack, and its values come back."""
    valid = None
    places = []
    for argument, t in zip(node.arguments, node.types, strict=True):
        value = loop.value(argument)
        valid = both(loop.body, valid, value.valid)
        data = (
            loop.body.zext(flags(loop.body, value.data), vector(_BYTE)) if _truth(t) else value.data
        )
        places.append(_room(loop, data.type))
        store(loop.body, data, places[-1])
    element = _BYTE if _truth(node.type) else stored_element(node.type)
    target = _room(loop, vector(element))
    kind = ir.PointerType(ir.FunctionType(I64, [I64] * (1 + len(places))))
    pointer = loop.head.inttoptr(loop.slot("user", f"{node.name} {node.digest.hex()}"), kind)
    loop.body.call(pointer, [target, *places])
    made = load(loop.body, target, vector(element))
    if _truth(node.type):
        made = loop.body.bitcast(loop.body.icmp_signed("!=", made, constant(_BYTE, 0)), BITS)
    return Value(made, valid)


def _truth(t: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(t))


def _room(loop: Loop, t: Any) -> Any:
    """Give the address of room for a vector, made before the loop."""
    return loop.head.ptrtoint(loop.head.alloca(t), I64)


def address_of(slot: str) -> int:
    """Give where the machine code of a function lies, from what names its entry of a context."""
    name, identity = slot.rsplit(" ", 1)
    function = known_kernel(bytes.fromhex(identity), name)
    return _compiled(function, object_folder()).addresses[_NAME]


@lru_cache(maxsize=256)
def _compiled(function: Kernel, folder: Path) -> Compiled:
    """Give the machine code of a function; it lies in memory as long as this is kept."""
    machine = engine(folder)
    key = machine.key(f"{_NAME} {LANES} {function.digest.hex()}")

    def compiled() -> bytes:
        try:
            return over_lanes(function, LANES, symbol(key, _NAME), machine)
        except ValueError as problem:
            raise InputError(f"numba cannot compile {function.name}: {problem}") from None

    return machine.linked(key, [_NAME], compiled)
