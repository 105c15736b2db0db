"""Receipts: what each hop used, added up from the spans of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from msgspec import Struct

from wherry.base.events import Span
from wherry.devices.profile import Profile


class Receipt(Struct, frozen=True):
    """What one stage used on one device.

    Attributes
    ----------
    stage : int
        Index of the stage; -1 is routing.
    device : str
        Where it ran.
    iops : int
        Requests to the media, each at most the profile's largest.
    link_bytes : dict of str to int
        Bytes that left the device over each link.
    ram_byte_ns, nic_buffer_byte_ns : int
        Bytes times the nanoseconds they lay in memory; a NIC's memory is billed as its buffer.
    core_ns : int
        Nanoseconds of cores.
    """

    stage: int
    device: str
    iops: int
    link_bytes: Mapping[str, int]
    ram_byte_ns: int
    nic_buffer_byte_ns: int
    core_ns: int


def receipts(spans: Iterable[Span], devices: Mapping[str, Profile]) -> tuple[Receipt, ...]:
    """Give one receipt for each stage on each device that did something for it."""
    groups: dict[tuple[int, str], list[Span]] = {}
    for span in spans:
        if span.device in devices:
            groups.setdefault((span.stage, span.device), []).append(span)
    return tuple(
        _receipt(stage, device, uses, devices[device])
        for (stage, device), uses in sorted(groups.items())
    )


def _receipt(stage: int, device: str, spans: list[Span], profile: Profile) -> Receipt:
    links: dict[str, int] = {}
    for span in spans:
        if span.resource.startswith("link "):
            name = span.resource.removeprefix("link ")
            links[name] = links.get(name, 0) + span.nbytes
    held = sum(s.nbytes * (s.end_ns - s.start_ns) for s in spans if s.kind == "hold")
    on_nic = profile.device.kind == "nic"
    return Receipt(
        stage=stage,
        device=device,
        iops=sum(_requests(s, profile) for s in spans if s.kind == "read"),
        link_bytes=links,
        ram_byte_ns=0 if on_nic else held,
        nic_buffer_byte_ns=held if on_nic else 0,
        core_ns=sum(s.end_ns - s.start_ns for s in spans if s.resource.startswith("cores ")),
    )


def _requests(span: Span, profile: Profile) -> int:
    if profile.media is None:
        return 0
    return max(1, ceil(span.nbytes / profile.media.request_bytes_max.value))
