"""What an agent keeps of a query, its continuations and pieces, until it is let go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

from wherry.base.errors import InputError, Retryable
from wherry.render.gather import Piece
from wherry.run.carrier import Carrier
from wherry.serve.requests import PieceId

QUERIES_MAX: Final = 1024
"""That an agent keeps for one tenant."""
PIECES_MAX: Final = 1 << 16
"""Of one query."""

Clock = Callable[[], int]
"""Gives steady nanoseconds."""


class Visit:
    """A query at an agent.

    Attributes
    ----------
    epoch : int
        How often the query was begun anew; what is of an older epoch is refused.
    carrier : Carrier
        Has its continuations and pieces; used by one thread at a time, under `lock`.
    touched : int
        When somebody last spoke of it, in steady nanoseconds.
    """

    def __init__(self, tenant: str, query: bytes, epoch: int, carrier: Carrier, now: int) -> None:
        self.tenant, self.query, self.epoch = tenant, query, epoch
        self.carrier, self.touched = carrier, now
        self.lock = threading.Lock()

    def piece(self, piece: PieceId) -> Piece:
        """Give a piece that is here.

        Raises
        ------
        InputError
            If it is not.
        """
        found = self.carrier.pieces.get(piece)
        if found is None:
            raise InputError(f"query {self.query.hex()} has no piece {piece} here")
        return found

    def keep(self, piece: PieceId, rows: Piece) -> None:
        """Keep a piece that came from elsewhere."""
        if len(self.carrier.pieces) >= PIECES_MAX:
            raise InputError(f"query {self.query.hex()} has {PIECES_MAX} pieces here, and no more")
        self.carrier.hold(piece, rows)


class Visits:
    """The queries at an agent, each under its tenant.

    Parameters
    ----------
    lease_s : float
        How long one is kept that nobody speaks of.
    """

    def __init__(self, lease_s: float, clock: Clock) -> None:
        self.lease_s, self._clock = lease_s, clock
        self.lease_ns = int(lease_s * 1e9)
        self._visits: dict[tuple[str, bytes], Visit] = {}
        self._over: dict[tuple[str, bytes], tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Visit]:
        return iter(list(self._visits.values()))

    def __len__(self) -> int:
        return len(self._visits)

    def knows(self, tenant: str, query: bytes) -> bool:
        """Say whether something is kept of a query, in whichever epoch."""
        return (tenant, query) in self._visits

    def begin(self, tenant: str, query: bytes, epoch: int, carrier: Callable[[], Carrier]) -> Visit:
        """Give the visit of a query in an epoch; what is left of older ones is let go.

        Raises
        ------
        Retryable
            If the query went on elsewhere, or is over, or the tenant has too many.
        """
        key, now = (tenant, query), self._clock()
        with self._lock:
            self._check_current(key, epoch)
            found = self._visits.get(key)
            if found is not None and found.epoch == epoch:
                found.touched = now
                return found
            held = sum(1 for each in self._visits if each[0] == tenant)
            if found is None and held >= QUERIES_MAX:
                raise Retryable(f"{held} queries of tenant {tenant!r} are open; possible: {held}")
            visit = self._visits[key] = Visit(tenant, query, epoch, carrier(), now)
            return visit

    def find(self, tenant: str, query: bytes, epoch: int) -> Visit:
        """Give the visit of a query that began.

        Raises
        ------
        Retryable
            If it did not, or its lease ended, or it goes on in a later epoch.
        """
        key = (tenant, query)
        with self._lock:
            self._check_current(key, epoch)
            found = self._visits.get(key)
            if found is None or found.epoch != epoch:
                raise Retryable(
                    f"nothing is kept here of query {query.hex()} in epoch {epoch}: it did not "
                    f"begin, or nobody spoke of it for {self.lease_s:g} s"
                )
            found.touched = self._clock()
            return found

    def renew(self, tenant: str, query: bytes) -> None:
        """Keep what belongs to a query, if it is here."""
        with self._lock:
            found = self._visits.get((tenant, query))
            if found is not None:
                found.touched = self._clock()

    def release(self, tenant: str, query: bytes) -> None:
        """Let go of a query; what comes of it later, late messages of this epoch, is refused."""
        key = (tenant, query)
        with self._lock:
            found = self._visits.pop(key, None)
            if found is not None:
                self._over[key] = found.epoch, self._clock()

    def sweep(self) -> None:
        """Let go of what nobody spoke of for a lease."""
        with self._lock:
            before = self._clock() - self.lease_ns
            for key in [k for k, v in self._visits.items() if _idle(v, before)]:
                visit = self._visits.pop(key)
                self._over[key] = visit.epoch, self._clock()
            for key in [k for k, (_, since) in self._over.items() if since < before]:
                del self._over[key]

    def _check_current(self, key: tuple[str, bytes], epoch: int) -> None:
        query, found = key[1], self._visits.get(key)
        if found is not None and found.epoch > epoch:
            raise Retryable(f"query {query.hex()} went on in epoch {found.epoch}, not {epoch}")
        over = self._over.get(key)
        if over is not None and over[0] >= epoch:
            raise Retryable(f"query {query.hex()} is over here in epoch {over[0]}")


def _idle(visit: Visit, before: int) -> bool:
    return visit.touched < before and not visit.lock.locked()
