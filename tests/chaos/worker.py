"""Runs every n-th round in this process, and says what came of each as a line of JSON."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from chaos import leaks
from chaos.leaks import Rest
from chaos.network import confined
from chaos.plan import Plan, planned
from chaos.rounds import Round, calm_round, run_round
from chaos.world import World


class Work(Struct, frozen=True):
    """Which rounds to run, of which plans."""

    seed: int
    rounds: tuple[int, ...]
    carriers: tuple[str, ...]
    faults: tuple[str, ...]
    plant: str = ""
    keep: bool = False


def work(given: str) -> int:
    """Run rounds, and say what came of each."""
    asked = msgspec.json.decode(given, type=Work)
    for done in rounds(asked):
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        sys.stdout.flush()
    return 0


def rounds(asked: Work) -> Iterator[Round]:
    """Run rounds: each carrier's agents live from its first round to the end."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    worlds: dict[str, tuple[World, Rest]] = {}
    last: dict[str, int] = {}
    try:
        for number in asked.rounds:
            plan = planned(asked.seed, number, asked.carriers, asked.faults)
            last[plan.carrier] = number
            if plan.carrier not in worlds:
                made, wrong = _made(asked, plan.carrier, folder)
                worlds[plan.carrier] = made
                if wrong:
                    yield _failed(plan, [f"before the first round, {w}" for w in wrong])
                    return
            yield run_round(*worlds[plan.carrier][:1], plan, worlds[plan.carrier][1])
        for carrier, (world, _) in worlds.items():
            wrong = world.stop() + leaks.stopped(world)
            if wrong:
                yield _failed(
                    planned(asked.seed, last[carrier], asked.carriers, asked.faults), wrong
                )
        worlds.clear()
    finally:
        for world, _ in worlds.values():
            world.stop()
        if asked.keep:
            print(f"chaos: logs and disks are kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _made(asked: Work, carrier: str, folder: Path) -> tuple[tuple[World, Rest], list[str]]:
    mark = f"{time.time_ns()}-{carrier}"
    mine = folder / carrier
    mine.mkdir()
    world = World(carrier, mine, mark, confined=confined(), plant=asked.plant)
    wrong, rest = calm_round(world)
    return (world, rest), wrong


def _failed(plan: Plan, wrong: list[str]) -> Round:
    return Round(plan.round, plan.carrier, [], [], {}, 0, {}, [], wrong, 0.0, 0.0)
