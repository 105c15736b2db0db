"""Keys that an agent makes for itself and changes while it runs, with no I/O: time is given.

A ring has a master key at a time. It seals for `period_ns`, and is believed for `grace_ns` more.
The key of one peer is derived from the master and the peer's name: however many peers say Hello, a
ring holds two or three keys. Nothing is stored, so another life of the agent has other keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Final

from msgspec import Struct

from wherry.base.errors import InputError, Retryable
from wherry.serve.peer import Peer

KEY_BYTES: Final = 32
PERIOD_NS: Final = 3_600_000_000_000
"""A key seals for an hour: what one that leaked opens is bounded by that."""
GRACE_NS: Final = 900_000_000_000
"""Longer than a lease or a request lasts, or what is under way would have to be sealed again."""
BYTE_IDS: Final = 255
"""Key ids are 1 to 255: they stand in one byte of a header. 0 is no key."""


class Key(Struct, frozen=True):
    """A key that seals.

    Attributes
    ----------
    id : int
        1 or more; stands beside what it seals.
    key : bytes
        `KEY_BYTES` bytes.
    until_ns : int
        When it is believed no more, by the clock that the ring was given.
    """

    id: int
    key: bytes
    until_ns: int


class KeyRing:
    """The keys of one purpose; safe for threads.

    Parameters
    ----------
    purpose : str
        Two rings of different purposes have no key in common: at most 16 bytes.
    random : callable
        Gives so many random bytes; tests give their own.
    period_ns, grace_ns : int
        How long a key seals, and how long it is believed after that.
    ids : int
        How many numbers there are for keys: what stands beside what they seal is 1 to `ids`.
    """

    def __init__(
        self,
        purpose: str,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
        period_ns: int = PERIOD_NS,
        grace_ns: int = GRACE_NS,
        ids: int = BYTE_IDS,
    ) -> None:
        if not 0 < grace_ns <= period_ns:
            raise InputError(f"a key seals for {period_ns} ns, at least its grace of {grace_ns} ns")
        self._person = purpose.encode()
        self._random = random
        self._period_ns = period_ns
        self._grace_ns = grace_ns
        self._lock = Lock()
        self._masters: list[Key] = []
        self._ids = ids
        # A peer that kept a key of an earlier life of the agent must not find its number again.
        self._last = int.from_bytes(random(8), "little") % ids

    def newest(self, peer: Peer | None, now_ns: int) -> Key:
        """Give the key that seals now, for one peer or (None) for the agent itself."""
        with self._lock:
            masters = self._believed(now_ns)
            if not masters or masters[-1].until_ns - self._grace_ns <= now_ns:
                self._last = self._last % self._ids + 1
                until = now_ns + self._period_ns + self._grace_ns
                masters.append(Key(self._last, self._random(KEY_BYTES), until))
            master = masters[-1]
        return self._derived(master, peer)

    def find(self, key_id: int, peer: Peer | None, now_ns: int) -> Key:
        """Give the key that was given out with this id.

        Raises
        ------
        Retryable
            If it is of another life of the agent, or too old: say Hello again.
        """
        with self._lock:
            for master in self._believed(now_ns):
                if master.id == key_id:
                    return self._derived(master, peer)
        raise Retryable(f"key {key_id} is not known here, or no longer; say Hello for a new one")

    def _believed(self, now_ns: int) -> list[Key]:
        self._masters = [key for key in self._masters if key.until_ns > now_ns]
        return self._masters

    def _derived(self, master: Key, peer: Peer | None) -> Key:
        state = blake2b(key=master.key, digest_size=KEY_BYTES, person=self._person)
        for part in (peer.tenant.encode(), peer.how.encode()) if peer is not None else ():
            state.update(len(part).to_bytes(8, "little"))
            state.update(part)
        return Key(master.id, state.digest(), master.until_ns)
