"""The largest orders of a customer: routed, filtered where they lie, looked at before they go out.

    wherry run examples/top_orders.py:top_orders --arg customer=370 --arg since=1995-01-01 \
        --system dpu-csd-host --dataset orders=data/orders.arrow --journal orders.journal

It runs until it waits for the event `approved`; then it is a row of the journal, until

    wherry resume --journal orders.journal --event approved --payload true
"""

from datetime import date

import pyarrow as pa

import wherry as wh
from wherry import col

MOST = 100


@wh.movable
async def top_orders(customer: int, since: date) -> pa.Table:
    """Give the customer's orders since a day, the largest first, once somebody approved."""
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("o_custkey") == customer, col("o_orderdate") >= since).select(
        "o_orderkey", "o_totalprice"
    )
    if rows.num_rows > MOST:
        rows = await rows.top_k(MOST, by="o_totalprice")
    approved: bool = await wh.event("approved")
    if not approved:
        rows = await rows.limit(0)
    return await wh.respond(rows)
