"""Movables: functions whose rest is a message that can be carried to data, sleep, and survive."""

from wherry.flow.annotations import Most
from wherry.flow.wire import Rows, Shard
from wherry.movables.declare import Movable, movable
from wherry.movables.failure import Failed, Unknown
from wherry.movables.finished import Finished
from wherry.movables.home import Dormant, open_home
from wherry.movables.migration import migrate
from wherry.movables.names import (
    event,
    gather,
    idempotent,
    once,
    respond,
    route,
    sleep,
    value,
)
from wherry.movables.stores import LeaseEnded
from wherry.run.receipts import BudgetExceeded

__all__ = [
    "BudgetExceeded",
    "Dormant",
    "Failed",
    "Finished",
    "LeaseEnded",
    "Most",
    "Movable",
    "Rows",
    "Shard",
    "Unknown",
    "event",
    "gather",
    "idempotent",
    "migrate",
    "movable",
    "once",
    "open_home",
    "respond",
    "route",
    "sleep",
    "value",
]
