"""Wherry carries a query to its data.

>>> import pyarrow as pa
>>> import wherry as wh
>>> from wherry import col
>>> sales = pa.table({"shop": [1, 2, 1], "price": [10.0, 20.0, 30.0]})
>>> query = wh.scan(sales).filter(col("price") > 5).group_by("shop").agg(total=col("price").sum())
>>> query.collect().to_pydict()
{'shop': [1, 2], 'total': [40.0, 20.0]}
"""

from typing import TYPE_CHECKING, Any

from wherry.base.errors import CorruptError, InputError, Refused, Retryable, WherryError
from wherry.base.units import Measured, Modelled
from wherry.data.shard_files import write_shards
from wherry.data.sharding import ShardScheme
from wherry.devices.system import load_system
from wherry.ir.builder import Expr, col, count, lit, when
from wherry.ir.user import kernel
from wherry.pipeline import Grouping, Pipeline, scan

if TYPE_CHECKING:
    from wherry.movables import (
        BudgetExceeded,
        Dormant,
        Failed,
        Finished,
        LeaseEnded,
        Most,
        Movable,
        Rows,
        Unknown,
        event,
        gather,
        idempotent,
        migrate,
        movable,
        once,
        open_home,
        respond,
        route,
        sleep,
        value,
    )
    from wherry.plan.explain import Explanation
    from wherry.session import Options, Result, run_many
    from wherry.statements.select import sql
    from wherry.suspension import Suspended

__all__ = [
    "BudgetExceeded",
    "CorruptError",
    "Dormant",
    "Explanation",
    "Expr",
    "Failed",
    "Finished",
    "Grouping",
    "InputError",
    "LeaseEnded",
    "Measured",
    "Modelled",
    "Most",
    "Movable",
    "Options",
    "Pipeline",
    "Refused",
    "Result",
    "Retryable",
    "Rows",
    "ShardScheme",
    "Suspended",
    "Unknown",
    "WherryError",
    "col",
    "count",
    "event",
    "gather",
    "idempotent",
    "kernel",
    "lit",
    "load_system",
    "migrate",
    "movable",
    "once",
    "open_home",
    "respond",
    "route",
    "run_many",
    "scan",
    "sleep",
    "sql",
    "value",
    "when",
    "write_shards",
]


_OF_MOVABLES = frozenset(
    (
        *("BudgetExceeded", "Dormant", "Failed", "Finished", "LeaseEnded", "Most", "Movable"),
        *("Rows", "Unknown", "event", "gather", "idempotent", "migrate", "movable", "once"),
        *("open_home", "respond", "route", "sleep", "value"),
    )
)


def __getattr__(name: str) -> Any:
    """Give what belongs to running pipelines, whose import can wait until one is run."""
    if name in {"Explanation", "Options", "Result", "run_many"}:
        from wherry import session  # noqa: PLC0415

        return getattr(session, name)
    if name in _OF_MOVABLES:
        from wherry import movables  # noqa: PLC0415

        return getattr(movables, name)
    if name == "sql":
        from wherry.statements import select  # noqa: PLC0415

        return select.sql
    if name == "Suspended":
        from wherry import suspension  # noqa: PLC0415

        return suspension.Suspended
    raise AttributeError(f"module 'wherry' has no attribute {name!r}")
