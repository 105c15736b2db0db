"""A timeline as a picture: Chrome's trace format, which ui.perfetto.dev and chrome://tracing open.

One process a device, one thread a resource; overlapping uses of a resource with several units (the
cores of a device) are laid on as many lanes as they need.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from wherry.base.events import Span
from wherry.trace.timeline import Timeline


def chrome_trace(timeline: Timeline) -> bytes:
    """Give the timeline as JSON; times are microseconds since the run began.

    Parameters
    ----------
    timeline : Timeline
        Its origin, modelled or measured, stands in the name of every device and in the metadata.
    """
    devices = list(dict.fromkeys(span.device for span in timeline.spans))
    events: list[dict[str, Any]] = []
    for pid, device in enumerate(devices):
        name = f"{device} ({timeline.origin})"
        events.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}})
        mine = [span for span in timeline.spans if span.device == device]
        for tid, (lane, spans) in enumerate(_lanes(mine)):
            named = {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name"}
            events.append({**named, "args": {"name": lane}})
            events += (_event(span, pid, tid) for span in spans)
    return msgspec.json.encode(
        {
            "traceEvents": events,
            "displayTimeUnit": "ns",
            "metadata": {"origin": timeline.origin},
        }
    )


def _event(span: Span, pid: int, tid: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": f"{span.kind} stage {span.stage}" if span.stage >= 0 else span.kind,
        "ts": span.start_ns / 1000,
        "dur": (span.end_ns - span.start_ns) / 1000,
        "args": {"chunk": span.chunk, "bytes": span.nbytes, "rows": span.rows},
    }


def _lanes(spans: Iterable[Span]) -> list[tuple[str, list[Span]]]:
    """Give the spans of each resource on lanes in which no two overlap."""
    lanes: dict[str, list[list[Span]]] = {}
    for span in sorted(spans, key=lambda s: (s.start_ns, s.end_ns)):
        mine = lanes.setdefault(span.resource, [])
        for lane in mine:
            if lane[-1].end_ns <= span.start_ns:
                lane.append(span)
                break
        else:
            mine.append([span])
    return [
        (f"{resource} {number}" if len(parts) > 1 else resource, part)
        for resource, parts in sorted(lanes.items())
        for number, part in enumerate(parts)
    ]
