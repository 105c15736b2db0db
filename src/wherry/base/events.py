"""What happened when: the closed set of spans that runs record and everything else is made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

SpanKind = Literal[
    "send", "install", "build", "route", "read", "move", "run", "replan", "hold", "deliver"
]


class Span(NamedTuple):
    """One use of one resource.

    Attributes
    ----------
    kind : str
        send: a continuation on its way; install: a plan shipped and compiled;
        build: the rows of a join shipped and their keys entered; route: chunks chosen;
        read: bytes from media; move: rows between devices; run: a program on a core;
        replan: the rest of the chunks thought about again, on a core;
        hold: rows in a device's memory; deliver: rows to the client.
    resource : str
        `cores host0`, `media csd0`, `link csd0->pcie0`, `memory csd0`.
    device : str
        Where; for a link, the device that sends.
    start_ns, end_ns : int
        Nanoseconds since the run began.
    stage : int
        Index of the stage it served; -1 for routing.
    chunk : int
        Index of the chunk; -1 if it served no single one.
    nbytes, rows : int
        How much.
    """

    kind: SpanKind
    resource: str
    device: str
    start_ns: int
    end_ns: int
    stage: int
    chunk: int = -1
    nbytes: int = 0
    rows: int = 0
