"""What a hop used, in the dimensions that budgets have, and what that comes to.

A receipt is written where the work was done, in the same batch as the outcome of the step, and told
home; so the receipts that home has and those a node wrote add up to the same, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from wherry.base.errors import CorruptError, InputError, WherryError, unknown_name
from wherry.base.units import format_bytes, format_ns
from wherry.run.message import BUDGETS

DIMENSIONS: Final = BUDGETS
"""Of budgets and receipts, as messages order them: nanoseconds; bytes over links; rows made;
requests to media; bytes in memory, and in a NIC's memory, times nanoseconds; hops; millionths of a
US dollar."""

NOTHING: Final = (0,) * len(DIMENSIONS)
UNLIMITED: Final = (1 << 63) - 1
"""What a budget leaves of a dimension that it does not limit."""

Amounts = tuple[int, ...]
"""One number for each of `DIMENSIONS`."""


class BudgetExceeded(WherryError):
    """A continuation used more than its budget gives; `receipt` is of the hop that went too far."""

    def __init__(self, message: str, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one hop used at one node.

    Attributes
    ----------
    node : str
        Where.
    position : int
        The await that was carried out.
    line : int
        Its line in the file that declares the movable.
    what : str
        Its text.
    start_ns, end_ns : int
        Unix time by the node's clock.
    modelled : bool
        Whether `time_ns` follows from profiles; a clock saw it otherwise.
    used : tuple of int
        An amount for each of `DIMENSIONS`.
    failed : str
        What the await raised; empty if it did not.
    """

    node: str
    position: int
    line: int
    what: str
    start_ns: int
    end_ns: int
    modelled: bool
    used: Amounts
    failed: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Receipt).decode


def to_bytes(receipt: Receipt) -> bytes:
    """Give a receipt as a journal keeps it."""
    return _encode(receipt)


def from_bytes(data: bytes) -> Receipt:
    """Read what `to_bytes` wrote.

    Raises
    ------
    CorruptError
        If the bytes are no receipt.
    """
    try:
        receipt = _decode(data)
    except msgspec.DecodeError as problem:
        raise CorruptError(f"{len(data)} bytes are no receipt: {problem}") from None
    if len(receipt.used) != len(DIMENSIONS):
        raise CorruptError(f"a receipt has {len(receipt.used)} amounts, not {len(DIMENSIONS)}")
    return receipt


def budget_of(limits: dict[str, int]) -> Amounts:
    """Give the amounts that a continuation may use, from limits by dimension.

    Raises
    ------
    InputError
        If there is no such dimension, or a limit is no amount.
    """
    for name, limit in limits.items():
        if name not in DIMENSIONS:
            raise unknown_name("dimension", name, DIMENSIONS)
        if type(limit) is not int or not 0 <= limit < UNLIMITED:
            raise InputError(f"budget: {name} is {limit!r}; possible: an integer, 0 or more")
    return tuple(limits.get(name, UNLIMITED) for name in DIMENSIONS)


def total(amounts: Iterable[Amounts]) -> Amounts:
    """Give the sums of amounts, dimension by dimension."""
    return tuple(map(sum, zip(NOTHING, *amounts, strict=True)))


def left(budget: Amounts, used: Amounts) -> tuple[Amounts, str]:
    """Give what a budget leaves, none below zero, and the first dimension exceeded, or ""."""
    rest = tuple(
        limit if limit == UNLIMITED else limit - amount
        for limit, amount in zip(budget, used, strict=True)
    )
    over = next((name for name, n in zip(DIMENSIONS, rest, strict=True) if n < 0), "")
    return tuple(max(0, n) for n in rest), over


def described(dimension: str, amount: int) -> str:
    """Give an amount as a person would read it.

    >>> described("ram_byte_ns", 3 << 50)
    '3.38e+06 byte-seconds'
    """
    match dimension:
        case "time_ns":
            return format_ns(amount)
        case "bytes":
            return format_bytes(amount)
        case "ram_byte_ns" | "nic_buffer_byte_ns":
            return f"{amount / 1e9:.3g} byte-seconds"
        case "money_micro":
            return f"{amount / 1e6:.6f} USD"
    return f"{amount:,}"
