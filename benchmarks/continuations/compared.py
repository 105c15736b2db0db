"""Durable steps of DBOS and the Restate server beside ours: same run, same disk, in turns.

All do the same: a workflow of steps that each add 1, every result on disk before the next step
begins. DBOS keeps them in SQLite in its own process; Restate's server is asked over loopback by a
service of its own SDK. What does not install is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from wherry.base.errors import WherryError
from wherry.benchmarks.continuations.durable import step_us
from wherry.benchmarks.continuations.figure import Figure, of_samples, single
from wherry.benchmarks.continuations.peers import dbos, restate

PEERS: Final = {"dbos": dbos.step_us, "restate": restate.step_us}
FIGURES: Final = (
    *(f"{name}_step_us" for name in PEERS),
    *(f"durable_vs_{name}" for name in PEERS),
    "durable_vs_best_peer",
)
_STEPS: Final = 60
_OWN: Final = 20
_ROUNDS: Final = 5


def measure(
    folder: Path, installed: Path, tell: Callable[[str], None], skip: Callable[[str], None]
) -> Iterator[Figure]:
    """Measure all peers that can be had.

    A disk's pace changes, so our steps are measured right before and after each peer's, and a peer
    is compared with those only: the figure is the median over the rounds of the best peer's ratio.

    Parameters
    ----------
    folder : Path
        On the disk in question.
    installed : Path
        Where peers are installed, once.
    tell, skip : callable
        Are told what happens now, and why a peer is left out.
    """
    ratios: list[float] = []
    for name, measure_peer in PEERS.items():
        theirs: list[float] = []
        rounds: list[float] = []
        try:
            for number in range(_ROUNDS):
                tell(f"{name}, round {number + 1} of {_ROUNDS}")
                before = step_us(_new(folder, f"{name}-{number}-before"), _OWN)
                times = measure_peer(_new(folder, f"{name}-{number}"), installed, _STEPS)
                after = step_us(_new(folder, f"{name}-{number}-after"), _OWN)
                rounds.append(median(times) / median(before + after))
                theirs += times
        except (WherryError, OSError) as error:
            skip(f"{name} is left out: {error}")
        else:
            ratios.append(median(rounds))
            yield of_samples(f"{name}_step_us", "us", theirs)
            yield of_samples(f"durable_vs_{name}", "ratio", rounds)
    if ratios:
        yield single("durable_vs_best_peer", "ratio", min(ratios))


def _new(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made
