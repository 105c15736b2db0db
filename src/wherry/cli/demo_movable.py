"""The movable of `wherry demo resume`, and the process that drives it.

python -m wherry.cli.demo_movable begin JOURNAL ORDERS SYSTEM     prints the id, then waits
python -m wherry.cli.demo_movable resume JOURNAL ID               prints the answer as JSON
"""

from __future__ import annotations

import sys
import time

import pyarrow as pa

import wherry as wh
from wherry import col
from wherry.cli.output import show_json

CUSTOMER = 370
_SLOW_S = 600.0
"""How long the service takes in the first life: it is killed long before."""

_slow: list[bool] = []


@wh.idempotent(key="customer")
def allowance(customer: int, orders: int) -> int:
    """Ask a service how many orders a customer may see; it may be asked again."""
    if _slow:
        time.sleep(_SLOW_S)
    return min(orders, 3 if customer % 2 == 0 else 1)


@wh.movable
async def allowed_orders(customer: int) -> pa.Table:
    """Give the cheapest orders of a customer, as many as another service allows."""
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("customer") == customer).sort("price", "number")
    most = await allowance(customer, rows.num_rows)
    shown = await rows.limit(most)
    return await wh.respond(shown)


def main(words: list[str]) -> None:
    """Be one of the two processes."""
    match words:
        case ["begin", journal, orders, system]:
            _slow.append(True)
            with wh.open_home(journal, system=system, datasets={"orders": orders}) as home:
                id_ = home.start(allowed_orders, CUSTOMER)
                print(id_.hex(), flush=True)
                home.result(id_)
        case ["resume", journal, id_]:
            with wh.open_home(journal) as home:
                show_json(home.result(bytes.fromhex(id_)).table.to_pydict())


if __name__ == "__main__":
    main(sys.argv[1:])
