"""Hops as one trace: ids that follow from the continuation, and the same facts in every form."""

import json
from itertools import pairwise

import pytest

from wherry.base.errors import CorruptError, InputError
from wherry.run.receipts import (
    DIMENSIONS,
    NOTHING,
    UNLIMITED,
    Receipt,
    budget_of,
    described,
    from_bytes,
    left,
    to_bytes,
    total,
)
from wherry.trace.hops import Hop, export, otlp, perfetto, span_id

ID = bytes(range(16))
USED = tuple(range(1, 9))
HOPS = [
    Hop(ID, 1, 0, Receipt("home", 0, 0, "start", 1_000, 2_000, False, NOTHING)),
    Hop(ID, 1, 1, Receipt("csd0", 1, 12, "rows = await shard", 3_000, 9_000, True, USED)),
    Hop(
        ID, 2, 2, Receipt("host0", 2, 14, "await pay(1)", 9_000, 9_500, False, NOTHING, "no money")
    ),
]


def test_a_receipt_survives_a_journal():
    for hop in HOPS:
        assert from_bytes(to_bytes(hop.receipt)) == hop.receipt


@pytest.mark.parametrize("data", [b"", b"\xc1", to_bytes(HOPS[1].receipt)[:-1], b"\x90"])
def test_bytes_that_are_no_receipt_are_refused(data):
    with pytest.raises(CorruptError, match="no receipt"):
        from_bytes(data)


def test_a_receipt_with_too_few_amounts_is_refused():
    short = Receipt("a", 0, 0, "", 0, 0, False, (1, 2))
    with pytest.raises(CorruptError, match="2 amounts, not 8"):
        from_bytes(to_bytes(short))


def test_a_budget_is_used_up_dimension_by_dimension():
    budget = budget_of({"rows": 10, "hops": 2})
    rest, over = left(budget, total([USED, USED]))
    assert over == "hops"
    assert dict(zip(DIMENSIONS, rest, strict=True)) == {
        **dict.fromkeys(DIMENSIONS, UNLIMITED), "rows": 4, "hops": 0,
    }  # fmt: skip
    assert left(budget, NOTHING) == (budget, "")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"row": 1}, "no dimension 'row'; did you mean 'rows'"),
        ({"rows": -1}, "rows is -1"),
        ({"rows": 1.5}, "rows is 1.5"),
        ({"rows": True}, "rows is True"),
    ],
)
def test_a_limit_that_is_none_is_refused(limits, said):
    with pytest.raises(InputError, match=said):
        budget_of(limits)


def test_amounts_are_said_in_their_unit():
    assert [described(name, 3_000_000_000) for name in DIMENSIONS] == [
        "3 s", "2.79 GiB", "3,000,000,000", "3,000,000,000",
        "3 byte-seconds", "3 byte-seconds", "3,000,000,000", "3000.000000 USD",
    ]  # fmt: skip


def test_a_span_is_the_same_whoever_exports_it():
    assert span_id(ID, 1, 1) == span_id(ID, 1, 1)
    assert len({span_id(ID, epoch, hop) for epoch in range(3) for hop in range(300)}) == 900


def test_otlp_has_a_finished_span_for_each_hop_with_its_links():
    resource = json.loads(otlp(HOPS, "pay"))["resourceSpans"][0]
    spans = resource["scopeSpans"][0]["spans"]
    assert [span["traceId"] for span in spans] == [ID.hex()] * 3
    assert "parentSpanId" not in spans[0]
    for before, after in pairwise(spans):
        assert after["parentSpanId"] == before["spanId"] == after["links"][0]["spanId"]
    assert spans[2]["status"] == {"code": 2, "message": "no money"}
    attributes = {a["key"]: next(iter(a["value"].values())) for a in spans[1]["attributes"]}
    assert attributes["wherry.bytes"] == "2"
    assert attributes["wherry.modelled"] is True
    assert resource["resource"]["attributes"][0]["value"] == {"stringValue": "pay"}


def test_perfetto_shows_a_process_for_each_node():
    events = json.loads(perfetto(HOPS, "pay"))["traceEvents"]
    assert [e["args"]["name"] for e in events if e["ph"] == "M"] == ["home", "csd0", "host0"]
    assert [(e["pid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"] == [
        (0, 1.0, 1.0), (1, 3.0, 6.0), (2, 9.0, 0.5),
    ]  # fmt: skip


def test_the_sdk_of_opentelemetry_takes_the_same_spans():
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory.InMemorySpanExporter()
    export(HOPS, "pay", exporter)
    spans = exporter.get_finished_spans()
    assert [s.name for s in spans] == ["start", "rows = await shard", "await pay(1)"]
    assert [s.context.trace_id for s in spans] == [int.from_bytes(ID, "big")] * 3
    assert spans[1].parent.span_id == spans[0].context.span_id == spans[1].links[0].context.span_id
    assert spans[1].attributes["wherry.rows"] == 3
    assert not spans[2].status.is_ok
