"""The second version of `top_orders.py`: the caller says how many, and the answer is ranked anew.

    wherry migrate --check examples/top_orders_v2.py --journal orders.journal
    wherry migrate examples/top_orders_v2.py --journal orders.journal

What waits for the event `approved` in the first version goes on here after it: nobody asks again.
"""

from datetime import date

import pyarrow as pa
from top_orders import top_orders as first_version

import wherry as wh
from wherry import col


@wh.migrate(old=first_version, positions={4: 4}, slots={"found": "rows"}, given={"most": 100})
@wh.movable
async def top_orders(customer: int, since: date, most: int) -> pa.Table:
    """Give the customer's largest orders since a day, once somebody approved."""
    shard = await wh.route("orders", key=customer)
    found = await shard.filter(col("o_custkey") == customer, col("o_orderdate") >= since).select(
        "o_orderkey", "o_totalprice"
    )
    if found.num_rows > most:
        found = await found.top_k(most, by="o_totalprice")
    approved: bool = await wh.event("approved")
    if not approved:
        found = await found.limit(0)
    found = await found.top_k(most, by="o_totalprice")
    return await wh.respond(found)
