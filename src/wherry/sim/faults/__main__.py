"""`python -m wherry.sim.faults --seeds 1000000`: schedules on all cores, then all mutants."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from wherry.sim.faults.campaign import Found, searched, violations
from wherry.sim.faults.mutants import MUTANTS
from wherry.sim.faults.mutate import Mutant, applied

_CHUNK: Final = 500


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wherry.sim.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000, help="how many schedules")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--show", type=int, help="run one schedule and print what happens in it")
    parser.add_argument("--mutants", type=int, default=4000, help="schedules a mutant; 0: none")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if options.show is not None:
        return _show(options.show)
    with ProcessPoolExecutor(options.workers) as pool:
        found = _schedules(pool, options.seed, options.seeds)
        alive = _mutants(pool, options.mutants) if options.mutants else []
    for one in found[:5]:
        print(f"seed {one.seed}: {'; '.join(one.violations[:3])}")
        print(f"  replay: python -m wherry.sim.faults --show {one.seed}")
    for name in alive:
        print(f"alive: {name}")
    killed = f"{len(MUTANTS) - len(alive)}/{len(MUTANTS)}" if options.mutants else "not run"
    print(f"violations: {len(found)}; mutants killed: {killed}")
    return 1 if found or alive else 0


def killed_by(mutant: Mutant, schedules: int) -> int | None:
    """Give the seed of the first schedule that a mutant fails; None: it passes all."""
    with applied(mutant) as campaign:
        for first in range(0, schedules, 25):
            found = campaign.searched(first, 25, 1)
            if found:
                return int(found[0].seed)
    return None


def _show(seed: int) -> int:
    lines: list[str] = []
    wrong = violations(seed, lines)
    print(*lines, sep="\n")
    print(*(wrong or ("no violation",)), sep="\n")
    return 1 if wrong else 0


def _schedules(pool: ProcessPoolExecutor, first: int, count: int) -> list[Found]:
    begun = time.monotonic()
    starts = range(first, first + count, _CHUNK)
    sizes = [min(_CHUNK, first + count - start) for start in starts]
    found: list[Found] = []
    for done, part in _counted(pool.map(searched, starts, sizes)):
        found += part
        seeds = min(done * _CHUNK, count)
        rate = seeds / (time.monotonic() - begun)
        _progress(f"{seeds:,} of {count:,} schedules, {len(found)} wrong, {rate:,.0f}/s")
    rate = count / (time.monotonic() - begun)
    _progress("")
    print(f"{count:,} schedules from seed {first}: {rate:,.0f}/s")
    return found


def _mutants(pool: ProcessPoolExecutor, schedules: int) -> list[str]:
    alive, seeds = [], []
    results = pool.map(killed_by, MUTANTS, [schedules] * len(MUTANTS))
    for mutant, seed in zip(MUTANTS, results, strict=True):
        if seed is None:
            alive.append(mutant.name)
        else:
            seeds.append(seed + 1)
        _progress(f"{len(seeds)} mutants killed, {len(alive)} alive")
    _progress("")
    print(
        f"schedules until a mutant is killed: {sum(seeds)} in all, {max(seeds, default=0)} at most"
    )
    return alive


def _counted(parts: Iterator[list[Found]]) -> Iterator[tuple[int, list[Found]]]:
    return enumerate(parts, 1)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
