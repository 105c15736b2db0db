"""Every mechanism against arithmetic done by hand."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import msgspec
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from wherry.base.errors import Refused
from wherry.devices.charge import path_ns
from wherry.devices.figures import Figure
from wherry.devices.mechanisms import (
    FRAMED,
    crew_ns,
    exact,
    fits_cache,
    gbit,
    in_flight,
    job_ns,
    launched_ns,
    occupied,
    on_cores,
    over_ns,
    overlapped_ns,
    path_rate,
    rate_of,
    relay_link,
    relayed,
    serial_ns,
    slowest,
    streamed,
    together,
)
from wherry.devices.parts import Engine, Path
from wherry.devices.profile import load_profile


def figure(value: float) -> Figure:
    return Figure(value, "measured: a test")


def engine(rate: float, start: float, jobs: int) -> Engine:
    table = {
        "name": "e",
        "runs_on": "engine",
        "input_gb_per_s": {"value": rate, "source": "measured: a test"},
        "job_start_us": {"value": start, "source": "measured: a test"},
        "jobs": {"value": jobs, "source": "measured: a test"},
    }
    return msgspec.convert(table, Engine)


class TestTransfers:
    def test_start_and_bytes_over_rate(self) -> None:
        # 10 us and 1 MB over 2 GB/s: 10,000 + 500,000 ns.
        assert path_ns(Path("p", figure(2.0), figure(10.0)), 1_000_000) == 510_000

    def test_rounds_half_up(self) -> None:
        assert over_ns(1, Fraction(2)) == 1
        assert over_ns(1, Fraction(3)) == 0

    def test_both_ways_busy(self) -> None:
        path = Path("p", figure(26.0), figure(0.0), figure(0.5))
        assert float(path_rate(path, other_way_busy=True)) == pytest.approx(13.0)
        assert float(path_rate(path)) == pytest.approx(26.0)

    def test_both_ways_are_refused_without_the_share(self) -> None:
        with pytest.raises(Refused, match="both_ways_share"):
            path_rate(Path("p", figure(1.0), figure(0.0)), other_way_busy=True)

    def test_what_takes_no_time_has_a_rate(self) -> None:
        assert rate_of(3, 0) == 3

    def test_an_ethernet_line_less_its_frames(self) -> None:
        assert gbit(figure(400.0)) == 50
        assert float(50 * FRAMED) == pytest.approx(47.07, abs=0.01)


class TestCompositions:
    def test_engine_jobs_share_the_engine(self) -> None:
        # 1 GB over 1 GB/s after 24 ms; eight jobs on two engines' worth halve the second part.
        assert job_ns(engine(1.0, 24_000.0, 2), 10**9) == 1_024_000_000
        assert job_ns(engine(1.0, 24_000.0, 2), 10**9, jobs=8) == 524_000_000

    def test_serial_and_overlapped(self) -> None:
        stages = [3, 5, 2]
        assert serial_ns(stages) == 10
        bounds = overlapped_ns(stages)
        assert (bounds.least, bounds.most, bounds.middle) == (5, 10, 7)

    def test_shared_and_separate_rates(self) -> None:
        assert slowest([Fraction(3), Fraction(2)]) == 2
        assert together([Fraction(3), Fraction(2)]) == 5
        assert in_flight(4, 1000, 500) == 8
        assert on_cores(Fraction(10), 8, 4) == 40
        assert on_cores(Fraction(10), 3, 4) == 30


class TestMemory:
    def test_a_set_falls_from_the_cache_to_memory_to_what_is_beyond(self) -> None:
        a100 = load_profile("a100-80")
        assert a100.cache is not None
        assert a100.rates is not None
        memory = Fraction(1769)
        cached = a100.cache.core_bytes.value * 108
        gain = exact(a100.cache.relative_scan) / exact(a100.rates.relative_scan)
        assert float(streamed(a100, cached)) == pytest.approx(float(memory * gain))
        assert float(streamed(a100, cached + 108)) == pytest.approx(1769.0)
        with pytest.raises(Refused, match="beyond_gb_per_s"):
            streamed(a100, 80_000_000_001)

    def test_beyond_the_memory_is_a_cliff(self) -> None:
        v100 = load_profile("v100")
        assert float(streamed(v100, 16_000_000_000)) == pytest.approx(801.8)
        assert float(streamed(v100, 16_000_000_001)) == pytest.approx(5.0)

    def test_the_cache_is_a_step(self) -> None:
        card = load_profile("bluefield-2")
        assert fits_cache(card, 524_288)
        assert not fits_cache(card, 524_289)
        assert not fits_cache(load_profile("plain-nvme-gen4"), 1)

    def test_threads_before_bandwidth(self) -> None:
        h100 = load_profile("h100-pcie")
        assert float(occupied(h100, 10_000)) == pytest.approx(263.0)
        assert float(occupied(h100, 1_000_000)) == pytest.approx(1942.0)
        with pytest.raises(Refused, match="thread_mb_per_s"):
            occupied(load_profile("v100"), 1)

    def test_a_launch_and_its_bytes(self) -> None:
        a100 = load_profile("a100-80")
        # 2.7 us, and 1.769 GB from memory in 1 ms.
        assert launched_ns(a100, 1_769_000_000) == 1_002_700
        assert launched_ns(a100, 1_769_000_000, graph=True) == 1_001_440
        with pytest.raises(Refused, match="stream_us"):
            launched_ns(load_profile("v100"), 1)

    def test_a_relay_passes_the_memory_four_times(self) -> None:
        card = load_profile("bluefield-2")
        # 25 GB/s of line: 100 GB/s of memory wanted, 20.5 usable, 25.6 at its peak.
        assert relayed(card, Fraction(25)) == Fraction("0.205")
        assert relayed(card, Fraction(25), at_peak=True) == Fraction("0.256")
        assert relayed(card, Fraction(1)) == 1
        assert relay_link(card, Fraction(25)) == Fraction("0.625")
        assert relay_link(load_profile("connectx-7-400"), Fraction(25)) is None


class TestCrew:
    def test_workers_take_turns_alone_or_share_a_link(self) -> None:
        # One worker: 1 s a GB decoding, 0.1 s a GB sending; 4 workers: a quarter of that each.
        decode, link = Fraction(1), Fraction(10)
        assert crew_ns(10**9, 1, [decode], [link]) == 1_100_000_000
        assert crew_ns(10**9, 4, [decode], [link]) == 275_000_000
        assert crew_ns(10**9, 40, [decode], [link]) == 100_000_000

    @pytest.mark.parametrize("workers", [1, 4, 8, 11, 16, 64])
    def test_is_what_a_queue_for_the_link_gives(self, workers: int) -> None:
        """2,000 pieces through workers that decode 10 ns a byte and share a link of 1 GB/s."""
        env, piece, pieces = simpy.Environment(), 1000, 2000
        link, left = simpy.Resource(env), iter(range(pieces))

        def worker() -> Iterator[simpy.Event]:
            for _ in left:
                yield env.timeout(10 * piece)
                with link.request() as turn:
                    yield turn
                    yield env.timeout(piece)

        env.run(env.all_of([env.process(worker()) for _ in range(workers)]))
        modelled = crew_ns(piece * pieces, workers, [Fraction(1, 10)], [Fraction(1)])
        assert modelled == pytest.approx(int(env.now), rel=0.02)

    @given(st.integers(1, 64), st.integers(1, 64))
    def test_more_workers_are_never_slower(self, few: int, more: int) -> None:
        rates = ([Fraction(3, 7)], [Fraction(5)])
        low, high = sorted((few, more))
        assert crew_ns(10**10, high, *rates) <= crew_ns(10**10, low, *rates)
