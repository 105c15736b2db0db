"""The hops of one continuation as one trace: OpenTelemetry, Perfetto, or a traceback.

A finished span for each hop; nothing is open for the weeks that a continuation sleeps. Ids follow
from the continuation, so whoever exports a hop twice exports the same span: the trace id is the
continuation's id, a span's id the digest of id, epoch and hop. A hop's span links to the one before
it and is its child, since that is what sent it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from wherry.base.ids import digest
from wherry.run.receipts import DIMENSIONS, Receipt

_SCOPE = "wherry"
_INTERNAL = 1
"""Of OpenTelemetry's span kinds: work within one application."""
_OK, _ERROR = 1, 2
_SPAN_ID_BYTES = 8


class Hop(Struct, frozen=True):
    """One hop of a continuation, as its receipt tells it.

    `life` tells the processes apart that carried hops out; they have no other meaning.
    """

    id: bytes
    epoch: int
    hop: int
    receipt: Receipt
    life: int = 0


class Exporter(Protocol):
    """What OpenTelemetry calls a SpanExporter."""

    def export(self, spans: Sequence[Any]) -> object:
        """Take finished spans."""
        ...


def span_id(continuation: bytes, epoch: int, hop: int) -> bytes:
    """Give the 8 bytes that identify a hop's span, always the same for the same hop."""
    where = epoch.to_bytes(4, "little") + hop.to_bytes(4, "little")
    return digest(continuation, where)[:_SPAN_ID_BYTES]


def otlp(hops: Sequence[Hop], name: str) -> bytes:
    """Give the trace as OTLP in its JSON encoding, which collectors read from a file.

    Parameters
    ----------
    hops : sequence of Hop
        In order.
    name : str
        Of the movable: the service that the spans belong to.
    """
    spans = [_otlp_span(hop, before) for hop, before in _paired(hops)]
    scope = {"scope": {"name": _SCOPE}, "spans": spans}
    resource = {"attributes": _attributes({"service.name": name})}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})


def perfetto(hops: Sequence[Hop], name: str) -> bytes:
    """Give the hops as a file for ui.perfetto.dev: a process a node, in Unix microseconds."""
    nodes = list(dict.fromkeys(hop.receipt.node for hop in hops))
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": node}}
        for pid, node in enumerate(nodes)
    ]
    for hop in hops:
        receipt = hop.receipt
        events.append(
            {
                "ph": "X",
                "pid": nodes.index(receipt.node),
                "tid": 0,
                "name": receipt.what,
                "ts": receipt.start_ns / 1000,
                "dur": (receipt.end_ns - receipt.start_ns) / 1000,
                "args": _told(hop),
            }
        )
    return msgspec.json.encode({"traceEvents": events, "metadata": {"movable": name}})


def export(hops: Sequence[Hop], name: str, exporter: Exporter) -> None:
    """Hand the trace to an exporter of OpenTelemetry's SDK.

    Raises
    ------
    ImportError
        If `opentelemetry-sdk` is not installed (`pip install wherry[otel]`).
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.trace import Link, SpanContext, TraceFlags  # noqa: PLC0415
    from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

    def context(hop: Hop) -> Any:
        return SpanContext(
            trace_id=int.from_bytes(hop.id, "big"),
            span_id=int.from_bytes(span_id(hop.id, hop.epoch, hop.hop), "big"),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )

    resource = Resource.create({"service.name": name})
    exporter.export(
        [
            ReadableSpan(
                name=hop.receipt.what,
                context=context(hop),
                parent=None if before is None else context(before),
                links=() if before is None else (Link(context(before)),),
                resource=resource,
                attributes=_told(hop),
                status=Status(StatusCode.ERROR, hop.receipt.failed)
                if hop.receipt.failed
                else Status(StatusCode.OK),
                start_time=hop.receipt.start_ns,
                end_time=hop.receipt.end_ns,
            )
            for hop, before in _paired(hops)
        ]
    )


def _paired(hops: Sequence[Hop]) -> list[tuple[Hop, Hop | None]]:
    return list(zip(hops, (None, *hops), strict=False))


def _otlp_span(hop: Hop, before: Hop | None) -> dict[str, Any]:
    receipt = hop.receipt
    span: dict[str, Any] = {
        "traceId": hop.id.hex(),
        "spanId": span_id(hop.id, hop.epoch, hop.hop).hex(),
        "name": receipt.what,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(receipt.start_ns),
        "endTimeUnixNano": str(receipt.end_ns),
        "attributes": _attributes(_told(hop)),
        "status": {"code": _ERROR, "message": receipt.failed} if receipt.failed else {"code": _OK},
    }
    if before is not None:
        linked = span_id(before.id, before.epoch, before.hop).hex()
        span["parentSpanId"] = linked
        span["links"] = [{"traceId": before.id.hex(), "spanId": linked}]
    return span


def _told(hop: Hop) -> dict[str, str | int | bool]:
    receipt = hop.receipt
    used = {
        f"wherry.{name}": amount
        for name, amount in zip(DIMENSIONS, receipt.used, strict=True)
        if amount
    }
    return {
        "wherry.node": receipt.node,
        "wherry.epoch": hop.epoch,
        "wherry.hop": hop.hop,
        "wherry.position": receipt.position,
        "code.lineno": receipt.line,
        "wherry.modelled": receipt.modelled,
        **used,
    }


def _attributes(values: dict[str, str | int | bool]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | int | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
