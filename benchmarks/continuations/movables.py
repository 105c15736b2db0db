"""The movables whose messages are measured: what users write, from one hop to a loop of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

import wherry as wh
from wherry import col
from wherry.flow.nodes import (
    CallMovable,
    Chain,
    Gather,
    Perform,
    Program,
    RespondWith,
    RouteTo,
    Sleep,
    TakeValue,
    WaitFor,
)
from wherry.flow.run import compiled_of
from wherry.flow.wire import Rows, Shard

_MOST = 100


@wh.once
def charge(customer: int, cents: int) -> str:
    """Charge nobody: benchmarks only look at the message that would ask for it."""
    return f"{customer}: {cents}"


@wh.movable
async def largest(customer: int, since: date) -> pa.Table:
    """Give a customer's largest orders."""
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("o_custkey") == customer, col("o_orderdate") >= since).select(
        "o_orderkey", "o_totalprice"
    )
    if rows.num_rows > _MOST:
        rows = await rows.top_k(_MOST, by="o_totalprice")
    return await wh.respond(rows)


@wh.movable
async def top_orders(customer: int, since: date, most: int) -> str:
    """Bill a customer's largest orders once somebody approved."""
    shard = await wh.route("orders", key=customer)
    rows = await shard.filter(col("o_custkey") == customer, col("o_orderdate") >= since)
    tries = 0
    while rows.num_rows > most:
        rows = await rows.top_k(most, by="o_totalprice")
        tries += 1
        if tries > 3:
            break
    sums = await rows.agg(total=col("o_totalprice").sum())
    total: float = await wh.value(sums, "total")
    approved: bool = await wh.event("approved")
    if not approved:
        return "refused"
    await wh.sleep(timedelta(days=14))
    said = await charge(customer, int(total * 100))
    return f"{customer}: {said}"


@wh.movable
async def compared(first: int, second: int) -> tuple[int, int]:
    """Count the orders of two customers at once."""
    shard = await wh.route("orders", key=first)
    one, other = await wh.gather(
        shard.filter(col("o_custkey") == first), shard.filter(col("o_custkey") == second)
    )
    return (one.num_rows, other.num_rows)


@wh.movable
async def wandering(times: int) -> int:
    """Go on as often as asked."""
    seen = 0
    for n in range(times):
        shard = await wh.route("orders", key=n)
        seen += shard.number
    return seen


def walked(rows: Rows) -> Iterator[tuple[Program, list[tuple[int, Any, Any]]]]:
    """Give every sample's program, and the steps of a run in which each await gives what it may."""
    day = date(1995, 1, 1)
    for movable, given in (
        (largest, (370, day)),
        (top_orders, (370, day, 50)),
        (compared, (370, 371)),
        (wandering, (3,)),
    ):
        compiled, steps = compiled_of(movable.program), []
        step = compiled.start(given)
        while step[0] >= 0:
            steps.append(step)
            step = compiled.resume(step[0], step[1], _result(movable.program, step[0], rows))
        yield movable.program, steps


def _result(program: Program, position: int, rows: Rows) -> object:
    match program.positions[position].awaits:
        case RouteTo():
            return Shard("orders", "csd0", 3)
        case Chain() | RespondWith():
            return rows
        case Gather(chains):
            return (rows,) * len(chains)
        case TakeValue():
            return 1234.5
        case WaitFor():
            return True
        case Sleep():
            return None
        case Perform():
            return "charged"
        case CallMovable() | None:
            raise AssertionError("samples call no movables")
