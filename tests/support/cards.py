"""Cards that are this CPU: what runs on a CUDA device, without one."""

from contextlib import contextmanager

from support.cuda_shim import ShimDevice

from wherry.devices.pinned import PinnedReader
from wherry.devices.this_machine import machine_with
from wherry.render.cuda.totals import SPAN
from wherry.run.on_device import card_of
from wherry.session.cards import using

ON_CARD = {"near": "gpu0"}


@contextmanager
def card(memory_bytes=1 << 28, cell_rows=SPAN, **reading):
    """Give this machine with a card that has so much memory, and the card."""
    device = ShimDevice()
    device.name, device.model = "gpu0", "NVIDIA H200"
    system = machine_with([device])
    device.memory_bytes = memory_bytes  # less than it says, as if others had the rest
    reader = PinnedReader(device, threads=2, slots=4, slot_bytes=1 << 16, **reading)
    made = card_of(device, reader, cell_rows)
    try:
        with using(made):
            yield system, made
    finally:
        reader.close()
