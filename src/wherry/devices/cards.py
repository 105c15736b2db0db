"""Which CUDA cards this process may use, and what planning believes of them."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.devices.cuda import Card, cuda_devices
from wherry.devices.figures import Count, Figure
from wherry.devices.machine_facts import keep_facts, kept_facts, kept_path
from wherry.devices.proc import ROOT, cuda_node
from wherry.devices.profile import Profile, load_profile, profile_names
from wherry.devices.routes import Link

_OLDEST = 80
"""Ampere: programs add bits of a warp in one step, which older cards cannot."""
_NEAREST = "h100-pcie"
"""The profile whose rates a card is given that none is about."""


@cache
def cards(root: Path = ROOT) -> tuple[Card, ...]:
    """Give the cards that programs run on, as planning sees them; none without cupy or a driver.

    What is missing is `wherry doctor`'s to say: a machine without a card is no less of a machine.
    To ask CUDA takes longer than many a query, so what it said is kept until the machine starts
    anew; whoever uses a card asks again.
    """
    if cuda_node(root) is None or find_spec("cupy") is None:
        return ()
    path = kept_path(f"cards {_boot(root)} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getuid()}")
    kept: tuple[Card, ...] = kept_facts(path, tuple[Card, ...], ())
    if not kept:
        with suppress(InputError):
            kept = cuda_devices()
            keep_facts(path, kept)
    return tuple(card for card in kept if int(card.arch.removeprefix("sm_")) >= _OLDEST)


def _boot(root: Path) -> str:
    """Give what differs each time that the machine starts."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(os.getpid())


class Facts(Protocol):
    """What is known of a card, as `wherry.devices.cuda.Card` has it."""

    @property
    def name(self) -> str:
        """As systems call it, such as "gpu0"."""

    @property
    def model(self) -> str:
        """What CUDA calls its kind, such as "NVIDIA H200"."""

    @property
    def cores(self) -> int:
        """Multiprocessors."""

    @property
    def memory_bytes(self) -> int:
        """All that it has."""


def profile_of(card: Facts) -> Profile:
    """Give the shipped profile of a card's model, with the cores and memory that it really has."""
    shipped = [load_profile(name) for name in profile_names()]
    found = next((p for p in shipped if card.model in p.device.models), None)
    base = load_profile(_NEAREST) if found is None else found
    assert base.cores is not None
    assert base.memory is not None
    text = f"measured: what CUDA says of {card.model}"
    guess = "" if found is not None else f"; all else is estimated as of {_NEAREST}"
    return replace(
        base,
        device=replace(base.device, title=f"{card.model}{guess}"),
        cores=replace(base.cores, count=Count(card.cores, text)),
        memory=replace(base.memory, capacity_bytes=Count(card.memory_bytes, text)),
    )


def link_to(host: str, card: Facts) -> Link:
    """Give what connects a card with the host."""
    return Link(
        ends=(host, card.name),
        bandwidth_gb_per_s=Figure(
            50.0, "estimate: PCIe 5 x16 usable one way, from kvikio 49.0 and fio 52.5 GB/s"
        ),
        latency_us=Figure(0.6, "estimate: half of 1.21 us, from one measured RDMA hop"),
        duplex="full",
    )
