"""An agent's numbers for Prometheus, on this machine alone, and for OpenTelemetry.

Both are extras: `prometheus-client`, and OpenTelemetry's API with a provider that the process was
started with (`opentelemetry-instrument wherry agent ... --otel`). What is asked for and cannot be
had is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from wherry.base.errors import InputError
from wherry.serve.flight_address import is_loopback
from wherry.serve.measures import Read
from wherry.serve.peer import Peer
from wherry.serve.requests import Failed, reply_of

_SCOPE: Final = "wherry.agent"
Handle = Callable[[bytes, Peer], bytes]


class Exposed:
    """Prometheus text at an address, until it is closed.

    Parameters
    ----------
    address : str
        HOST:PORT of this machine; port 0 is any that is free.
    read : callable
        Gives the numbers as they are now.

    Raises
    ------
    InputError
        If the address is none, is not of this machine or is taken, or `prometheus-client` is not
        installed.
    """

    def __init__(self, address: str, read: Read) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or int(port) > 65535 or not is_loopback(host.strip("[]")):
            raise InputError(f"metrics at {address!r}; possible: 127.0.0.1:PORT, [::1]:PORT")
        try:
            import prometheus_client as prometheus  # noqa: PLC0415  an extra
        except ImportError:
            raise InputError(
                "prometheus-client is not installed; python -m pip install 'wherry[agent]'"
            ) from None
        registry = prometheus.CollectorRegistry()
        registry.register(_Collector(read))
        try:
            self._server, self._thread = prometheus.start_http_server(
                int(port), host.strip("[]"), registry
            )
        except OSError as problem:
            raise InputError(f"metrics at {address!r}: {problem.strerror or problem}") from None
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector:
    """Gives prometheus-client the numbers whenever they are asked for."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[Any]:
        """Give all families."""
        from prometheus_client import core  # noqa: PLC0415  an extra

        kinds = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
        for family in self._read():
            labels = list(family.points[0].labels) if family.points else []
            if family.kind == "histogram":
                made = core.HistogramMetricFamily(family.name, family.help, labels=labels)
                for point in family.points:
                    buckets = [(_bound(bound), count) for bound, count in point.buckets]
                    made.add_metric(list(point.labels.values()), buckets, point.value)
            else:
                made = kinds[family.kind](family.name, family.help, labels=labels)
                for point in family.points:
                    made.add_metric(list(point.labels.values()), point.value)
            yield made


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"


def observe(read: Read) -> None:
    """Let OpenTelemetry's meters read the numbers; of histograms, their sums and counts.

    Raises
    ------
    InputError
        If OpenTelemetry is not installed, or the process has no provider of meters.
    """
    api = _opentelemetry()
    meter = api.metrics.get_meter(_SCOPE)
    for family in read():
        match family.kind:
            case "gauge":
                meter.create_observable_gauge(
                    family.name, [partial(_seen, api, read, family.name)], description=family.help
                )
            case "counter":
                meter.create_observable_counter(
                    family.name, [partial(_seen, api, read, family.name)], description=family.help
                )
            case "histogram":
                for part in ("sum", "count"):
                    meter.create_observable_counter(
                        f"{family.name}_{part}",
                        [partial(_seen, api, read, family.name, part)],
                        description=family.help,
                    )


def _seen(api: Any, read: Read, name: str, part: str = "", _: object = None) -> Iterator[Any]:
    for family in read():
        if family.name == name:
            for point in family.points:
                value = point.buckets[-1][1] if part == "count" else point.value
                yield api.metrics.Observation(value, dict(point.labels))


def traced(handle: Handle) -> Handle:
    """Give what handles requests with a span of OpenTelemetry around each; it names the tenant.

    Raises
    ------
    InputError
        As `observe`.
    """
    api = _opentelemetry()
    tracer = api.trace.get_tracer(_SCOPE)
    error = api.trace.Status(api.trace.StatusCode.ERROR)

    def spanned(request: bytes, peer: Peer) -> bytes:
        with tracer.start_as_current_span("wherry.request") as span:
            reply = handle(request, peer)
            span.set_attribute("wherry.tenant", peer.tenant)
            span.set_attribute("wherry.request_bytes", len(request))
            if span.is_recording():
                said = reply_of(reply)
                span.set_attribute("wherry.reply", type(said).__name__)
                if isinstance(said, Failed):
                    span.set_attribute("wherry.error", f"{said.kind}: {said.text}")
                    span.set_status(error)
            return reply

    return spanned


def _opentelemetry() -> Any:
    """Give OpenTelemetry's API, if this process was given somewhere to send what it is told."""
    try:
        import opentelemetry as api  # noqa: PLC0415  an extra
        from opentelemetry import metrics, trace  # noqa: F401, PLC0415  become parts of it
    except ImportError:
        raise InputError(
            "OpenTelemetry is not installed; python -m pip install 'wherry[otel]'"
        ) from None
    given = api.metrics.get_meter_provider()
    if type(given).__name__ in {"_ProxyMeterProvider", "NoOpMeterProvider"}:
        raise InputError(
            "OpenTelemetry has no provider of meters in this process; start it with "
            "opentelemetry-instrument, or set one with opentelemetry.metrics.set_meter_provider"
        )
    return api
