"""Corrupted files through every reader; see the package."""

from __future__ import annotations

import sys

from fuzz.case import run_case
from fuzz.processes import Target, run
from fuzz.seeds import files
from wherry.kernels.skeletons import modules, warm

READERS = Target("fuzz", __doc__, files, run_case, ("refused", "read"))

if __name__ == "__main__":
    if "--child" not in sys.argv:
        for module in modules():
            warm(module)  # or children would compile while their cases' time runs
    sys.exit(run(READERS))
