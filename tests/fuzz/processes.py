"""Runs many cases in child processes: a crash ends a child and is reported with its case."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from fuzz.case import Finding

_CASE_SECONDS = 30
_MEMORY = 8 << 30
_MOST_FINDINGS = 20


class _Child(Struct):
    """A process that tries the cases `first`, `first + step` ... and writes each outcome down."""

    process: subprocess.Popen[bytes]
    log: Path
    first: int


class Target(Struct):
    """What is tried.

    Attributes
    ----------
    module : str
        `python -m` runs it.
    doc : str
        What `--help` says.
    prepare : callable
        Gives, once a process and before its memory is bounded, what cases need.
    case : callable
        Tries case `number` of a seed with what was prepared, in a folder that is emptied after it;
        gives a word of `outcomes`, or raises Finding.
    outcomes : tuple of str
        How a case may end.
    """

    module: str
    doc: str | None
    prepare: Callable[[], Any]
    case: Callable[[int, int, Any, Path], str]
    outcomes: tuple[str, ...]


def run(target: Target, arguments: list[str] | None = None) -> int:
    """Try cases; give 0 when none of them went wrong."""
    options = _options(target, arguments)
    if options.case is not None:
        return _one(target, options.seed, options.case)
    if options.child is not None:
        first, step = options.child
        cases = range(first, options.cases, step)
        return _child(target, options.seed, cases, Path(options.log))
    return _parent(target, options.seed, options.cases, options.processes)


def _options(target: Target, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {target.module}", description=target.doc)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this one case here, to debug it")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _one(target: Target, seed: int, case: int) -> int:
    prepared = target.prepare()
    with tempfile.TemporaryDirectory() as folder:
        _alone(Path(folder))
        try:
            print(f"case {case}: {target.case(seed, case, prepared, Path(folder))}")
        except Finding as finding:
            print(f"case {case}: {finding}")
            return 1
    return 0


def _alone(folder: Path) -> None:
    """Bound the memory that a lying length can ask for; what is dumped or left, is left there."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(folder)


def _child(target: Target, seed: int, cases: range, log: Path) -> int:
    prepared = target.prepare()
    with log.open("w", buffering=1) as out, tempfile.TemporaryDirectory(dir=_fast()) as name:
        folder = Path(name)
        _alone(folder)
        for case in cases:
            out.write(f"{case} ")
            out.flush()  # or nobody would know in which case it crashed
            try:
                outcome = target.case(seed, case, prepared, folder)
            except Finding as finding:
                outcome = "found " + " ".join(str(finding).split())
            out.write(outcome + "\n")
            for path in folder.iterdir():
                path.unlink()
    return 0


def _fast() -> str | None:
    """Give a folder in memory if there is one; files are written and read once a case."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _parent(target: Target, seed: int, cases: int, processes: int) -> int:
    begin, findings, outcomes = time.monotonic(), list[str](), dict.fromkeys(target.outcomes, 0)
    with tempfile.TemporaryDirectory() as folder:
        begin_at = partial(_start, target, seed, cases, processes, Path(folder))
        waiting = [begin_at(first) for first in range(processes)]
        try:
            while waiting and len(findings) < _MOST_FINDINGS:
                child = waiting.pop(0)
                if not _over(child):
                    waiting.append(child)
                    continue
                last, found = _outcomes(child, outcomes)
                findings += found
                if child.process.returncode != 0:
                    last = child.first if last is None else last
                    findings.append(f"case {last}: {_death(child.process.returncode)}")
                    if last + processes < cases:
                        waiting.append(begin_at(last + processes))
        finally:
            for child in waiting:
                child.process.kill()
                child.process.wait()
    seconds = time.monotonic() - begin
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    print(f"{cases} cases of seed {seed} in {seconds:.0f} s: {counts}, {len(findings)} found")
    for finding in findings:
        case = finding.split()[1].removesuffix(":")
        print(f"  {finding}\n    again: python -m {target.module} --seed {seed} --case {case}")
    return 1 if findings or sum(outcomes.values()) != cases else 0


def _start(target: Target, seed: int, cases: int, step: int, folder: Path, first: int) -> _Child:
    log = folder / f"{first}.log"
    words = ["--seed", seed, "--cases", cases, "--child", first, step, "--log", log]
    command = [sys.executable, "-m", target.module, *map(str, words)]
    return _Child(subprocess.Popen(command), log, first)


def _over(child: _Child) -> bool:
    """Tell whether a child has ended; end it if one case takes longer than any may."""
    try:
        child.process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        if child.log.exists() and time.time() - child.log.stat().st_mtime > _CASE_SECONDS:
            child.process.send_signal(signal.SIGABRT)
        return False
    return True


def _outcomes(child: _Child, counts: dict[str, int]) -> tuple[int | None, list[str]]:
    """Count what a child wrote down; give the case it did not end, and what it found."""
    last, found = None, []
    for line in child.log.read_text().splitlines() if child.log.exists() else []:
        case, _, outcome = line.partition(" ")
        if not outcome:
            last = int(case)
        elif outcome in counts:
            counts[outcome] += 1
        else:
            found.append(f"case {case}: {outcome.removeprefix('found ')}")
    return last, found


def _death(code: int) -> str:
    if code == -signal.SIGABRT:
        return f"took more than {_CASE_SECONDS} s, or aborted"
    return f"ended the process with {signal.Signals(-code).name if code < 0 else f'code {code}'}"
