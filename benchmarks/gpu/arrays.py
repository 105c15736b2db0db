"""The questions as a person writes them for arrays: one text for numpy, CuPy and torch.

Each gives arrays: of totals and groups what pieces of rows add up to, of filters the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wherry.benchmarks.gpu.lineitem import FLAGS, STATUSES

FROM, UNTIL = 8766, 9131
"""1994-01-01 and 1995-01-01, since 1970-01-01."""
SHIPPED: Final = 10471
"""1998-09-02."""
GROUPS: Final = len(FLAGS) * len(STATUSES)

Arrays = Mapping[str, Any]


def revenue(xp: Any, days: Any, discount: Any, quantity: Any, price: Any) -> Any:
    """Give Q6's sum of columns; CuPy can fuse this into one kernel."""
    passes = (days >= FROM) & (days < UNTIL)
    passes = passes & (discount >= 0.05) & (discount <= 0.07) & (quantity < 24.0)
    return xp.sum(xp.where(passes, price * discount, 0.0))


def q6_columns(columns: Arrays) -> tuple[Any, ...]:
    """Give what `revenue` takes."""
    names = ("l_shipdate", "l_discount", "l_quantity", "l_extendedprice")
    return tuple(columns[name] for name in names)


def q6(xp: Any, columns: Arrays) -> list[Any]:
    """Give the revenue."""
    return [revenue(xp, *q6_columns(columns))]


def q1(xp: Any, columns: Arrays) -> list[Any]:
    """Give the sums and counts of every pair of codes: what Q1's averages are made of, too."""
    codes = columns["l_returnflag"] * len(STATUSES) + columns["l_linestatus"]
    shipped = columns["l_shipdate"] <= SHIPPED
    quantity, price, discount = (
        columns[name] for name in ("l_quantity", "l_extendedprice", "l_discount")
    )
    paid = price * (1.0 - discount)
    charge = paid * (1.0 + columns["l_tax"])
    groups = [shipped & (codes == code) for code in range(GROUPS)]
    # A pass for every group and sum: `bincount` adds to so few places that cards stand in line.
    sums = [
        xp.stack([xp.sum(xp.where(group, values, 0.0)) for group in groups])
        for values in (quantity, price, paid, charge, discount)
    ]
    return [*sums, xp.stack([xp.sum(group) for group in groups])]


def kept(_: Any, columns: Arrays, bound: int) -> list[Any]:
    """Give two columns of the rows whose key is below a bound."""
    passes = columns["key"] < bound
    return [columns["l_extendedprice"][passes], columns["l_discount"][passes]]
