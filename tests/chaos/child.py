"""The process of an agent or a caller: with a planted fault, if one was asked for."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

from chaos.plan import RUN_S
from chaos.plants import plant


def main() -> int:
    """Be `agent`, with the words of `wherry agent`; or `caller`, of a system's file."""
    # The run asks a process that hangs to write down where it is.
    faulthandler.register(signal.SIGUSR1)
    plant(os.environ.get("CHAOS_PLANT", ""))
    what, *words = sys.argv[1:]
    if what == "agent":
        from wherry.cli import main as wherry  # noqa: PLC0415

        return wherry(["agent", *words])
    import pyarrow as pa  # noqa: PLC0415

    import wherry as wh  # noqa: PLC0415
    from chaos import caller, data, frames  # noqa: PLC0415

    def ask(asked: frames.Ask) -> tuple[pa.Table, tuple[str, ...]]:
        rows = wh.scan(asked.dataset, system=words[0])
        placement = {"near": "home"} if asked.near else None
        pipeline = data.pipeline(asked.query, rows)
        result = pipeline.run(words[0], placement=placement, deadline_s=RUN_S)
        return result.table, tuple(sorted({found.device for found in result.evidence}))

    caller.serve(ask)
    return 0


if __name__ == "__main__":
    sys.exit(main())
