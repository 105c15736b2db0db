"""Scans pushed to storage nodes, or not (Skyhook): workers that take one piece at a time.

Two figures are fitted, both in `xeon-d-1548`: `parquet-decode` on the client-side scan of 1 % with
4 nodes, `network-receive` on the pushed scan of 100 % with 16 nodes. Storage nodes and the client
are the same machine, so that nothing is fitted for the nodes.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec.structs import replace

from wherry.base.errors import Refused
from wherry.devices.mechanisms import crew_ns, exact, path_rate
from wherry.devices.profile import Profile
from wherry.validate.hardware import engine_of, path_of, profile_on
from wherry.validate.prediction import Family, Known, Prediction
from wherry.validate.question import Question, bytes_of, count_of, number_of
from wherry.validate.units import ns

_PUSHED = r"\brpq\b|push-?down|pushed"
_STORED, _ROWS = 21 * 10**9, 154_800_000_000
"""Bytes of the experiments' table as Parquet, and in memory, unless a point says otherwise."""
_THREADS_PER_NODE = 4
"""Client threads for each storage node: 16, 32 and 64 for 4, 8 and 16 of them."""
_MECHANISM = (
    "workers, each decoding then receiving one piece at a time; the client's network shared"
)


_SETS = (
    (_PUSHED, "xeon-d-1548 [[path]] network-receive bandwidth_gb_per_s"),
    (r"\bpq\b", "xeon-d-1548 [[engine]] parquet-decode input_gb_per_s"),
)


def _predict(question: Question, known: Known) -> Prediction:
    profile = profile_on(question.hardware, "cpu")
    near, far = (scan_ns(question, profile, pushed=pushed) for pushed in (True, False))
    if question.kind == "decision":
        winner = "offload" if near < far else "host"
        remark = f"host {far / 1e9:.4g} s, offload {near / 1e9:.4g} s"
        return Prediction(_MECHANISM, "decision", (profile,), winner=winner, remark=remark)
    if not question.says(rf"{_PUSHED}|\bpq\b"):
        raise Refused("workload", ["it says neither 'pq' nor 'rpq'"])
    time = near if question.says(_PUSHED) else far
    return Prediction(_MECHANISM, "table", (profile,), (ns(time),))


def scan_ns(question: Question, profile: Profile, *, pushed: bool) -> int:
    """Give the time of one scan, from stored bytes: decoded where it is, or at the client.

    The rates are of stored bytes: a pushed scan's receives what passes the filter, decoded.
    """
    engine = engine_of(profile, "parquet-decode")
    decode = exact(engine.input_gb_per_s)
    receive = path_rate(path_of(profile, "network-receive"))
    stored, rows = _stated(question, "stored", _STORED), _stated(question, "memory", _ROWS)
    hardware = engine.jobs.value
    nodes = count_of(question, "nodes", r"\b(\d+) (?:storage )?nodes")
    threads = count_of(question, "threads", r"\b(\d+) threads?", nodes * _THREADS_PER_NODE)
    if not pushed:
        left = 1 - _percent(question, "throttle_pct", r"throttled by (\d+) ?%", 0.0)
        if not left:
            raise Refused("throttle_pct", ["nothing is left of the client's processor"])
        return crew_ns(stored, min(threads, hardware), [decode * left], [receive])
    part = _percent(question, "selectivity_pct", r"(\d+(?:\.\d+)?) ?%", None)
    result = [receive * stored / (part * rows)] if part else []
    return crew_ns(stored, min(threads, nodes * hardware), [decode], result)


def _stated(question: Question, name: str, default: int) -> int:
    return (
        bytes_of(question, name)[0] if any(k.startswith(name) for k in question.given) else default
    )


def _percent(question: Question, key: str, pattern: str, default: float | None) -> Fraction:
    seen = number_of(question, key, pattern)
    seen = default if seen is None else seen
    if seen is None or seen > 100:
        raise Refused(key, [f"the point states no {key} from 0 to 100"])
    return Fraction(repr(seen)) / 100


def _vary(question: Question, known: Known) -> Prediction:
    """Predict as for the table, from the same two figures: how far they carry.

    Requests cost nothing of their own here, so that small objects come out too fast; no goal is
    set for these.
    """
    return replace(_predict(question, known), subject="variation")


FAMILY = Family("Skyhook", r"Skyhook(?!.*variations)", _SETS, _predict)
VARIATIONS = Family("Skyhook, variations", r"Skyhook.*variations", _SETS, _vary)
