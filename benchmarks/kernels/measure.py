"""Ask one question of everybody: answers first, then rounds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from msgspec.structs import replace

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.goals import GOALS
from wherry.benchmarks.kernels.limits import Crew, described, limit
from wherry.benchmarks.kernels.peers.peer import Form, Peer
from wherry.benchmarks.kernels.question import Absent, Answer, Ask, Question
from wherry.benchmarks.kernels.rounds import Timing, timed
from wherry.benchmarks.kernels.row import Row
from wherry.pipeline import scan

_WHERRY: Final = "wherry"
_LIMIT: Final = "limit"


def measure(
    name: str,
    question: Question,
    data: Data,
    peers: Sequence[Peer],
    crew: Crew,
    *,
    threads: int,
    rounds: int,
) -> Row:
    """Give the row of workload `name`, measured in this process with its cores."""
    goal = GOALS[name]
    row = Row(
        workload=name,
        threads=threads,
        scale_factor=data.scale_factor,
        goal=goal.ratio,
        goal_share=goal.share,
    )
    try:
        ask = question.wherry(lambda table: scan(data.path(question.tables[table])))
    except Absent as error:
        return replace(row, absent=str(error))
    with ExitStack() as stack:
        forms = [f for p in peers for f in stack.enter_context(p.forms(question, data, threads))]
        failed, wrong = _checked(forms, question, ask())
        compared: dict[str, Ask] = {
            _WHERRY: ask,
            _LIMIT: limit(question, data, crew),
            **{form.name: form.ask for form in forms if form.name not in failed},
        }
        timing = timed(compared, rounds)
    answers = "; ".join(wrong) or "equal"
    filled = replace(row, limit=described(question), answers=answers, failed=failed)
    return _judged(filled, timing)


def _checked(
    forms: Sequence[Form], question: Question, wanted: Answer
) -> tuple[dict[str, str], list[str]]:
    """Give what failed forms said, and how other forms' answers differ from Wherry's."""
    failed, wrong = {}, []
    for form in forms:
        try:
            seen = form.answer(form.ask())
        except Exception as error:  # noqa: BLE001  whatever an engine raises is its own row's matter
            failed[form.name] = f"{type(error).__name__}: {error}"
            continue
        said = question.differs(seen, wanted)
        if said is not None:
            wrong.append(f"{form.name}: {said}")
    return failed, wrong


def _judged(row: Row, timing: Timing) -> Row:
    """Fill in the times and what follows from them."""
    ms = {name: round(time, 3) for name, time in timing.ms.items()}
    cpu_ms = {name: round(time, 3) for name, time in timing.cpu_ms.items() if name != _LIMIT}
    ours, least = ms.pop(_WHERRY), ms.pop(_LIMIT)
    best = min(ms, key=ms.__getitem__) if ms else None
    ratio = None if best is None else round(ms[best] / ours, 3)
    share = round(least / ours, 3)
    enough = ratio is not None and ratio >= row.goal
    return replace(
        row,
        wherry_ms=ours,
        peers=ms,
        cpu_ms=cpu_ms,
        best_peer=best,
        ratio_to_best=ratio,
        limit_ms=least,
        share_of_limit=share,
        met=None
        if ratio is None
        else enough and (row.goal_share is None or share >= row.goal_share),
        rounds=timing.rounds,
        disturbed_rounds=timing.disturbed,
    )
