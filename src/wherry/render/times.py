"""Dates out of day numbers, in lanes."""

from __future__ import annotations

from typing import Any

from wherry.render.loop import I32, constant


def floor_divide(b: Any, data: Any, by: int) -> Any:
    """Give integers divided by a positive constant, rounded down."""
    element = data.type.element
    # Below 0 the complement is divided, and complemented again: no sum that could overflow.
    sign = b.ashr(data, constant(element, element.width - 1))
    return b.xor(b.sdiv(b.xor(data, sign), constant(element, by)), sign)


def civil(b: Any, days: Any) -> dict[str, Any]:
    """Give year, month and day of days since 1970 (H. Hinnant, chrono-compatible dates)."""

    def c(value: int) -> Any:
        return constant(I32, value)

    shifted = b.add(days, c(719_468))
    era = floor_divide(b, shifted, 146_097)
    doe = b.sub(shifted, b.mul(era, c(146_097)))
    leaps = b.sub(b.sdiv(doe, c(36_524)), b.add(b.sdiv(doe, c(1_460)), b.sdiv(doe, c(146_096))))
    yoe = b.sdiv(b.add(doe, leaps), c(365))
    before = b.add(b.mul(yoe, c(365)), b.sub(b.sdiv(yoe, c(4)), b.sdiv(yoe, c(100))))
    doy = b.sub(doe, before)
    moved = b.sdiv(b.add(b.mul(doy, c(5)), c(2)), c(153))
    day = b.add(b.sub(doy, b.sdiv(b.add(b.mul(moved, c(153)), c(2)), c(5))), c(1))
    late = b.icmp_signed("<", moved, c(10))
    month = b.select(late, b.add(moved, c(3)), b.sub(moved, c(9)))
    year = b.add(yoe, b.mul(era, c(400)))
    return {"year": b.select(late, year, b.add(year, c(1))), "month": month, "day": day}
