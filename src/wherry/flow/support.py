"""What generated functions can name: listed functions, with those that could grow bounded first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from wherry.base.errors import WherryError
from wherry.flow.types import BYTES_BOUND, ITEMS_BOUND, MOST_BYTES
from wherry.flow.wire import INT_LEAST, INT_MOST

_BITS_MOST: Final = 4096
"""Intermediate ints; a variable has 64 bits."""


TURNS_MOST: Final = 1_000_000
"""Turns of loops, and calls of movables that await nothing, between two awaits."""


class Endless(WherryError):
    """A loop took more turns between two awaits than a step may."""


def endless() -> Endless:
    """Give the error for a step that does not end; no except-clause of the movable sees it."""
    return Endless(f"loops took over {TURNS_MOST:,} turns without an await")


def too_large(value: object) -> OverflowError:
    """Give the error for an int that no frame can hold."""
    bits = value.bit_length() if isinstance(value, int) else 0
    return OverflowError(f"an int of {bits} bits; a variable of a movable has 64, sign included")


def check_size(value: Any) -> None:
    """Refuse what a variable cannot hold, whatever its type.

    Raises
    ------
    OverflowError
        If it is an int of more than 64 bits, or a text or tuple beyond every bound.
    """
    kind = type(value)
    if kind is int:
        if not INT_LEAST <= value <= INT_MOST:
            raise too_large(value)
    elif kind is str or kind is bytes:
        if len(value) > BYTES_BOUND:
            raise _too_long(kind.__name__, len(value), BYTES_BOUND)
    elif kind is tuple:
        if len(value) > ITEMS_BOUND:
            raise _too_long("tuple", len(value), ITEMS_BOUND)
        for item in value:
            check_size(item)


def _too_long(kind: str, length: int, most: int) -> OverflowError:
    return OverflowError(f"a {kind} of length {length}; a variable of a movable has {most} at most")


def error_text(error: BaseException) -> str:
    """Give an error's text, as much of it as a frame holds."""
    text = str(error)
    return (
        text
        if len(text) <= MOST_BYTES // 4 or len(text.encode()) <= MOST_BYTES
        else (text.encode()[: MOST_BYTES - 3].decode(errors="ignore") + "...")
    )


def power(base: Any, exponent: Any) -> Any:
    """Give base ** exponent, bounded; a complex result is a ValueError."""
    if type(base) is int and type(exponent) is int and base.bit_length() * exponent > _BITS_MOST:
        raise OverflowError(f"{base.bit_length()} bits to the power of {exponent}")
    found = base**exponent
    if isinstance(found, complex):
        raise ValueError(f"{base} ** {exponent} is not a real number")  # noqa: TRY004
    return found


def shifted(value: int, by: int) -> int:
    """Give value << by, bounded."""
    if by > _BITS_MOST:
        raise OverflowError(f"a shift by {by} bits")
    return value << by


def times(a: Any, b: Any) -> Any:
    """Give a * b, bounded."""
    for text, count in ((a, b), (b, a)):
        if isinstance(text, str | bytes) and len(text) * count > BYTES_BOUND:
            raise _too_long(type(text).__name__, len(text) * count, BYTES_BOUND)
    return a * b


def str_replace(text: str, old: str, new: str) -> str:
    """Give text.replace(old, new), bounded."""
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > BYTES_BOUND:
        raise _too_long("str", length, BYTES_BOUND)
    return text.replace(old, new)


def _padded(method: Callable[..., str]) -> Callable[..., str]:
    def pad(text: str, width: int, *fill: str) -> str:
        if width > BYTES_BOUND:
            raise _too_long("str", width, BYTES_BOUND)
        return method(text, width, *fill)

    return pad


def str_join(separator: str, items: tuple[str, ...]) -> str:
    """Give separator.join(items), bounded."""
    length = sum(map(len, items)) + len(separator) * max(0, len(items) - 1)
    if length > BYTES_BOUND:
        raise _too_long("str", length, BYTES_BOUND)
    return separator.join(items)


def bounded_range(*bounds: int) -> tuple[int, ...]:
    """Give the numbers of a range as a tuple, bounded."""
    found = range(*bounds)
    if len(found) > ITEMS_BOUND:
        raise _too_long("tuple", len(found), ITEMS_BOUND)
    return tuple(found)


def bounded_decimal(value: Any) -> Decimal:
    """Give a Decimal that a frame can hold."""
    found = Decimal(value)
    if len(found.as_tuple().digits) > 50:
        raise OverflowError("a Decimal of more than 50 digits")
    return found


_FUNCTIONS: Final[tuple[Any, ...]] = (
    *(len, min, max, abs, round, int, float, str, bool, sum, tuple, divmod),
)

NAMES: Final[dict[str, Any]] = {
    "__builtins__": {},
    **{f.__name__: f for f in _FUNCTIONS},
    "type": type,
    "date": date,
    "datetime": datetime,
    "time": time,
    "timedelta": timedelta,
    "bounded_Decimal": bounded_decimal,
    "bounded_range": bounded_range,
    "str_replace": str_replace,
    "str_zfill": _padded(str.zfill),
    "str_ljust": _padded(str.ljust),
    "str_rjust": _padded(str.rjust),
    "str_join": str_join,
    "power": power,
    "shifted": shifted,
    "times": times,
    "too_large": too_large,
    "check_size": check_size,
    "error_text": error_text,
    "TURNS_MOST": TURNS_MOST,
    "endless": endless,
    "INT_LEAST": INT_LEAST,
    "INT_MOST": INT_MOST,
}
"""The whole namespace of generated functions, besides a program's own constants."""
