"""What a look at this machine gives of one thing."""

from __future__ import annotations

from msgspec import Struct


class Found(Struct, frozen=True):
    """Whether something is there; `detail` is its version or place, or the reason it is not."""

    present: bool
    detail: str
