"""Whether what came of a query is right: the answer, or one clear error; and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from msgspec import Struct

from chaos import data
from chaos.plan import AGENTS, CSDS, MIRRORED, Plan

GRACE_S: Final = 3.0
"""How much longer than its deadline a query may take on a machine that is busy."""
ANSWERED: Final = "answered"
FAILED: Final = "failed"
HUNG: Final = "hung"
KILLED: Final = "killed"
BROKE: Final = "broke"
_HOP: Final = re.compile(r"\bhop\b", re.IGNORECASE)
_DEVICE: Final = re.compile(rf"\b({'|'.join((*AGENTS, 'host0'))})\b")


class Outcome(Struct):
    """What came of a query: how it ended, after how long, and what was said or given."""

    caller: str
    number: int
    query: str
    dataset: str
    near: bool = False
    state: str = ""
    seconds: float = 0.0
    allowed_s: float = 0.0
    kind: str = ""
    known: bool = True
    text: str = ""
    stream: bytes = b""
    devices: tuple[str, ...] = ()
    changed: bool = False

    @property
    def name(self) -> str:
        """Which query of whom."""
        return f"{self.caller}'s query {self.number} ({self.query} of {self.dataset})"

    @property
    def elsewhere(self) -> bool:
        """Whether it is an answer without the drive that makes it if nothing is lost."""
        mirrored = self.state == ANSWERED and self.dataset == MIRRORED
        return mirrored and self.near and CSDS[0] not in self.devices


def judged(plan: Plan, outcome: Outcome, right: Mapping[str, pa.Table]) -> list[str]:
    """Give what is wrong with the outcome of a query in a round."""
    wrong = []
    if outcome.state == ANSWERED:
        wrong += _answer(plan, outcome, right[outcome.query])
    elif outcome.state == FAILED:
        wrong += _error(plan, outcome)
    elif outcome.state == KILLED:
        if not any(s.fault == "kill caller" and s.target == outcome.caller for s in plan.strikes):
            wrong.append("its caller was killed, and not by a fault")
    elif outcome.state == HUNG:
        wrong.append(f"hang: nothing came of it in {outcome.seconds:.1f} s")
    else:
        wrong.append(f"lost: {outcome.state or 'never asked'}; {outcome.text}")
    if outcome.state in (ANSWERED, FAILED) and outcome.seconds > outcome.allowed_s:
        wrong.append(f"late: {outcome.seconds:.1f} s, {outcome.allowed_s:.1f} s were allowed")
    return [f"{outcome.name}: {what}" for what in wrong]


def _answer(plan: Plan, outcome: Outcome, right: pa.Table) -> list[str]:
    wrong = []
    difference = data.difference(data.of_stream(outcome.stream), right)
    if difference:
        wrong.append(difference)
    if any(
        s.fault == "certificate of caller" and s.amount < 0 and s.target == outcome.caller
        for s in plan.strikes
    ):
        wrong.append("wrong: an answer for a certificate that had expired")
    if outcome.changed:
        wrong.append("wrong: rows became others while their reader held them")
    return wrong


def _error(plan: Plan, outcome: Outcome) -> list[str]:
    said = f"{outcome.kind}: {outcome.text}"
    wrong = []
    if plan.calm:
        wrong.append(f"an error although nothing struck: {said}")
    if not outcome.known:
        wrong.append(f"an error that is none of Wherry's: {said}")
    if not _DEVICE.search(outcome.text):
        wrong.append(f"an error that names no device: {said}")
    if not _HOP.search(outcome.text):
        wrong.append(f"an error that names no hop: {said}")
    return wrong
