"""The mutants of plans on a device that believes whatever it is sent: the fuzzer must find them.

python -m fuzz.unverified --cases 3000
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from fuzz.plan_case import plans, run_plan_case
from fuzz.processes import Target, run
from wherry.ir.expr import Literal, Member, Parameter
from wherry.ir.literals import parameters
from wherry.ir.stage import Matches
from wherry.plan.query import Plan
from wherry.plan.verify import Facts
from wherry.run import installed, worker


def believe() -> None:
    """Take every check of plans, constants and rows out of the worker of this process."""
    installed.verified = _believed  # type: ignore[assignment]
    worker.check_constant = lambda wanted, value: Literal(value, wanted.type)  # type: ignore[assignment]
    for name in ("check_fits", "check_bounds", "check_rows", "check_written"):
        setattr(worker, name, lambda *_, **__: None)


def _believed(plan: Plan) -> Facts:
    keys = {
        node.build.index: len(node.keys)
        for node in _walk(plan)
        if isinstance(node, Member | Matches) and isinstance(node.build, Parameter)
    }
    return Facts(parameters(plan), keys, frozenset(), ({},) * len(plan.segments))


def _walk(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _walk(item)
    elif isinstance(value, Struct):
        yield value
        for name in value.__struct_fields__:
            yield from _walk(getattr(value, name))


def _prepared() -> Mapping[str, bytes]:
    found = plans()
    believe()
    return found


UNVERIFIED = Target("fuzz.unverified", __doc__, _prepared, run_plan_case, ("refused", "ran"))

if __name__ == "__main__":
    sys.exit(run(UNVERIFIED))
