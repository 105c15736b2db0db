"""What an agent tells of itself, to Prometheus and to OpenTelemetry."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from wherry.base.errors import InputError, Retryable
from wherry.serve.gate import Gate
from wherry.serve.load import Bounds, Limits
from wherry.serve.measures import Family, of_admission, of_keeping, of_memory
from wherry.serve.metrics import Exposed, observe, traced
from wherry.serve.peer import Peer
from wherry.serve.requests import Done, failed, to_bytes


def gate() -> Gate:
    ticks = iter(range(0, 10**12, 3_000_000))  # every look at the clock is 3 ms after the last
    made = Gate(Limits(1), lambda _: Bounds(waiting=0), lambda: next(ticks))
    with made.admitted("alice"), pytest.raises(Retryable):
        made.admitted("bob")
    return made


def families() -> Iterator[Family]:
    found = gate()
    yield from of_admission(found.counts(), found.load())
    yield from of_keeping(1, 2, 3, 4)
    yield from of_memory({"alice": 4096})


def read(exposed: Exposed) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{exposed.port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_prometheus_reads_what_was_counted() -> None:
    pytest.importorskip("prometheus_client")
    exposed = Exposed("127.0.0.1:0", families)
    try:
        found = read(exposed)
    finally:
        exposed.close()
    assert found['wherry_requests_total{outcome="admitted",tenant="alice"}'] == 1
    assert found['wherry_requests_total{outcome="tenant",tenant="bob"}'] == 1
    assert found['wherry_requests_total{outcome="deadline",tenant="alice"}'] == 0
    # Two looks at the clock lie between its start and its end: bob's, and the end's own.
    assert found['wherry_work_seconds_sum{tenant="alice"}'] == pytest.approx(0.006)
    assert found['wherry_work_seconds_bucket{le="0.004096",tenant="alice"}'] == 0
    assert found['wherry_work_seconds_bucket{le="0.008192",tenant="alice"}'] == 1
    assert found['wherry_work_seconds_bucket{le="+Inf",tenant="alice"}'] == 1
    assert found['wherry_segment_bytes{tenant="alice"}'] == 4096
    assert [found[f"wherry_{name}"] for name in ("queries", "pieces", "connections")] == [1, 2, 3]
    assert found["wherry_running"] == 0


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9100", "example.org:9100", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"]
)
def test_metrics_stay_on_this_machine(address: str) -> None:
    with pytest.raises(InputError, match=r"possible: 127.0.0.1:PORT"):
        Exposed(address, families)


def test_a_port_that_is_taken_is_named() -> None:
    pytest.importorskip("prometheus_client")
    first = Exposed("127.0.0.1:0", families)
    try:
        with pytest.raises(InputError, match="Address already in use"):
            Exposed(f"127.0.0.1:{first.port}", families)
    finally:
        first.close()


def test_opentelemetry_is_refused_without_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = pytest.importorskip("opentelemetry.metrics")
    monkeypatch.setattr(metrics, "get_meter_provider", metrics.NoOpMeterProvider)
    with pytest.raises(InputError, match="no provider of meters"):
        observe(families)


def test_opentelemetry_reads_the_same_and_sees_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry import metrics, trace  # noqa: PLC0415  an extra
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415  an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  an extra
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415  an extra
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415  an extra

    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    provider, tracers = sdk.MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    monkeypatch.setattr(trace, "get_tracer", tracers.get_tracer)
    try:
        observe(families)
        scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        found = {metric.name: metric.data.data_points for metric in scopes}
        outcomes = {tuple(sorted(p.attributes.items())): p.value for p in found["wherry_requests"]}
        assert outcomes[("outcome", "tenant"), ("tenant", "bob")] == 1
        assert {p.attributes["tenant"]: p.value for p in found["wherry_work_seconds_count"]} == {
            "alice": 1,
            "bob": 0,
        }
        replies = iter([to_bytes(Done()), to_bytes(failed(Retryable("busy")))])
        handle = traced(lambda request, peer: next(replies))
        for _ in range(2):
            handle(b"ask", Peer("alice", "unix uid 1"))
        done, busy = spans.get_finished_spans()
        assert dict(done.attributes) == {
            "wherry.tenant": "alice",
            "wherry.request_bytes": 3,
            "wherry.reply": "Done",
        }
        assert busy.attributes["wherry.error"] == "Retryable: busy"
        assert not busy.status.is_ok
    finally:
        provider.shutdown()
        tracers.shutdown()
