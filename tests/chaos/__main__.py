"""Kill, stop, cut off and starve agents and callers while they work, and look what comes of it.

Rounds are run by a few processes side by side, each with agents, callers and a network of its own.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from chaos import report
from chaos.network import CONFINED, confining
from chaos.plan import CARRIERS, FAULTS, TLS, UNIX
from chaos.plants import PLANTS
from chaos.rounds import Round
from chaos.worker import Work, work

_SILENCE_S: Final = 240.0
"""No round takes so long: whoever runs it hangs."""
_PLANT_ROUNDS: Final = 40


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 0 if nothing was wrong."""
    options = _options(arguments)
    if options.worker is not None:
        return work(options.worker)
    # Whoever ends the run ends those who run its rounds, and with them all that they started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    before, carriers = _ways(options)
    if options.plants:
        return _plants(options, before, carriers)
    numbers = range(options.rounds) if options.round is None else (options.round,)
    begun, rounds = time.monotonic(), []
    for done in _run(options, before, carriers, tuple(numbers), options.jobs):
        rounds.append(done)
        if not options.json:
            print(f"[{len(rounds)}/{len(numbers)}] {report.line(done)}", flush=True)
            for violation in done.violations:
                print(f"    {violation}", flush=True)
        if options.round is not None and not options.json:
            print(*(f"    error: {error}" for error in done.errors), sep="\n")
    again = _again(options, carriers)
    found = report.report(options.seed, rounds, time.monotonic() - begun, again)
    print(report.to_json(found) if options.json else report.shown(found))
    run = len({done.number for done in rounds})
    if run < len(numbers):
        print(f"chaos: only {run} of {len(numbers)} rounds were run", file=sys.stderr)
    return 1 if found.violations or run < len(numbers) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, help="run this one round, and show its errors")
    parser.add_argument("--carrier", choices=CARRIERS, help="only over this one")
    parser.add_argument(
        "--only", choices=FAULTS, action="append", metavar="FAULT", help="only these faults"
    )
    parser.add_argument("--jobs", type=int, default=max((os.cpu_count() or 2) // 2, 1))
    parser.add_argument("--plants", action="store_true", help="plant faults of our own instead")
    parser.add_argument(
        "--plant", choices=PLANTS, default="", help="run with this; with --plants, only this"
    )
    parser.add_argument("--keep", action="store_true", help="keep logs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _ways(options: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give how rounds are kept from the machine, and the carriers that are possible then."""
    carriers = (options.carrier,) if options.carrier else CARRIERS
    before, why = confining()
    if before:
        return before, carriers
    print(
        f"chaos: NO NAMESPACES HERE ({why}): only Unix sockets, NO network, TLS, full disk or "
        "other steady clock is tried",
        file=sys.stderr,
    )
    if TLS in carriers:
        carriers = (UNIX,)
    return (), carriers


def _faults(options: argparse.Namespace, before: tuple[str, ...]) -> tuple[str, ...]:
    unable = () if before else ("full disk", "steady clock")
    return tuple(name for name in options.only or FAULTS if name not in unable)


def _again(options: argparse.Namespace, carriers: tuple[str, ...]) -> str:
    words = ["python -m chaos --seed", str(options.seed)]
    if len(carriers) == 1:
        words += ["--carrier", carriers[0]]
    for name in options.only or ():
        words += ["--only", f"'{name}'"]
    if options.plant:
        words += ["--plant", f"'{options.plant}'"]
    return " ".join(words)


class _Job(Struct):
    """A process that runs rounds; those which it did not come to, and when it last said a word."""

    process: subprocess.Popen[bytes]
    left: list[int]
    heard: float
    text: bytes = b""


def _run(
    options: argparse.Namespace,
    before: tuple[str, ...],
    carriers: tuple[str, ...],
    numbers: tuple[int, ...],
    jobs: int,
    plant: str | None = None,
) -> Iterator[Round]:
    """Run rounds side by side; one who runs them and ends or hangs loses no more than a round."""
    faults = _faults(options, before) if plant is None else PLANTS[plant].faults
    # Neighbours use different carriers, so each job takes them in turn too.
    parts = [numbers[n::jobs] for n in range(jobs)]
    if len(carriers) > 1 and jobs % len(carriers) == 0:
        size = -(-len(numbers) // jobs)
        parts = [numbers[n * size : (n + 1) * size] for n in range(jobs)]

    def begun(rounds: list[int]) -> _Job:
        asked = Work(
            options.seed,
            tuple(rounds),
            carriers,
            faults,
            options.plant if plant is None else plant,
            options.keep,
        )
        words = [sys.executable, "-m", "chaos", "--worker", msgspec.json.encode(asked).decode()]
        env = {**os.environ, CONFINED: "1" if before else "0"}
        process = subprocess.Popen([*before, *words], stdout=subprocess.PIPE, bufsize=0, env=env)
        return _Job(process, rounds, time.monotonic())

    working = [begun(list(part)) for part in parts if part]
    try:
        while working:
            job = working.pop(0)
            yield from _heard(job)
            code = job.process.poll()
            if code is None and time.monotonic() - job.heard > _SILENCE_S:
                job.process.kill()
                code = job.process.wait()
            if code is None:
                working.append(job)
                continue
            yield from _heard(job)
            if job.left:
                lost, *rest = job.left
                why = f"the process that ran it ended with {code}, or hung: none of its rounds'"
                said = f"lost: {why} outcomes are known"
                yield Round(lost, "", [], [], {}, 0, {}, [], [said], 0.0, 0.0)
                if rest:
                    working.append(begun(rest))
    finally:
        for job in working:
            job.process.kill()
            job.process.wait()


def _heard(job: _Job) -> Iterator[Round]:
    """Give what a job said within a moment."""
    assert job.process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(job.process.stdout, selectors.EVENT_READ)
        while selector.select(0.1):
            more = os.read(job.process.stdout.fileno(), 1 << 16)
            if not more:
                time.sleep(0.05)
                return
            job.text += more
            *lines, job.text = job.text.split(b"\n")
            for text in lines:
                job.heard = time.monotonic()
                done = msgspec.json.decode(text, type=Round)
                if done.number in job.left:
                    job.left.remove(done.number)
                yield done


def _plants(options: argparse.Namespace, before: tuple[str, ...], carriers: tuple[str, ...]) -> int:
    """Plant one fault of ours after another; give 0 if the oracle sees each."""
    unseen = []
    for name, plant in PLANTS.items():
        if options.plant not in {"", name}:
            continue
        if plant.carrier not in carriers:
            print(f"{name}: not tried without {plant.carrier}")
            continue
        count, seen = 0, ""
        rounds = _run(options, before, (plant.carrier,), tuple(range(_PLANT_ROUNDS)), 1, name)
        for done in rounds:
            count += 1
            seen = next((v for v in done.violations if plant.seen_as in v), "")
            if seen:
                rounds.close()
                break
        print(f"{name}: " + (f"seen in round {count}: {seen}" if seen else "NOT SEEN"), flush=True)
        if not seen:
            unseen.append(name)
    print(f"planted {len(PLANTS)}, not seen {len(unseen)}")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
