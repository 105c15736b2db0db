"""The timeline of a run: its spans, how they were found, and sums over them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from wherry.base.events import Span


class Timeline(Struct, frozen=True):
    """Spans of one run, all modelled or all measured.

    Attributes
    ----------
    origin : "modelled" or "measured"
        How every time in it was found.
    spans : tuple of Span
        Nanoseconds since the run began.
    """

    origin: Literal["modelled", "measured"]
    spans: tuple[Span, ...]

    def busy_ns(self) -> dict[str, int]:
        """Give, for each resource that works, the nanoseconds it was used, added over its units."""
        found: dict[str, int] = {}
        for span in self.spans:
            if span.kind != "hold":
                took = span.end_ns - span.start_ns
                found[span.resource] = found.get(span.resource, 0) + took
        return dict(sorted(found.items()))

    def link_bytes(self) -> dict[str, int]:
        """Give the bytes over each direction of each link."""
        found: dict[str, int] = {}
        for span in self.spans:
            if span.resource.startswith("link "):
                name = span.resource.removeprefix("link ")
                found[name] = found.get(name, 0) + span.nbytes
        return dict(sorted(found.items()))
