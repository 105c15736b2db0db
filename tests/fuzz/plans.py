"""Mutants of plans, of their messages and of rows that come from elsewhere, run by a device.

    python -m fuzz.plans --cases 100000 --seed 1

Each is refused, or gives the rows that the interpreter gives of what it says.
"""

from __future__ import annotations

import sys

from fuzz.plan_case import plans, run_plan_case
from fuzz.processes import Target, run
from wherry.kernels.skeletons import modules, warm

PLANS = Target("fuzz.plans", __doc__, plans, run_plan_case, ("refused", "ran"))

if __name__ == "__main__":
    if "--child" not in sys.argv:
        for module in modules():
            warm(module)  # or children would compile while their cases' time runs
    sys.exit(run(PLANS))
