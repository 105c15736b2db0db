"""One test for each mechanism: its time computed by hand, and the point that shows it is needed."""

from collections.abc import Callable

import pytest
from support import devices as d

from wherry import InputError
from wherry.base.events import Span
from wherry.data.decoding import Packed
from wherry.devices.charge import (
    media_alone_ns,
    media_ns,
    start_ns,
    threads_ns,
    transfer_ns,
)
from wherry.devices.demand import demand
from wherry.devices.topology import System
from wherry.devices.work import Work, core_ns, load_reference
from wherry.sim.clockwork import Clockwork, Steps, Use
from wherry.sim.servers import Room

Process = Callable[[Clockwork, list[Span]], Steps]


def passed(system: System, *processes: Process) -> tuple[int, list[Span]]:
    """Give the time until all processes have ended, and what they used."""
    clockwork, log = Clockwork(system), list[Span]()
    every = [clockwork.env.process(process(clockwork, log)) for process in processes]
    clockwork.env.run(clockwork.env.all_of(every))
    return clockwork.now, log


def moving(source: str, target: str, nbytes: int) -> Process:
    return lambda clockwork, log: clockwork.carry(log, source, target, Use("move", 0, 0, nbytes))


def reading(device: str, nbytes: int) -> Process:
    return lambda clockwork, log: clockwork.read(log, device, Use("read", 0, 0, nbytes))


def running(device: str, work: Work) -> Process:
    def process(clockwork: Clockwork, log: list[Span]) -> Steps:
        asked = demand(clockwork.profile(device), work)
        cores, start = clockwork.cores(device), clockwork.now
        turn = cores.take()
        if turn is not None:
            yield turn
        yield from clockwork.run(device, asked)
        log.append(Use("run", 0).span(f"cores {device}", device, start, clockwork.now))
        cores.give()

    return process


def pair(**fields: object) -> System:
    return d.system({"host": d.cpu()}, d.link("client", "host", **fields))


def test_a_transfer_is_a_start_and_its_bytes() -> None:
    """v100-memcpy-* and smartssd-p2p-*: small copies take the same time whatever their size."""
    system = pair(rate=2.0, latency=5.0)
    assert passed(system, moving("client", "host", 4000))[0] == 2_000 + 5_000
    assert passed(system, moving("client", "host", 2))[0] == 1 + 5_000


def test_two_transfers_share_a_link_by_turns() -> None:
    """gds-local-4gpu: what several draw over one link is the link's, not the sum of theirs."""
    system = d.system(
        {"host": d.cpu(), "a": d.drive(), "b": d.drive()},
        d.link("a", "switch", 4.0), d.link("b", "switch", 4.0),
        d.link("switch", "host"), d.link("host", "client"),
    )  # fmt: skip
    # Each is 1 us to the switch, side by side; then 4 us and 4 us more to the host.
    assert passed(system, moving("a", "host", 4000), moving("b", "host", 4000))[0] == 9_000


def test_both_ways_of_a_link_slow_each_other() -> None:
    """nvbandwidth-pcie4-bidir: 26.0 GB/s one way, 18.6 GB/s with the other way busy: 0.715."""
    system = pair(share=0.5)
    there, back = moving("client", "host", 4000), moving("host", "client", 4000)
    assert passed(system, there)[0] == 4_000
    # The first begins alone and keeps its time; the second sees it and has half of the rate.
    end, log = passed(system, there, back)
    assert end == 8_000
    assert [span.end_ns for span in log] == [4_000, 8_000]
    assert passed(pair(), there, back)[0] == 4_000
    assert passed(pair(duplex="half"), there, back)[0] == 8_000


def test_the_published_share_gives_the_published_rate() -> None:
    """nvbandwidth-pcie4-bidir: 18.6 of 26.0 GB/s."""
    one = d.link("a", "b", 26.0, share=0.7154)
    both = transfer_ns(one, 10**9, both=True)
    assert 10**9 / both == pytest.approx(18.6, rel=0.001)


def test_a_relay_writes_and_reads_what_passes_through_it() -> None:
    """disdp-bf2-push-pull: 4 accesses a byte hold a relay of both ways at 20 % of its links."""
    relay = d.changed(d.cpu("relay", kind="nic"), memory=d.memory(bandwidth=20.48))
    system = d.system(
        {"host": d.cpu(), "relay": relay},
        d.link("client", "relay", 25.0), d.link("relay", "host", 25.0),
    )  # fmt: skip
    size, chunks = 2_500_000, 40
    one_way = [moving("client", "host", size)] * chunks
    other = [moving("host", "client", size)] * chunks
    time, _ = passed(system, *one_way, *other)
    # 4 x 25 GB/s are asked of 20.48 GB/s: each way reaches 5.12 GB/s, 20.5 % of its link.
    assert size * chunks / time / 25.0 == pytest.approx(0.205, rel=0.06)
    # A switch in the place of the relay has no memory to fill.
    switched = d.system(
        {"host": d.cpu()}, d.link("client", "switch", 25.0), d.link("switch", "host", 25.0)
    )
    assert passed(switched, *one_way, *other)[0] == (chunks + 1) * 100_000


def test_a_relay_leaves_less_bandwidth_to_programs() -> None:
    """disdp-bf2-push-pull: the traffic is the memory's, whoever else computes there."""
    relay = d.changed(d.cpu("relay", kind="nic", speed=100.0), memory=d.memory(bandwidth=1.0))
    system = d.system(
        {"host": d.cpu(), "relay": relay}, d.link("client", "relay"), d.link("relay", "host")
    )
    work = Work(scan_bytes=100_000)
    assert passed(system, running("relay", work))[0] == 100_000
    # The transfer takes the memory's whole bandwidth as well: the program has half of it.
    _, log = passed(system, moving("client", "host", 400_000), running("relay", work))
    assert next(span.end_ns for span in log if span.kind == "run") == 200_000


def test_a_small_read_has_one_channel_and_a_large_one_all() -> None:
    """gds-doc-cpuonly: bytes under way over latency are the rate (Little's law)."""
    profile = d.drive()
    # 1000 B over a channel of 1 GB/s; 4000 B over all four.
    assert media_alone_ns(profile, 1000) == media_alone_ns(profile, 4000) == 1_000
    assert media_ns(profile, 1000) == 250
    system = d.system(
        {"host": d.cpu(), "ssd": profile}, d.link("ssd", "host"), d.link("client", "host")
    )
    assert passed(system, reading("ssd", 1000))[0] == 1_000 + 10_000
    # Four at once have a channel each; a fifth waits for one.
    assert passed(system, *[reading("ssd", 1000)] * 4)[0] == 1_000 + 10_000
    assert passed(system, *[reading("ssd", 1000)] * 5)[0] == 2_000 + 10_000
    # Many keep all channels busy: 400 of them are 400 000 B at 4 GB/s.
    assert passed(system, *[reading("ssd", 1000)] * 400)[0] == 100_000 + 10_000


def test_one_reader_after_another_is_held_by_latency() -> None:
    """kvikio-raid0: one thread reads 13.1, sixteen 49.0 GB/s from the same drives."""
    system = d.system(
        {"host": d.cpu(), "ssd": d.drive()}, d.link("ssd", "host"), d.link("client", "host")
    )

    def thread(clockwork: Clockwork, log: list[Span]) -> Steps:
        for _ in range(10):
            yield from clockwork.read(log, "ssd", Use("read", 0, 0, 1000))

    # Each read is 1 us of its channel and 10 us of latency, which other threads use.
    assert passed(system, thread)[0] == 10 * 11_000
    assert passed(system, *[thread] * 4)[0] == 10 * 11_000


def test_requests_have_a_rate_of_their_own() -> None:
    """SmartSSD QD1 sweep: 8 KB reads reach a fraction of the bytes that large ones do."""
    slow = d.drive(iops=1_000_000)
    # One request a microsecond over four channels is 4 us on one of them, however small it is.
    assert media_alone_ns(slow, 10) == 4_000
    assert media_ns(slow, 40_000) == 40_000  # 40 requests; the bytes alone would take 10 us
    assert media_ns(d.drive(), 40_000) == 10_000


def test_an_engine_takes_its_start_for_every_job() -> None:
    """bf2-hwdeflate-text: 34.7 MB take 60 ms, of which 24 ms are the start of the job."""
    deflate = d.engine("compress-lz4", rate=0.96, start=23_900.0)
    profile = d.changed(d.cpu(), engine=(deflate,))
    asked = demand(profile, Work(scan_bytes=1000, lz4_bytes=34_700_000))
    assert [job.ns for job in asked.after] == [pytest.approx(60_000_000, rel=0.001)]
    # The core keeps what the engine cannot do, and starts the program.
    rest = core_ns(Work(scan_bytes=1000), profile, load_reference())
    assert asked.core_ns == 1_000 + rest
    assert demand(d.cpu(), Work(lz4_bytes=34_700_000)).after == ()


def test_an_engine_has_a_queue_of_its_own() -> None:
    """bf2-*-tat: one job runs at a time, beside cores and links."""

    def jobs(number: int) -> Process:
        one = d.engine("compress-lz4", rate=1.0, start=1.0, jobs=number)
        asked = demand(d.changed(d.cpu(), engine=(one,)), Work(lz4_bytes=1000))
        return lambda clockwork, log: clockwork.work_off(log, "host", asked.after, Use("run", 0))

    assert passed(pair(), *[jobs(1)] * 3)[0] == 3 * 2_000
    assert passed(pair(), *[jobs(2)] * 3)[0] == 2 * 2_000


def test_what_is_only_compressed_is_undone_by_an_engine_for_its_codec() -> None:
    """bf2-offload-decision-*: an engine for one codec says nothing of another."""
    profile = d.changed(d.cpu(), engine=(d.engine("decompress-lz4", rate=1.0, start=1.0),))
    work = Work(decode_bytes=14_000_000)
    alone = demand(profile, work, packed=[Packed("zstd", 4_000, 14_000_000)])
    assert alone.before == ()
    helped = demand(profile, work, packed=[Packed("lz4", 4_000, 14_000_000)])
    assert [job.ns for job in helped.before] == [5_000]
    # 14 MB at the reference core's 1.4 GB/s are 10 ms; without them a start is left.
    assert (alone.core_ns, helped.core_ns) == (10_001_000, 1_000)
    assert helped.memory_ns == alone.memory_ns
    codec = d.engine("decompress-lz4", rate=1.0, on="core")
    on_core = demand(
        d.changed(d.cpu(), engine=(codec,)), work, packed=[Packed("lz4", 4_000, 14_000_000)]
    )
    assert (on_core.before, on_core.core_ns) == ((), 5_000)


def test_a_gpu_starts_a_queued_program_and_runs_it_on_all_cores() -> None:
    """launch-overhead-*: 2.5 us for a queued launch, not the start of a process."""
    gpu = d.changed(d.cpu("gpu", kind="gpu", cores=100), launch=d.launch(2.5))
    assert start_ns(gpu) == 2_500
    # 19 MB at 19 GB/s are 1 ms of one core, 10 us of a hundred, and 1.9 ms of 10 GB/s memory.
    asked = demand(gpu, Work(scan_bytes=19_000_000))
    assert (asked.core_ns, asked.memory_ns, asked.alone_ns) == (12_500, 1_900_000, 1_900_000)
    system = d.system(
        {"host": d.cpu(), "gpu": gpu}, d.link("gpu", "host"), d.link("client", "host")
    )
    # Two programs run one after the other.
    assert passed(system, *[running("gpu", Work(scan_bytes=19_000_000))] * 2)[0] == 3_800_000


def test_few_threads_cannot_ask_for_all_of_the_bandwidth() -> None:
    """h100pcie-stream-occupancy: 96 GB/s with 3648 threads, 189 with 7296, 1942 with 116736."""
    gpu = d.changed(
        d.cpu("gpu", kind="gpu", cores=114, speed=100.0),
        launch=d.launch(2.5, thread=26.3),
        memory=d.memory(bandwidth=1942.0),
    )
    size = 10**9
    for threads, measured in ((3648, 96.0), (7296, 189.0), (14592, 368.0), (29184, 702.0)):
        modelled = size / threads_ns(gpu, size, threads)
        assert modelled == pytest.approx(measured, rel=0.1)
    work = Work(scan_bytes=size)
    assert demand(gpu, work, rows=116_736).alone_ns == demand(gpu, work, rows=10**6).memory_ns
    assert demand(gpu, work, rows=3648).alone_ns == threads_ns(gpu, size, 3648)


def test_programs_share_the_memory_of_their_device() -> None:
    """dpbento-mem-scale: a few cores fill the memory's bandwidth, and more add nothing."""
    host = d.changed(d.cpu(cores=8, speed=1.0), memory=d.memory(bandwidth=19.0))
    system = d.system({"host": host}, d.link("client", "host"))
    work = Work(scan_bytes=19_000_000)  # 1 ms of a core, and 1 ms of the memory
    assert passed(system, running("host", work))[0] == pytest.approx(1_001_000, rel=0.001)
    # Each that begins finds more there already, and what has begun keeps its time.
    times = [span.end_ns for span in passed(system, *[running("host", work)] * 4)[1]]
    assert times == pytest.approx([1_001_000, 2_000_000, 3_000_000, 4_000_000], rel=0.002)


def test_an_overfull_memory_is_a_cliff() -> None:
    """v100-um-oversub: 822 GB/s up to 16 GB, 5 GB/s above, at 24 GB as at 49 GB."""
    gpu = d.changed(d.cpu("gpu", kind="gpu"), memory=d.memory(1000, 100.0, beyond=0.05))
    system = d.system(
        {"host": d.cpu(), "gpu": gpu}, d.link("gpu", "host"), d.link("client", "host")
    )

    def holding(nbytes: int) -> Process:
        def process(clockwork: Clockwork, log: list[Span]) -> Steps:
            room = clockwork.room("gpu")
            assert room is not None
            assert room.reserve(nbytes) is None
            yield from running("gpu", Work(scan_bytes=100_000))(clockwork, log)

        return process

    fits = passed(system, holding(1000))[0]
    assert fits < 10_000
    # 100 000 B at 0.05 GB/s, however little does not fit.
    assert passed(system, holding(1001))[0] == passed(system, holding(5000))[0] == 2_000_000


def test_pieces_wait_for_room_in_their_order() -> None:
    """v100-um-oversub: memory is bounded; where nothing can be fetched on demand, pieces wait."""
    clockwork = Clockwork(pair())
    room = Room("host", clockwork.env, capacity=100, beyond=False)
    assert room.reserve(80) is None
    large, small = room.reserve(60), room.reserve(10)
    assert large is not None
    assert small is not None  # it would fit, but others were first
    room.release(80)
    assert large.triggered
    assert small.triggered
    assert room.held == 70
    with pytest.raises(InputError, match=r"host has 100 B of memory; a piece of 101 B"):
        room.reserve(101)


def test_chunks_overlap_and_a_single_one_does_not() -> None:
    """kvikio-overlap-* and bf2-*-tat: a pipeline takes its slowest part; one job takes the sum."""
    system = d.system(
        {"host": d.cpu(), "ssd": d.drive(latency=0.0)},
        d.link("ssd", "host"),
        d.link("client", "host"),
    )

    def chunk(clockwork: Clockwork, log: list[Span]) -> Steps:
        yield from reading("ssd", 4000)(clockwork, log)
        yield from moving("ssd", "host", 4000)(clockwork, log)
        yield from clockwork.compute(log, "host", Use("run", 0), 2_000)

    assert passed(system, chunk)[0] == 1_000 + 4_000 + 2_000
    assert passed(system, *[chunk] * 10)[0] == 1_000 + 10 * 4_000 + 2_000
