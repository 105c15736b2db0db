"""A movable's program and what was proven of it, word for word."""

from collections.abc import Callable

import pytest
from support.movables import Movable, compiled

from wherry.flow.nodes import Program
from wherry.flow.proof import proof, proof_text
from wherry.flow.text import program_text

TEXT = """
MOST, TWICE = 1_000_000, lit(2)

@movable
async def remind(name: str, days: int) -> bool:
    for day in range(days):
        await sleep(timedelta(days=1))
        try:
            return await pay(day, name)
        except ValueError as problem:
            await tell(f"{name}: {problem}")
    return False

async def largest(customer: int, since: date, name: str | None, limits: tuple[int, ...]) -> Rows:
    shard = await route("orders", key=customer)
    rows = await (
        shard.filter(col("o_custkey") == customer, lambda r: r.o_orderdate >= since + timedelta(1))
        .select("o_orderkey", price=col("o_totalprice") * TWICE)
    )
    total = 0
    for limit in limits:
        if rows.num_rows > MOST or limit < 0:
            break
        both, few = await gather(rows.limit(limit), scan("parts").top_k(limit * 2, by="size"))
        count: int = await value(few, "n")
        total += count % 7
        rows = both
    else:
        marked = await note(f"{customer:>8}", total)
        total = max(marked, 3)
    if name is not None and len(name) < 9:
        paid = await remind(name.lower(), total)
        if not paid:
            raise ValueError("not paid")
    return await respond(rows)
"""

Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def program() -> Program:
    return compiled(TEXT, movable=Movable)


def test_program(program: Program, golden: Golden) -> None:
    golden("movable_program", program_text(program))


def test_proof(program: Program, golden: Golden) -> None:
    golden("movable_proof", proof_text(proof(program)))
