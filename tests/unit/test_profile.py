import msgspec
import pytest

from wherry.base.errors import InputError, Refused
from wherry.devices.coverage import coverage
from wherry.devices.profile import (
    OPERATOR_NAMES,
    TYPE_FAMILIES,
    Profile,
    check_profiles,
    load_profile,
    profile_names,
)
from wherry.devices.system import system_names
from wherry.devices.work import load_reference

GOOD = """
[device]
name = "tiny"
kind = "csd"
title = "A drive for tests"

[cores]
count = { value = 4, source = "paper: four" }
clock_ghz = { value = 1.5, source = "estimate: a middle, from 1 and 2" }

[rates]
relative_scan = { value = 0.5, source = "paper: half" }
relative_filter = { value = 0.5, source = "paper: half" }
relative_arithmetic = { value = 0.5, source = "paper: half" }
relative_string = { value = 0.5, source = "paper: half" }
relative_hash = { value = 0.5, source = "paper: half" }
relative_write = { value = 0.5, source = "paper: half" }
relative_sort = { value = 0.5, source = "paper: half" }
relative_decode = { value = 0.5, source = "paper: half" }
relative_compress = { value = 0.5, source = "paper: half" }

[memory]
capacity_bytes = { value = 1024, source = "datasheet: 1 KiB" }
bandwidth_gb_per_s = { value = 10, source = "measured: 10 GB/s" }

[media]
read_gb_per_s = { value = 3.0, source = "datasheet: 3 GB/s" }
channels = { value = 8, source = "datasheet: 8" }
latency_us = { value = 0, source = "measured: none" }
request_bytes_max = { value = 131072, source = "datasheet: 128 KiB" }

[start]
kernel_start_us = { value = 1.0, source = "measured: 1 us" }
hop_receive_us = { value = 1.0, source = "measured: 1 us" }
program_install_us = { value = 1.0, source = "measured: 1 us" }

[capabilities]
types = ["integer", "string"]
operators = ["scan", "filter"]
"""

DRIVE = """
[device]
name = "tiny"
kind = "drive"
title = "A plain drive"

[media]
read_gb_per_s = { value = 3.0, source = "datasheet: 3 GB/s" }
channels = { value = 8, source = "datasheet: 8" }
latency_us = { value = 80.0, source = "datasheet: 80 us" }
request_bytes_max = { value = 131072, source = "datasheet: 128 KiB" }
"""


@pytest.fixture
def written(tmp_path):
    """Gives a function that writes a profile named tiny, with replacements, and gives its path."""

    def write(text=GOOD, *replacements):
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return path

    return write


def reasons(path):
    with pytest.raises(Refused) as caught:
        load_profile(path)
    assert caught.value.exit_code == 2
    assert all(reason.startswith(f"{path}: ") for reason in caught.value.reasons)
    return [reason.removeprefix(f"{path}: ") for reason in caught.value.reasons]


def test_a_good_file_becomes_a_value(written):
    profile = load_profile(written())
    assert profile.device.kind == "csd"
    assert profile.cores.count.value == 4
    assert profile.cores.clock_ghz.source == "estimate: a middle, from 1 and 2"
    assert profile.memory.bandwidth_gb_per_s.value == 10.0
    assert profile.capabilities.operators == ("scan", "filter")
    assert profile.power is None
    assert hash(profile) == hash(load_profile(str(written())))
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile


def test_a_drive_needs_no_cores(written):
    profile = load_profile(written(DRIVE))
    assert (profile.cores, profile.rates, profile.memory) == (None, None, None)
    assert profile.media.channels.value == 8


COUNT = 'count = { value = 4, source = "paper: four" }'
CLOCK = 'clock_ghz = { value = 1.5, source = "estimate: a middle, from 1 and 2" }'
KINDS = "datasheet, paper, measured, estimate"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "clock_ghz",
            "clock_mhz",
            "no key 'clock_mhz' in [cores]; did you mean 'clock_ghz'? keys: count, clock_ghz",
        ),
        (
            "[media]",
            "[powr]\n[media]",
            (
                "no key 'powr'; did you mean 'power'? keys: device, cores, rates, memory, cache, "
                "media, start, launch, network, engine, path, capabilities, power, price"
            ),
        ),
        (COUNT, "", "key 'count' is missing in [cores]"),
        (
            COUNT,
            "count = 4",
            (
                "[cores] count must be { value = ..., source = '...' }, not 4: "
                "a figure carries its source"
            ),
        ),
        ("value = 4, ", "", "[cores] count has no value"),
        ("value = 4,", "value = '4',", "[cores] count must be a number, not '4'"),
        ("value = 4,", "value = true,", "[cores] count must be a number, not True"),
        ("value = 4,", "value = nan,", "[cores] count must be a number, not nan"),
        ("value = 4,", "value = 4.5,", "[cores] count must be a whole number, not 4.5"),
        ("value = 4,", "value = -4,", "[cores] count must not be negative, but is -4"),
        ("value = 4,", "value = 0,", "[cores] count must be greater than 0"),
        (
            'value = 4, source = "paper: four"',
            "value = 4",
            f"[cores] count has no source; begin it with one of: {KINDS}",
        ),
        (
            "paper: four",
            "hearsay: four",
            (
                f"source of [cores] count must be '<kind>: <text>', not 'hearsay: four'; "
                f"kinds: {KINDS}"
            ),
        ),
        (
            "paper: four",
            "paper:",
            f"source of [cores] count must be '<kind>: <text>', not 'paper:'; kinds: {KINDS}",
        ),
        (
            "a middle, from 1 and 2",
            "a middle",
            (
                "source of [cores] clock_ghz must say what the estimate is derived from "
                "('... from ...')"
            ),
        ),
        (
            "value = 4,",
            "unit = 'GHz', value = 4,",
            "no key 'unit' in [cores] count; keys: value, source",
        ),
        (
            'kind = "csd"',
            'kind = "csb"',
            (
                "[device] kind cannot be 'csb'; did you mean 'csd'? possible: nic, csd, "
                "drive, gpu, cpu"
            ),
        ),
        (
            '"string"]',
            '"sting"]',
            "[capabilities] types cannot be 'sting'; did you mean 'string'? possible: "
            + ", ".join(TYPE_FAMILIES),
        ),
        (
            '["scan", "filter"]',
            '"scan"',
            "[capabilities] operators must be a list, not 'scan'",
        ),
        ('"A drive for tests"', "7", "[device] title must be text, not 7"),
        ('name = "tiny"', 'name = "huge"', "[device] name is 'huge', but the file is tiny.toml"),
        (
            'relative_string = { value = 0.5, source = "paper: half" }',
            "",
            "[capabilities] types has 'string', which needs [rates] relative_string",
        ),
        ('kind = "csd"', 'kind = "gpu"', "table [media] makes no sense for a device of kind 'gpu'"),
    ],
)
def test_one_mistake_gives_one_clear_reason(written, old, new, reason):
    assert reasons(written(GOOD, (old, new))) == [reason]


def test_a_drive_of_fixed_functions_needs_no_cores(written):
    profile = load_profile(written(DRIVE, ('kind = "drive"', 'kind = "csd"')))
    assert not profile.runs_programs
    assert load_profile(written()).runs_programs


def test_what_a_device_cannot_be_asked_for_needs_no_rate(written):
    rate = 'relative_{} = {{ value = 0.5, source = "paper: half" }}'
    absent = [(rate.format(name), "") for name in ("sort", "hash", "decode", "compress")]
    assert load_profile(written(GOOD, *absent)).rates.relative_sort is None
    able = ('["scan", "filter"]', '["top_k", "join"]')
    assert reasons(written(GOOD, *absent, able)) == [
        "[capabilities] operators has 'top_k', which needs [rates] relative_sort",
        "[capabilities] operators has 'join', which needs [rates] relative_hash",
    ]


EXTRA = """
[[engine]]
name = "deflate"
runs_on = "engine"
input_gb_per_s = { value = 0.5, source = "measured: half" }
job_start_us = { value = 0, source = "datasheet: none" }
jobs = { value = 1, source = "datasheet: one" }

[[path]]
name = "inside"
bandwidth_gb_per_s = { value = 4.0, source = "measured: four" }
start_us = { value = 3.0, source = "measured: three" }
both_ways_share = { value = 0.7, source = "measured: less" }
"""


def test_engines_and_ways_are_read_and_counted(written):
    profile = load_profile(written(GOOD + EXTRA))
    assert [engine.name for engine in profile.engine] == ["deflate"]
    assert profile.path[0].both_ways_share.value == 0.7
    before = coverage(load_profile(written(GOOD)))
    assert before == {"datasheet": 4, "paper": 10, "measured": 5, "estimate": 1}
    assert coverage(profile) == {"datasheet": 6, "paper": 10, "measured": 9, "estimate": 1}
    assert reasons(written(GOOD + EXTRA, ("value = 0.7", "value = 1.7"), ("jobs =", "job ="))) == [
        (
            "no key 'job' in [[engine]] 1; did you mean 'jobs'? "
            "keys: name, runs_on, input_gb_per_s, job_start_us, jobs"
        ),
        "key 'jobs' is missing in [[engine]] 1",
        "[[path]] 1 both_ways_share is a share and must not exceed 1, but is 1.7",
    ]


def test_what_runs_programs_needs_all_that_their_time_follows_from(written):
    cores = '[cores]\ncount = { value = 4, source = "paper: four" }\n\n[media]'
    path = written(DRIVE, ('kind = "drive"', 'kind = "csd"'), ("[media]", cores))
    assert reasons(path) == [
        f"table [{table}] is missing: a device of kind 'csd' needs it"
        for table in ("rates", "start", "capabilities", "memory")
    ]


def test_a_table_may_not_be_a_number(written):
    text = "power = 3\n" + GOOD
    assert reasons(written(text)) == ["[power] must be a table, not 3"]


def test_all_mistakes_are_told_at_once(written):
    path = written(
        GOOD,
        ("clock_ghz", "clock_mhz"),
        ("value = 10,", "value = -10,"),
        ("datasheet: 1 KiB", "1 KiB"),
        ('kind = "csd"', 'kind = "gpu"'),
    )
    assert reasons(path) == [
        "no key 'clock_mhz' in [cores]; did you mean 'clock_ghz'? keys: count, clock_ghz",
        f"source of [memory] capacity_bytes must be '<kind>: <text>', not '1 KiB'; kinds: {KINDS}",
        "[memory] bandwidth_gb_per_s must not be negative, but is -10",
        "table [media] makes no sense for a device of kind 'gpu'",
    ]
    with pytest.raises(Refused, match=r"^tiny\.toml has 4 problems; "):
        load_profile(path)


def test_what_is_not_toml_is_said_with_its_line(written):
    path = written("[device\n")
    with pytest.raises(InputError, match=r"tiny\.toml: not TOML: .*line 1"):
        load_profile(path)


def test_what_is_not_text_is_said(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_bytes(b"[device]\n\xff")
    with pytest.raises(InputError, match=r"tiny\.toml: not UTF-8 text at byte 9$"):
        load_profile(path)


def test_an_absent_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot be read: No such file"):
        load_profile(tmp_path / "none.toml")


def test_an_unknown_name_lists_the_profiles():
    with pytest.raises(InputError) as caught:
        load_profile("blufield-3")
    assert str(caught.value) == (
        "no profile 'blufield-3'; did you mean 'bluefield-3'? profiles: "
        + ", ".join(profile_names())
    )


def test_all_shipped_profiles_are_good():
    assert {"bluefield-3", "newport", "plain-nvme-gen4", "sapphire-rapids"} <= {*profile_names()}
    assert check_profiles() == []


def test_a_name_is_a_device_or_a_system():
    assert not {*profile_names()} & {*system_names()}


@pytest.mark.parametrize("name", profile_names())
def test_what_runs_inside_a_device_is_no_faster_than_its_memory(name):
    """A slip of the decimal point in a rate shows where cores and memory are compared."""
    profile = load_profile(name)
    if not profile.runs_programs:
        return
    alone = profile.rates.relative_scan.value * load_reference().scan_gb_per_s.value
    all_cores = alone * profile.cores.count.value
    bandwidth, peak = profile.memory.bandwidth_gb_per_s, profile.memory.peak_gb_per_s
    assert alone <= bandwidth.value <= (bandwidth if peak is None else peak).value * 1.01
    assert all_cores >= 0.3 * bandwidth.value


def test_the_shipped_cpu_can_run_everything():
    capabilities = load_profile("sapphire-rapids").capabilities
    assert {*capabilities.operators} == {*OPERATOR_NAMES}
    assert {*capabilities.types} == {*TYPE_FAMILIES}
