"""What is said of rounds: a line each, a table of faults, and counts in the words of the goals."""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec import Struct

from chaos.plan import FAULTS
from chaos.rounds import Round

GOALS = ("wrong", "duplicate", "lost", "hang", "late", "leak", "error", "other")


class Tally(Struct):
    """What came of the rounds in which a fault struck."""

    rounds: int = 0
    under_way: int = 0
    answered: int = 0
    elsewhere: int = 0
    failed: int = 0
    killed: int = 0
    violations: int = 0

    def count(self, of: Round, *, under_way: bool) -> None:
        """Count a round."""
        self.rounds += 1
        self.under_way += under_way
        self.answered += of.states.get("answered", 0)
        self.elsewhere += of.elsewhere
        self.failed += of.states.get("failed", 0)
        self.killed += of.states.get("killed", 0)
        self.violations += len(of.violations)


class Report(Struct, frozen=True):
    """What came of all rounds."""

    seed: int
    rounds: int
    seconds: float
    calm: Tally
    faults: dict[str, Tally]
    slowest_s: float
    made_by: dict[str, int]
    wrong: dict[str, int]
    violations: list[tuple[int, str]]
    again: list[str]


def line(of: Round) -> str:
    """Say what came of a round, in a line."""
    said = ", ".join(f"{count} {state}" for state, count in of.states.items()) or "nothing asked"
    faults = "; ".join(of.strikes) or "calm"
    verdict = f" WRONG ({len(of.violations)})" if of.violations else ""
    return f"round {of.number} {of.carrier} {of.seconds:.1f} s: {said}{verdict} | {faults}"


def report(seed: int, rounds: list[Round], seconds: float, again: str) -> Report:
    """Sum up rounds; `again` is how one is run again, but for its number."""
    calm, faults = Tally(), {name: Tally() for name in FAULTS}
    for of in rounds:
        if not of.strikes:
            calm.count(of, under_way=False)
        for name in dict(of.struck):
            faults[name].count(of, under_way=any(u for n, u in of.struck if n == name))
    violations = [(of.number, v) for of in rounds for v in of.violations]
    bad = sorted({number for number, _ in violations})
    return Report(
        seed=seed,
        rounds=len(rounds),
        seconds=seconds,
        calm=calm,
        faults=faults,
        slowest_s=max((of.slowest_s for of in rounds), default=0.0),
        made_by=dict(sum((Counter(of.made_by) for of in rounds), Counter()).most_common()),
        wrong=sorted_by_goal([v for _, v in violations]),
        violations=violations,
        again=[f"{again} --round {number}" for number in bad],
    )


def sorted_by_goal(violations: list[str]) -> dict[str, int]:
    """Count violations by the first of the goals' words in each."""
    found = dict.fromkeys(GOALS, 0)
    for violation in violations:
        words = violation.replace(":", " ").replace(",", " ").split()
        found[next((word for word in words if word in GOALS), "other")] += 1
    return found


def shown(of: Report) -> str:
    """Give a report as text: the table of faults, what was wrong, and the counts of the goals."""
    head = ("fault", "rounds", "in flight", "answered", "elsewhere", "failed", "killed", "wrong")
    rows = [head, _row("none (calm)", of.calm)]
    rows += [_row(name, tally) for name, tally in of.faults.items()]
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if n == 0 else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    for number, violation in of.violations[:40]:
        lines.append(f"round {number}: {violation}")
    lines += [f"  again: {again}" for again in of.again[:10]]
    asked = sum(t.answered + t.failed for t in (of.calm, *of.faults.values()))
    lines.append(
        f"{of.rounds} rounds of seed {of.seed} in {of.seconds:.0f} s"
        f"{'' if asked else ', and nothing was asked'}; slowest query {of.slowest_s:.1f} s"
    )
    by = (f"{devices} {count}" for devices, count in of.made_by.items())
    lines.append(f"answers by the devices that made them: {', '.join(by) or 'none'}")
    counts = (f"{count} {_PLURALS.get(name, name)}" for name, count in of.wrong.items())
    lines.append("; ".join(counts))
    return "\n".join(lines)


def to_json(of: Report) -> str:
    """Give a report as JSON."""
    return msgspec.json.encode(of).decode()


_PLURALS = {
    "wrong": "wrong answers",
    "duplicate": "duplicates",
    "hang": "hangs",
    "leak": "leaks",
    "error": "bad errors",
}


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    numbers = (
        tally.rounds,
        tally.under_way,
        tally.answered,
        tally.elsewhere,
        tally.failed,
        tally.killed,
        tally.violations,
    )
    return (name, *map(str, numbers))
