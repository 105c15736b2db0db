"""The picture of a timeline, and the sums over it."""

import itertools
import json

from wherry.base.events import Span
from wherry.trace.perfetto import chrome_trace
from wherry.trace.timeline import Timeline

SPANS = (
    Span("read", "media csd0", "csd0", 0, 1500, 0, 0, 100, 10),
    Span("run", "cores csd0", "csd0", 1500, 4000, 0, 0, 100, 10),
    Span("run", "cores csd0", "csd0", 2000, 3000, 0, 1, 50, 5),
    Span("run", "cores csd0", "csd0", 4000, 5000, 0, 2, 50, 5),
    Span("move", "link csd0->host0", "csd0", 4000, 4100, 1, 0, 40, 0),
    Span("hold", "memory csd0", "csd0", 0, 5000, 0, 0, 40, 0),
)


def test_every_span_is_drawn_once_and_no_two_on_a_lane_overlap():
    drawn = json.loads(chrome_trace(Timeline("modelled", SPANS)))
    events = [event for event in drawn["traceEvents"] if event["ph"] == "X"]
    assert len(events) == len(SPANS)
    assert sorted(event["ts"] for event in events) == [0, 0, 1.5, 2, 4, 4]
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        lane = lanes.setdefault((event["pid"], event["tid"]), [])
        lane.append((event["ts"], event["ts"] + event["dur"]))
    for lane in lanes.values():
        lane.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(lane))
    assert len(lanes) == 5


def test_the_origin_is_said():
    drawn = json.loads(chrome_trace(Timeline("measured", SPANS)))
    names = [e["args"]["name"] for e in drawn["traceEvents"] if e["name"] == "process_name"]
    assert names == ["csd0 (measured)"]
    assert drawn["metadata"] == {"origin": "measured"}


def test_sums_leave_out_what_only_lies_in_memory():
    timeline = Timeline("modelled", SPANS)
    assert timeline.busy_ns() == {
        "cores csd0": 4500,
        "link csd0->host0": 100,
        "media csd0": 1500,
    }
    assert timeline.link_bytes() == {"csd0->host0": 40}
