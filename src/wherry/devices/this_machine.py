"""The system `this-machine`: its cpu, measured when asked for, that holds every dataset; its cards.

A card is another device of it, behind a link: planning decides whether rows go there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from wherry.devices.bandwidth import ARRAY_BYTES, read_gb_per_s
from wherry.devices.cards import Facts, cards, link_to, profile_of
from wherry.devices.figures import Count, Figure
from wherry.devices.proc import cpu_clock_ghz, cpu_name, memory_bytes, usable_cores
from wherry.devices.profile import (
    OPERATOR_NAMES,
    TYPE_FAMILIES,
    Capabilities,
    Cores,
    Device,
    Memory,
    Profile,
    Rates,
    Start,
    load_profile,
)
from wherry.devices.topology import Dataset, System
from wherry.devices.work import load_reference

THIS_MACHINE = "this-machine"
_DEVICE = "cpu0"
# The start-up times of our own programs were measured on the machine of the reference core, and
# this profile holds them.
_STARTS_FROM = "sapphire-rapids"


@cache
def this_machine() -> System:
    """Give this machine as a system: device `cpu0` is host, client and home of every dataset.

    Datasets live in its memory, so `cpu0` has no `[media]`. Measured once per machine (0.3 s).
    """
    return machine_with(cards())


def machine_with(found: Sequence[Facts]) -> System:
    """Give this machine as a system that has these cards."""
    return System(
        name=THIS_MACHINE,
        title="This machine",
        host=_DEVICE,
        client=_DEVICE,
        devices={_DEVICE: _profile(), **{card.name: profile_of(card) for card in found}},
        switches=(),
        links=tuple(link_to(_DEVICE, card) for card in found),
        datasets=(Dataset(name="*", devices=(_DEVICE,), layout="files"),),
    )


def card_names(system: System) -> tuple[str, ...]:
    """Give the devices of this machine that have memory of their own; of another system none."""
    if system.name != THIS_MACHINE:
        return ()
    return tuple(name for name in system.devices if name != system.host)


def _profile() -> Profile:
    cores = usable_cores()
    speed = read_gb_per_s(1) / load_reference().scan_gb_per_s.value
    return Profile(
        device=Device(name=THIS_MACHINE, kind="cpu", title=cpu_name()),
        cores=Cores(
            count=Count(cores, "measured: cores this process may run on (sched_getaffinity)"),
            clock_ghz=_clock(),
        ),
        rates=_rates(float(f"{speed:.3g}")),
        memory=_memory(cores),
        start=_start(speed),
        capabilities=Capabilities(types=TYPE_FAMILIES, operators=OPERATOR_NAMES),
    )


def _clock() -> Figure | None:
    ghz = cpu_clock_ghz()
    return None if ghz is None else Figure(ghz, "measured: cpu MHz of /proc/cpuinfo")


def _memory(cores: int) -> Memory:
    return Memory(
        capacity_bytes=Count(memory_bytes(), "measured: MemTotal of /proc/meminfo"),
        bandwidth_gb_per_s=Figure(
            read_gb_per_s(cores),
            f"measured: {cores} threads of numpy reading {ARRAY_BYTES >> 20} MiB, best of 5 passes",
        ),
    )


def _rates(speed: float) -> Rates:
    read = read_gb_per_s(1)
    guess = Figure(
        speed, f"estimate: as fast as the scan, from one thread's measured {read} GB/s of reading"
    )
    return Rates(
        relative_scan=Figure(
            speed,
            f"measured: one numpy thread reads {read} GB/s; relative to the reference core",
        ),
        relative_filter=guess,
        relative_arithmetic=guess,
        relative_string=guess,
        relative_hash=guess,
        relative_write=guess,
        relative_sort=guess,
        relative_decode=guess,
        relative_compress=guess,
    )


def _start(speed: float) -> Start:
    known = load_profile(_STARTS_FROM).start
    assert known is not None  # a shipped cpu profile has it: the loader refuses else

    def scaled(figure: Figure) -> Figure:
        text = f"estimate: {figure.value} us of profile {_STARTS_FROM} over the relative scan rate"
        return Figure(float(f"{figure.value / speed:.3g}"), f"{text} {speed:.3g}, from its [start]")

    return Start(
        kernel_start_us=scaled(known.kernel_start_us),
        hop_receive_us=scaled(known.hop_receive_us),
        program_install_us=scaled(known.program_install_us),
    )
