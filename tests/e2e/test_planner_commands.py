"""What the planner is asked on the command line: analysis, objectives, load, calibration."""

import json

import pytest

from wherry import load_system
from wherry.benchmarks.calibration.profile import write_profile
from wherry.benchmarks.calibration.rates import Rate, pinned
from wherry.benchmarks.calibration.starts import starts
from wherry.cli import calibrate
from wherry.devices.profile import load_profile
from wherry.devices.work import load_reference

NAMES = (
    "scan_gb_per_s", "filter_gterms_per_s", "arithmetic_gvalues_per_s", "string_mrows_per_s",
    "hash_mrows_per_s", "write_gb_per_s", "sort_msteps_per_s", "decode_gb_per_s", "lz4_gb_per_s",
    "zstd_gb_per_s",
)  # fmt: skip


@pytest.fixture
def small(small_data):
    """The options for q6 over small tables."""
    return ("--data", small_data, "--sf", "0.001")


@pytest.mark.parametrize("system", ["rack-16", "dpu-csd-host", "this-machine"])
def test_explain_shows_predicted_against_actual(wherry, small, system):
    asked = ("explain", "q6", *small, "--system", system, "--analyze")
    said = wherry(*asked)
    assert said.code == 0, said.err
    origin = "measured" if system == "this-machine" else "modelled"
    assert f"predicted (modelled) against actual ({origin})" in said.out
    found = json.loads(wherry(*asked, "--json").out)["analysis"]
    assert found["origin"] == origin
    kinds = {term["kind"] for term in found["terms"]}
    assert {"setup", "busy", "fill", "barrier", "total", "rows"} <= kinds
    assert ("link" in kinds) == (system != "this-machine")


def test_objective_and_load_reach_the_planner(wherry, small):
    asked = ("explain", "q6", *small, "--system", "dpu-csd-host")
    told = json.loads(wherry(*asked, "--load", "csd0=0.99,csd1=0.99", "--json").out)
    assert told["load"] == {"csd0": 0.99, "csd1": 0.99}
    assert told["objective"] == {"time": 1.0}
    said = wherry(*asked, "--objective", "energy")
    assert said.code == 2
    assert "energy cannot be the objective" in said.err
    assert "busy_watts" in said.err
    for wrong in (("--objective", "speed"), ("--objective", "time=x"), ("--load", "csd0"),
                  ("--load", "csd0=2")):  # fmt: skip
        assert wherry(*asked, *wrong).code == 2


def measured(factor=1.0):
    """Give the reference rates times a factor, as if they were measured, and real start-ups."""
    reference = load_reference()
    values = {name: getattr(reference, name).value * factor for name in NAMES}
    values |= {"scan_cached_gb_per_s": 60.0, "hash_cached_mrows_per_s": 700.0}
    return [Rate(name, value, "for a test") for name, value in values.items()]


def test_calibrate_writes_a_profile_that_is_accepted(wherry, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "MEASURES", {"all": lambda: measured(0.5)})
    path = tmp_path / "my-host.toml"
    said = wherry("calibrate", "--json", "--write", str(path))
    assert said.code == 0, said.err
    rates = {rate["name"]: rate for rate in json.loads(said.out)["rates"]}
    assert {*NAMES, "kernel_start_us", "hop_receive_us", "program_install_us"} <= set(rates)
    assert all(rates[name]["relative"] == pytest.approx(0.5) for name in NAMES)
    assert wherry("profiles", "check", str(path)).code == 0
    profile = load_profile(path)
    assert profile.device.kind == "cpu"
    assert profile.rates.relative_sort.value == 0.5
    assert profile.rates.relative_hash.source.startswith("measured: ")
    assert profile.start.program_install_us.value > profile.start.hop_receive_us.value > 0
    again = wherry("calibrate", "--write", str(path))
    assert again.code == 2
    assert "--overwrite" in again.err
    assert wherry("calibrate", "--overwrite").code == 2


def test_start_up_times_are_measured_on_one_core():
    with pinned() as core:
        found = {rate.name: rate.value for rate in starts()}
    assert core >= 0
    # Compiling takes longer than starting what is compiled, and that longer than a message.
    assert found["program_install_us"] > found["kernel_start_us"] > found["hop_receive_us"] > 0


def test_a_calibrated_profile_is_a_host(tmp_path):
    rates = {rate.name: rate for rate in measured(2.0)}
    with pinned():
        rates |= {rate.name: rate for rate in starts()}
    write_profile(tmp_path / "mine.toml", rates)
    (tmp_path / "box.toml").write_text(
        '[system]\nname = "box"\ntitle = "A box"\nhost = "host0"\nclient = "host0"\n'
        '[[device]]\nname = "host0"\nprofile = "mine.toml"\n'
        '[[device]]\nname = "drive0"\nprofile = "plain-nvme-gen4"\n'
        '[[link]]\nends = ["host0", "drive0"]\nduplex = "full"\n'
        'bandwidth_gb_per_s = { value = 7.0, source = "measured: for a test" }\n'
        'latency_us = { value = 1.0, source = "measured: for a test" }\n'
        '[[dataset]]\nname = "*"\ndevices = ["drive0"]\nlayout = "files"\n'
    )
    system = load_system(tmp_path / "box.toml")
    assert system.devices["host0"].rates.relative_scan.value == 2.0
