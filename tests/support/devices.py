"""Small devices and systems with round figures, for times that can be computed by hand."""

import msgspec

from wherry.devices.figures import Count, Figure
from wherry.devices.parts import Cache, Engine, Launch, Power, Price
from wherry.devices.profile import (
    OPERATOR_NAMES,
    TYPE_FAMILIES,
    Capabilities,
    Cores,
    Device,
    Media,
    Memory,
    Profile,
    Rates,
    Start,
)
from wherry.devices.routes import Link
from wherry.devices.topology import Dataset, System

SOURCE = "measured: for a test"
GIB = 1 << 30


def figure(value: float) -> Figure:
    return Figure(value, SOURCE)


def count(value: int) -> Count:
    return Count(value, SOURCE)


def cpu(name: str = "cpu", *, cores: int = 1, kind: str = "cpu", speed: float = 1.0) -> Profile:
    """Give a device that runs everything: 1 us to start, 10 GB/s and 1 GiB of memory."""
    rates = {rate: figure(speed) for rate in Rates.__struct_fields__}
    return Profile(
        device=Device(name=name, kind=kind, title=name),
        cores=Cores(count=count(cores)),
        rates=Rates(**rates),
        memory=memory(),
        start=Start(
            kernel_start_us=figure(1.0), hop_receive_us=figure(2.0), program_install_us=figure(9.0)
        ),
        capabilities=Capabilities(types=TYPE_FAMILIES, operators=OPERATOR_NAMES),
    )


def memory(capacity: int = GIB, bandwidth: float = 10.0, beyond: float | None = None) -> Memory:
    return Memory(
        capacity_bytes=count(capacity),
        bandwidth_gb_per_s=figure(bandwidth),
        beyond_gb_per_s=None if beyond is None else figure(beyond),
    )


def drive(
    *, rate: float = 4.0, channels: int = 4, latency: float = 10.0, iops: int | None = None
) -> Profile:
    """Give a drive that computes nothing: 4 channels of 1 GB/s, requests of up to 1000 bytes."""
    return Profile(
        device=Device(name="drive", kind="drive", title="drive"),
        media=Media(
            read_gb_per_s=figure(rate),
            channels=count(channels),
            latency_us=figure(latency),
            request_bytes_max=count(1000),
            random_read_iops=None if iops is None else count(iops),
        ),
    )


def engine(
    name: str, *, rate: float, start: float = 0.0, jobs: int = 1, on: str = "engine"
) -> Engine:
    return Engine(
        name=name,
        runs_on=on,
        input_gb_per_s=figure(rate),
        job_start_us=figure(start),
        jobs=count(jobs),
    )


def launch(stream: float, thread: float | None = None) -> Launch:
    mb = None if thread is None else figure(thread)
    return Launch(stream_us=figure(stream), thread_mb_per_s=mb)


def cache(size: int, hashing: float) -> Cache:
    return Cache(count(size), figure(1.0), figure(hashing))


def power(busy: float, idle: float | None = None) -> Power:
    return Power(figure(busy), None if idle is None else figure(idle))


def price(hour: float | None = None, device: float | None = None) -> Price:
    return Price(
        device_usd=None if device is None else figure(device),
        hour_usd=None if hour is None else figure(hour),
    )


def link(
    a: str,
    b: str,
    rate: float = 1.0,
    *,
    latency: float = 0.0,
    duplex: str = "full",
    share: float | None = None,
) -> Link:
    return Link(
        (a, b), figure(rate), figure(latency), duplex, None if share is None else figure(share)
    )


def system(devices: dict[str, Profile], *links: Link, host: str = "host", on: str = "") -> System:
    """Give a system whose client is the node `client`, and whose data lie on `on`."""
    ends = {end for one in links for end in one.ends}
    return System(
        name="small",
        title="small",
        host=host,
        client="client",
        devices=devices,
        switches=tuple(sorted(ends - {"client", *devices})),
        links=links,
        datasets=(Dataset("*", (on or host,), "files"),),
    )


def changed(struct: object, **fields: object) -> object:
    return msgspec.structs.replace(struct, **fields)
