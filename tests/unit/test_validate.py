"""`wherry validate`: predictions come from profiles, and further points need no new code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from wherry.base.errors import InputError, Refused
from wherry.cli import main
from wherry.validate.judge import Outcome, Refusal
from wherry.validate.point import KINDS, Point, read_points, shipped_points
from wherry.validate.question import bytes_of, count_of, question_of
from wherry.validate.report import Report, validate
from wherry.validate.units import UNITS, gb_per_s, in_unit, ns

DPBENTO = "dpBento: Benchmarking DPUs for Data Processing (Hu et al., 2025)"
COMPRESSION = "Takashima, BlueField-2 DPU hardware compression evaluation (repo, 2023)"
CARD_AND_HOST = "BlueField-2 (8x A72) + 2x Xeon E5-2630 v4 @2.2GHz host"
VITIS = "Vitis_Accel_Examples p2p_bandwidth README log"
BENCHES = "te42kyfo/gpu-benches (repo, NHR/FAU), measured data files"
FARM = "FarmGPU GDS report (gds-report.pages.dev/theory)"
FARM_NODE = "EPYC 9554, 4x L40S (PCIe 4.0 x16), 4x Solidigm D7-PS1010 Gen5 x4, ConnectX-7 400GbE"
GUIDE = 'NVIDIA GDS for NVMe deployment guide, "Test GDS"'
KVIKIO = "GPUDirect Storage Benchmark Results (public repo file)"
KVIKIO_NODE = "RTX PRO 6000 Blackwell Gen5 x16, 5x WD SN8100 Gen5 x4 RAID0"
ZARATAN = "Zaratan HDR InfiniBand latency study, perftest 2 B"
SKYHOOK = "Skyhook (Chakraborty et al.), final experiments"
NODES = "CloudLab m510 nodes (8-core Xeon D-1548, 10 GbE)"


def point(paper: str, hardware: str, workload: str, value: Any, unit: str, **extra: Any) -> Point:
    kind = extra.pop("kind", "prediction")
    parameters = extra.pop("parameters", {})
    return Point("p", paper, hardware, workload, kind, parameters, value, unit)


def only(asked: Point) -> Outcome | Refusal:
    (group,) = validate([asked]).groups
    (found,) = (*group.points, *group.refused)
    return found


def predicted(asked: Point) -> Any:
    found = only(asked)
    assert isinstance(found, Outcome), found
    return found.predicted


@pytest.fixture(scope="module")
def report() -> Report:
    return validate()


class TestFurtherPoints:
    """Points of known sources that the shipped file does not hold; expectations by hand."""

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            # 45.91 us + 32,768 / 2.362 ns = 59.783 us.
            (
                point(VITIS, "Samsung SmartSSD", "P2P read QD1", 0.5, "GB/s",
                      parameters={"buffer_KiB": 32}),
                0.54812,
            ),
            # 28.53 us + 2**24 / 1.04 ns = 16.1604 ms.
            (
                point(VITIS, "Samsung SmartSSD", "P2P write QD1", 16.0, "ms",
                      parameters={"buffer_MiB": 16}),
                16.1604,
            ),
            # A kB of gpu-benches is 1024 bytes: 35.91 us + 524,288 / 12.355 ns = 78.345 us.
            (
                point(BENCHES, "V100 PCIe Gen3 x16", "cudaMemcpy H2D", 7.0, "GB/s",
                      parameters={"size_kB": 512}),
                6.6920,
            ),
            # 13.26 s x 43.25 MB/s = 573.495 MB; / 1506.6 MB/s = 0.38066 s; and 0.206 s hot:
            # the middle of 0.38066 and 0.58666.
            (point(DPBENTO, "BlueField-3", "TPC-H Q1 cold", 0.44, "s"), 0.48366),
            # Bytes as stated: 100 MB / 1506.6 MB/s = 66.37 ms, below 0.206 s hot.
            (
                point(DPBENTO, "BlueField-3", "TPC-H Q1 cold", 0.2, "s",
                      parameters={"bytes_read_MB": 100}),
                0.23919,
            ),
            # Another device's bytes for BlueField-2: 27.31 s x 22.18 MB/s / 43.25 MB/s = 14.0055 s,
            # and half of 0.902 s.
            (point(DPBENTO, "BlueField-2", "TPC-H Q1 cold", 13.26, "s"), 14.4565),
            # 679 us + 65,536 / 0.0419 ns = 2,243.1 us.
            (
                point(DPBENTO, "BlueField-2", "fio storage-thr-read-rnd", 29.0, "MB/s",
                      parameters={"block_KiB": 64}),
                29.217,
            ),
            # 4.76 x 57.71 Mops/s a thread, and cores end at 16.
            (point(DPBENTO, "BlueField-3", "random reads 16 KB, 4 threads", 1, "Mops/s"), 1098.8),
            (point(DPBENTO, "BlueField-3", "random reads 16 KB, 32 threads", 1, "Mops/s"), 4395.2),
            # Beyond the cache: 0.12 x 57.71.
            (point(DPBENTO, "BlueField-2", "random reads 1 GB, 1 thread", 6.7, "Mops/s"), 6.9252),
            # 34.7 MB at 282 MB/s; 100 MB at 4 x 11.2 MB/s; 23.9 ms + 50 MB at 0.96 GB/s.
            (
                point(COMPRESSION, CARD_AND_HOST, "zstd 1 A72 core, COVID19 text", 0.1, "s",
                      parameters={"bytes_in": 34_700_000}),
                0.12305,
            ),
            (
                point(COMPRESSION, CARD_AND_HOST, "zlib compress, A72 cores", 2.0, "s",
                      parameters={"bytes_in": 100_000_000, "cores": 4}),
                2.23214,
            ),
            (
                point(COMPRESSION, CARD_AND_HOST, "HW deflate engine", 0.07, "s",
                      parameters={"bytes_in": 50_000_000}),
                0.075983,
            ),
            # Two links of 28.3 GB/s are less than 4 x 14.5 GB/s; two drives are less than those.
            (point(FARM, FARM_NODE, "local NVMe RAID0 -> 2 GPUs aggregate", 50.0, "GiB/s"), 52.713),
            (
                point(FARM, FARM_NODE, "local NVMe RAID0 -> 4 GPUs", 27.0, "GB/s",
                      parameters={"drives": 2}),
                29.0,
            ),
            # 63.3 us + 2**20 / 3.52 ns = 361.19 us for one thread.
            (
                point(GUIDE, "1 NVMe Gen3-class, 1 GPU", "gdsio READ, 1 threads x 1 MiB", 2.7,
                      "GiB/s", parameters={"threads": 1, "io_MiB": 1}),
                2.7037,
            ),
            # Two threads keep two of five drives busy; ten drives are bound by the GPU's link.
            (point(KVIKIO, KVIKIO_NODE, "kvikio read: 2 threads x 1 MB", 25.0, "GB/s"), 26.2),
            (
                point(KVIKIO, KVIKIO_NODE, "kvikio read: 16 threads x 1 MB", 49.0, "GB/s",
                      parameters={"drives": 10}),
                49.0,
            ),
            # 1237 MB / 49 GB/s = 25.245 ms, longer than computing; the last layer is there.
            (
                point(KVIKIO, KVIKIO_NODE, "pipelined read of layers", 60.3, "ms",
                      parameters={"layer_MB": 1237, "layers": 3, "compute_ms": 10.8}),
                61.2898,
            ),
            # 60 ms of computing hide 25 ms of reading; 10.8 ms do not: 2 x 25.245 + 10.8 over 32.4.
            (
                point(KVIKIO, KVIKIO_NODE, "overlap: 1237 MB layers, 60 ms compute", 1.0, "%",
                      parameters={"layers": 5}),
                0.0,
            ),
            (
                point(KVIKIO, KVIKIO_NODE, "overlap: 1237 MB layers", 85.0, "% of compute",
                      parameters={"compute_ms_per_layer": 10.8}),
                89.166,
            ),
            (point(ZARATAN, "HDR100", "ib_write_lat one-way, 5 hops", 2.2, "us"), 2.21),
            (point(ZARATAN, "HDR100", "ib_read_lat round trip, same leaf", 2.4, "us"), 2.42),
            # 71.7 / (4 x 50 GB/s), and 20.5 / (4 x 12.5 GB/s).
            (point("DisDP", "BlueField-3", "push+pull in Arm DRAM", 30.0, "% of link"), 35.85),
            (
                point("DisDP", "BlueField-2", "push+pull of 100 Gb/s each direction", 40.0, "%"),
                41.0,
            ),
            (
                point("HeydariGorji et al. 2021", "host + 12 CSDs", "sentiment analysis queries/s",
                      13_000, "queries/s", parameters={"csds": 12}),
                13_864.0,
            ),
            # 21 GB x (1 / 0.00789 GB/s) / 32 threads = 83.175 s, and 1.548 GB / 0.839 GB/s / 32.
            (
                point(SKYHOOK, NODES, "rpq: push-down, 1 % of the rows", 79.0, "s",
                      parameters={"nodes": 8, "threads": 32, "selectivity_pct": 1}),
                83.233,
            ),
            # 16 hardware threads decode for the client: 166.35 s, and 21 GB / 0.839 GB/s / 16.
            (
                point(SKYHOOK, NODES, "pq: the client reads, 1 % of the rows", 168.0, "s",
                      parameters={"nodes": 8}),
                167.914,
            ),
        ],
    )  # fmt: skip
    def test_is_predicted(self, asked: Point, expected: float) -> None:
        assert predicted(asked) == pytest.approx(expected, rel=2e-4)

    def test_bounds_of_what_may_overlap(self) -> None:
        found = only(point(DPBENTO, "BlueField-3", "TPC-H Q1 cold", 0.44, "s"))
        assert isinstance(found, Outcome)
        assert found.bounds == pytest.approx((0.38066, 0.58666), rel=1e-4)
        assert found.error_pct == pytest.approx((0.48366 / 0.44 - 1) * 100, abs=0.05)

    @pytest.mark.parametrize(("codec", "winner"), [("zlib", "offload"), ("zstd", "host")])
    def test_decisions(self, codec: str, winner: str) -> None:
        workload = (
            f"placement decision text file: host {codec} 1 core vs BF-2 HW deflate round trip"
        )
        asked = point(COMPRESSION, CARD_AND_HOST, workload, winner, "winner", kind="decision")
        found = only(asked)
        assert isinstance(found, Outcome)
        assert (found.predicted, found.verdict) == (winner, "right")

    def test_a_sweep_of_other_sizes(self) -> None:
        asked = point(
            BENCHES, "V100 16 GB", "unified-memory STREAM triad, working set below / above",
            [820.0, 815.0, 5.1], "GB/s", kind="sweep",
            parameters={"sizes_MB": [1536, 15_000, 20_000]},
        )  # fmt: skip
        found = only(asked)
        assert isinstance(found, Outcome)
        assert found.predicted == pytest.approx([801.8, 801.8, 5.0])
        assert found.shape == {
            "test": "cliff", "predicted_at": 2, "published_at": 2, "passed": True,
        }  # fmt: skip

    def test_a_sweep_whose_cliff_is_elsewhere(self) -> None:
        asked = point(
            BENCHES, "V100 16 GB", "unified-memory working set", [800.0, 5.0, 5.0], "GB/s",
            kind="sweep", parameters={"sizes_MB": [1536, 15_000, 20_000]},
        )  # fmt: skip
        found = only(asked)
        assert isinstance(found, Outcome)
        assert found.shape["passed"] is False

    def test_calibrations_of_the_file_are_known(self) -> None:
        hot = point(
            DPBENTO, "BlueField-3", "DuckDB ClickBench hot run", [[0.5]], "s", kind="calibration",
            parameters={"order": ["BF-3"], "queries": [43]},
        )  # fmt: skip
        asked = point(DPBENTO, "BlueField-3", "Q43 cold", 1.0, "s", parameters={"bytes_GB": 1.5066})
        assert "hot time of Q43" in reason(only(asked))
        (group,) = validate([hot, asked]).groups
        # 0.5 s hot, and 1.5066 GB at 1.5066 GB/s: the middle of 1 and 1.5 s.
        assert [found.predicted for found in group.points] == pytest.approx([1.25], rel=1e-3)


def reason(found: Outcome | Refusal) -> str:
    assert isinstance(found, Refusal), found
    return found.reason


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (point("A new paper", "BlueField-2", "anything", 1.0, "s"), "no family"),
            (point(VITIS, "Another drive", "P2P read", 1.0, "GB/s"), "no profile"),
            (point(VITIS, "Samsung SmartSSD", "P2P read QD1", 1.0, "GB/s"), "states no size"),
            (
                point(VITIS, "Samsung SmartSSD", "P2P read", 1.0, "%", parameters={"size_MB": 1}),
                "gives a rate",
            ),
            (point(DPBENTO, "OCTEON 10", "TPC-H Q1 cold", 0.2, "s"), "no profile"),
            (point(DPBENTO, "BlueField-2", "TPC-H Q99 cold", 0.2, "s"), "hot time"),
            (point(BENCHES, "A100-80", "resident threads", 9.0, "GB/s",
                   parameters={"threads": 5}), "thread_mb_per_s"),
            (point(BENCHES, "A100-80", "unified memory", 9.0, "GB/s",
                   parameters={"size_GB": 99}), "beyond_gb_per_s"),
            (point("VLDB 2016 (YourSQL)", "SSD", "TPC-H", 3.6, "x", kind="range"), "abstract"),
            (point("Vidur", "A100", "P95", 3.3, "%", kind="method"), "another simulator"),
            (point(VITIS, "SmartSSD", "P2P read", 3.3, "GB/s", kind="calibration"), "calibration"),
            (point(SKYHOOK, NODES, "rpq push-down, 1 % of the rows", 1.0, "s"), "nodes"),
            (point(ZARATAN, "HDR100", "ib_write_lat", 1.0, "us"), "hops"),
            (point(FARM, FARM_NODE, "1 GPU or 2?", "host", "winner", kind="decision"), "no model"),
        ],
    )  # fmt: skip
    def test_says_why(self, asked: Point, words: str) -> None:
        assert words in reason(only(asked))

    def test_an_element_that_set_a_figure_is_no_test(self) -> None:
        asked = point(
            BENCHES, "H100 PCIe", "read bandwidth vs resident threads", [96.0, 189.0, 368.0],
            "GB/s", kind="sweep", parameters={"threads": [3648, 7296, 14592]},
        )  # fmt: skip
        found = only(asked)
        assert isinstance(found, Outcome)
        assert found.errors_pct[0] is None
        assert found.error_pct == pytest.approx((2.88 / 189 + 15.77 / 368) / 2 * 100, abs=0.1)


_FITTED = {
    "t0_us": 1.0, "bw_GBps": 1.0, "storage_MBps": 1.0, "one_thread_Mops": 1.0, "host_s": 1.0,
    "offload_s": 9.0, "hot_octeon_s": 9.0, "t_copy_and_back_s": 9.0, "t_hw_deflate_s": 9.0,
    "p2p_MBps": 9.0, "mem_peak_Gbps": 9.0, "raid_GBps": 9.0, "gpu_link_GiBps": 9.0,
    "avg_latency_us": 9.0, "one_way_us": 9.0, "host_qps": 9.0, "csd_qps": 9.0, "unidir_GBps": 9.0,
    "nic_Gbps": 9.0, "device_mem_GB": 9.0, "line_rate_GBps": 9.0,
}  # fmt: skip


def other(value: Any) -> Any:
    """Give another value of the same shape."""
    if isinstance(value, list):
        return [other(item) for item in value]
    if isinstance(value, str):
        return "host" if value == "offload" else "offload"
    return value * 3 + 1


class TestNothingComesFromThePoint:
    def test_values_ids_and_fitted_figures_are_unread(self, report: Report) -> None:
        asked = [p for p in shipped_points() if p.kind != "calibration"]
        changed = [
            msgspec.structs.replace(
                p, id=f"other {place}", value=other(p.value), where="elsewhere",
                parameters={**_FITTED, **p.parameters},
            )
            for place, p in enumerate(asked)
        ]  # fmt: skip
        after = {point.id: point for group in validate(changed).groups for point in group.points}
        before = {point.id: point for group in report.groups for point in group.points}
        names = {p.id: f"other {place}" for place, p in enumerate(asked)}
        assert len(before) == len(after) > 100
        for name, outcome in before.items():
            assert after[names[name]].predicted == outcome.predicted, name
            assert after[names[name]].bounds == outcome.bounds, name

    def test_a_question_holds_no_answer(self) -> None:
        asked = question_of(
            point(VITIS, "SmartSSD", "P2P read", 1.5, "GB/s",
                  parameters={**_FITTED, "buffer_KiB": 8, "model_prediction": 2.0})
        )  # fmt: skip
        assert set(asked.given) == {"buffer_KiB", "hot_octeon_s"}
        assert not hasattr(asked, "value")
        assert not hasattr(asked, "id")

    def test_no_device_figure_is_shipped_with_a_point(self) -> None:
        found = [p.id for p in shipped_points() if set(p.parameters) & set(_FITTED)]
        assert found == []


class TestReport:
    def test_every_point_is_in_it_once(self, report: Report) -> None:
        names = [p.id for group in report.groups for p in (*group.points, *group.refused)]
        assert sorted(names) == sorted(p.id for p in shipped_points())

    def test_means_and_maxima(self, report: Report) -> None:
        for group in report.groups:
            errors = [abs(p.error_pct) for p in group.points if p.error_pct is not None]
            assert group.n == len(errors)
            if errors:
                assert group.mean_error_pct == pytest.approx(sum(errors) / len(errors))
                assert group.max_error_pct == max(errors)

    def test_goals_are_met(self, report: Report) -> None:
        assert [goal.goal for goal in report.goals if goal.met is not True] == []

    def test_skyhook_table(self, report: Report) -> None:
        (group,) = [group for group in report.groups if group.group == "Skyhook"]
        assert group.n == 10
        assert len(group.refused) == 2
        assert group.max_error_pct is not None
        assert group.max_error_pct <= 25
        decided = [p.verdict for p in group.points if p.kind == "decision"]
        assert decided == ["right"] * 6

    def test_calibrations_say_what_they_set(self, report: Report) -> None:
        calibrations = {p.id for p in shipped_points() if p.kind == "calibration"}
        refused = {r.id: r.reason for group in report.groups for r in group.refused}
        assert calibrations <= set(refused)
        assert all(refused[name].startswith("calibration: sets ") for name in calibrations)
        assert refused["skyhook-4n-pq-1"].endswith("the model gives 167.9 for 167.9 s")
        assert refused["launch-overhead-h200-graph"].endswith("the model gives 1.33 for 1.33 us")
        assert "the model gives" not in refused["dpbento-duckdb-cold"]


class TestFile:
    BASE: ClassVar[dict[str, Any]] = {
        "id": "a", "paper": VITIS, "hardware": "Samsung SmartSSD", "workload": "P2P read QD1",
        "kind": "prediction", "parameters": {"buffer_KiB": 8}, "value": 0.17, "unit": "GB/s",
    }  # fmt: skip

    @staticmethod
    def toml(*tables: dict[str, Any]) -> str:
        lines = []
        for table in tables:
            lines.append("[[point]]")
            for key, value in table.items():
                inline = isinstance(value, dict)
                items = (
                    ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) if inline else ""
                )
                lines.append(f"{key} = {{ {items} }}" if inline else f"{key} = {json.dumps(value)}")
        return "\n".join(lines)

    def read(self, folder: Path, text: str) -> tuple[Point, ...]:
        path = folder / "mine.toml"
        path.write_text(text)
        return read_points(path)

    def test_a_file(self, tmp_path: Path) -> None:
        (found,) = self.read(tmp_path, self.toml(self.BASE))
        assert (found.id, found.value) == ("a", 0.17)

    @pytest.mark.parametrize("field", ["paper", "hardware", "workload", "kind", "value", "unit"])
    def test_a_missing_field(self, tmp_path: Path, field: str) -> None:
        table = {key: value for key, value in self.BASE.items() if key != field}
        with pytest.raises(Refused, match=rf"mine\.toml: point 'a': field '{field}' is missing"):
            self.read(tmp_path, self.toml(table))

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("unit", "GBs", "field 'unit' cannot be 'GBs'; did you mean 'GB/s'?"),
            ("unit", "parsec", "possible: s, ms, us"),
            ("kind", "predicted", "did you mean 'prediction'?"),
            ("value", "much", "must be a number or a list of numbers, not 'much'"),
            ("value", [], "must be a number"),
            ("value", [1.0, "x"], "must be a number"),
            ("value", True, "must be a number"),
            ("parameters", "none", "must be a table, not 'none'"),
            ("hardware", "  ", "must be text"),
            ("paper", 7, "must be text, not 7"),
        ],
    )
    def test_a_wrong_field(self, tmp_path: Path, field: str, value: Any, words: str) -> None:
        with pytest.raises(Refused, match=re.escape(words)) as caught:
            self.read(tmp_path, self.toml({**self.BASE, field: value}))
        assert "mine.toml: point 'a': field" in str(caught.value)

    def test_all_problems_at_once(self, tmp_path: Path) -> None:
        wrong = {**self.BASE, "id": "b", "unit": "parsec"}
        missing = {key: value for key, value in self.BASE.items() if key != "value"}
        with pytest.raises(Refused) as caught:
            self.read(tmp_path, self.toml(wrong, missing))
        assert len(caught.value.reasons) == 2

    def test_an_id_twice(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="point 'a': the id is given twice"):
            self.read(tmp_path, self.toml(self.BASE, self.BASE))

    @pytest.mark.parametrize("text", ["[[point]\n", "a = 1\n", "", "point = 3"])
    def test_not_a_file_of_points(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(InputError, match=r"mine\.toml"):
            self.read(tmp_path, text)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent\.toml: cannot be read"):
            read_points(tmp_path / "absent.toml")


class TestParsing:
    @pytest.mark.parametrize(
        ("parameters", "workload", "expected"),
        [
            ({"buffer_KiB": 8}, "", [8192]),
            ({"size_kB": 8}, "", [8000]),
            ({"bytes": 8}, "", [8]),
            ({"sizes": ["8KB", "1 MiB"]}, "", [8000, 2**20]),
            ({"sizes_MB": [1, 2.5]}, "", [1_000_000, 2_500_000]),
            ({}, "reads of 16 KB in 8B words", [16_000]),
            ({"bytes_read_MB": 573.5}, "", [573_500_000]),
        ],
    )
    def test_sizes(self, parameters: dict[str, Any], workload: str, expected: list[int]) -> None:
        asked = question_of(point("p", "h", workload, 1.0, "s", parameters=parameters))
        assert bytes_of(asked) == expected

    @pytest.mark.parametrize("bad", ["much", -1, 0, True, "8 parsec", float("nan"), [None]])
    def test_what_is_no_size(self, bad: Any) -> None:
        asked = question_of(point("p", "h", "w", 1.0, "s", parameters={"size_kB": bad}))
        with pytest.raises(Refused, match="is not a size"):
            bytes_of(asked)

    @pytest.mark.parametrize("bad", [0, 1.5, "four", True, [1]])
    def test_what_is_no_count(self, bad: Any) -> None:
        asked = question_of(point("p", "h", "8 threads", 1.0, "s", parameters={"threads": bad}))
        with pytest.raises(Refused, match="must be a whole number"):
            count_of(asked, "threads", r"(\d+) threads")

    def test_units_agree(self) -> None:
        assert in_unit(ns(1_500_000), "ms") == 1.5
        assert in_unit(gb_per_s(UNITS["GiB/s"][1]), "GB/s") == 1.073741824
        with pytest.raises(Refused, match="is a rate"):
            in_unit(ns(1), "GB/s")


class TestCommand:
    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["validate", "--json"]) == 0
        first = capsys.readouterr().out
        groups = json.loads(first)["groups"]
        keys = {"group", "n", "mean_error_pct", "max_error_pct", "points", "refused"}
        assert all(set(group) == keys for group in groups)
        assert all(set(r) == {"id", "reason"} for group in groups for r in group["refused"])
        assert main(["validate", "--json"]) == 0
        assert capsys.readouterr().out == first

    def test_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["validate"]) == 0
        shown = capsys.readouterr().out
        assert "smartssd-p2p-read-1024k" in shown
        assert "+34.6 %" in shown
        assert all(p.id in shown for p in shipped_points())

    def test_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "mine.toml"
        path.write_text(TestFile.toml({**TestFile.BASE, "parameters": {"buffer_KiB": 32}}))
        assert main(["validate", "--points", str(path)]) == 0
        assert "0.5481" in capsys.readouterr().out

    def test_a_bad_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "mine.toml"
        path.write_text("[[point]]\nid = 'a'\n")
        assert main(["validate", "--points", str(path)]) == 2
        assert "point 'a': field 'paper' is missing" in capsys.readouterr().err

    def test_the_documentation_shows_what_is_printed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["validate", "--brief"]) == 0
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        page = Path(__file__).parents[2] / "docs" / "reference" / "validation.md"
        (shown,) = re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL)
        assert shown.splitlines() == printed, "write what `wherry validate --brief` prints there"

    def test_kinds_are_those_of_the_shipped_points(self) -> None:
        assert {p.kind for p in shipped_points()} <= set(KINDS)
