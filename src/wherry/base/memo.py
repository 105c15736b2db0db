"""What was found out about an object before: kept beside it, bounded, and gone with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Values by owner and key; any thread may ask at any time.

    Values must not refer to their owner, or it would never go.

    Parameters
    ----------
    most : int
        Values kept for one owner; then the oldest goes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[int, dict[Hashable, Any]] = {}

    def get(self, owner: object, key: Hashable, make: Callable[[], T]) -> T:
        """Give the value kept for `key`, or what `make` gives, which is kept from then on."""
        kept = self._of(owner)
        found = kept.get(key, _NOTHING)
        if found is _NOTHING:
            found = make()
            make_place(kept, self._most)
            kept[key] = found
        return found

    def _of(self, owner: object) -> dict[Hashable, Any]:
        # By identity: hashing what an owner holds costs more than most of what is kept.
        kept = self._kept.get(id(owner))
        if kept is None:
            weakref.finalize(owner, self._kept.pop, id(owner), None).atexit = False
            kept = self._kept.setdefault(id(owner), {})
        return kept


def make_place(kept: dict[Any, Any], most: int) -> None:
    """Let the oldest of so many at most go, so that there is place for one more."""
    # list() of a dict is one step of the interpreter: no other thread changes it meanwhile.
    for oldest in list(kept)[: max(0, len(kept) - most + 1)]:
        kept.pop(oldest, None)


_NOTHING = object()
