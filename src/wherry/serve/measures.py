"""What an agent tells of itself, as families of numbers that any system of metrics can take.

Everything is counted anyway and read here when somebody asks: requests pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from wherry.serve.load import BUCKETS, NS_PER_S, Counts, Histogram, Load

Kind = Literal["counter", "gauge", "histogram"]


class Point(Struct, frozen=True):
    """One value of a family; `buckets` of a histogram count what is not above their bound."""

    labels: Mapping[str, str]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


class Family(Struct, frozen=True):
    """Values of one name. Times are seconds, sizes bytes; the value of a histogram is its sum."""

    name: str
    kind: Kind
    help: str
    points: tuple[Point, ...]


Read = Callable[[], Iterable[Family]]
_NO_LABELS: Final[Mapping[str, str]] = {}


def of_admission(counts: Mapping[str, Counts], load: Load) -> Iterator[Family]:
    """Give what a gate counted, by tenant, and how busy it is."""
    each = sorted(counts.items())
    outcomes = [
        Point({"tenant": name, "outcome": outcome}, number)
        for name, found in each
        for outcome, number in (("admitted", found.admitted), *found.refused.items())
    ]
    yield Family(
        "wherry_requests", "counter", "Requests that asked for work, and why not.", tuple(outcomes)
    )
    waited = tuple(_histogram(name, found.waited) for name, found in each)
    yield Family("wherry_wait_seconds", "histogram", "Until work that was admitted began.", waited)
    ran = tuple(_histogram(name, found.ran) for name, found in each)
    yield Family("wherry_work_seconds", "histogram", "How long work held its slot.", ran)
    yield _gauge("wherry_busy_ratio", "Mean share of slots taken in the last seconds.", load.busy)
    yield _gauge("wherry_running", "Requests that work now.", load.running)
    yield _gauge("wherry_waiting", "Requests that wait for their turn.", load.waiting)


def of_keeping(queries: int, pieces: int, connections: int, lent: int) -> Iterator[Family]:
    """Give how much an agent keeps for its callers."""
    yield _gauge("wherry_queries", "Queries of which something is kept.", queries)
    yield _gauge("wherry_pieces", "Pieces that are kept.", pieces)
    yield _gauge("wherry_connections", "Connections over Unix sockets.", connections)
    yield _gauge("wherry_lent_pieces", "Pieces that others map and have not given back.", lent)


def of_memory(by_tenant: Mapping[str, int]) -> Iterator[Family]:
    """Give the bytes of segments in use, by tenant."""
    points = tuple(Point({"tenant": name}, size) for name, size in sorted(by_tenant.items()))
    yield Family("wherry_segment_bytes", "gauge", "Memory of segments in use.", points)


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, (Point(_NO_LABELS, value),))


def _histogram(tenant: str, found: Histogram) -> Point:
    """Give a histogram as Prometheus has it: each bucket counts all that is not above its bound."""
    total, buckets = 0, []
    for number, count in enumerate(found.counts):
        total += count
        bound = (1 << number) * 1e-6 if number < BUCKETS - 1 else float("inf")
        buckets.append((bound, total))
    return Point({"tenant": tenant}, found.sum_ns / NS_PER_S, tuple(buckets))
