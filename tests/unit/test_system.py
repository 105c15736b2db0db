from importlib.resources import files

import msgspec
import pytest

from wherry.base.errors import InputError, Refused
from wherry.devices.figures import Figure, problems_of
from wherry.devices.profile import OPERATOR_NAMES, Profile, profile_names
from wherry.devices.system import (
    Link,
    System,
    check_shipped,
    check_systems,
    home,
    lanes,
    load_system,
    nodes,
    route,
    shortest,
    system_names,
)

LINK = """
[[link]]
ends = [{ends}]
bandwidth_gb_per_s = {{ value = 3.0, source = "datasheet: 3 GB/s" }}
latency_us = {{ value = 1.0, source = "measured: 1 us" }}
duplex = "full"
"""

GOOD = (
    """
[system]
name = "pair"
title = "A drive and a host"
host = "host0"
client = "client"

[[device]]
name = "host0"
profile = "sapphire-rapids"

[[device]]
name = "csd0"
profile = "newport"

[[dataset]]
name = "orders*"
devices = ["csd0"]
layout = "files"
"""
    + LINK.format(ends='"client", "host0"')
    + LINK.format(ends='"host0", "csd0"')
)


@pytest.fixture
def written(tmp_path):
    def write(*replacements):
        text = GOOD
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "pair.toml"
        path.write_text(text)
        return path

    return write


def reasons(path):
    with pytest.raises(Refused) as caught:
        load_system(path)
    return [reason.removeprefix(f"{path}: ") for reason in caught.value.reasons]


def names(found):
    return [str(lane) for lane in found]


def test_a_good_file_becomes_a_system(written):
    system = load_system(written())
    assert (system.name, system.host, system.client) == ("pair", "host0", "client")
    assert system.devices["csd0"].device.name == "newport"
    assert nodes(system) == ("host0", "csd0", "client")
    assert msgspec.json.decode(msgspec.json.encode(system), type=System) == system


def test_a_profile_beside_the_system_is_found(written, tmp_path):
    path = written(('profile = "newport"', 'profile = "mine.toml"'))
    assert reasons(path)[0] == (
        f"[[device]] 'csd0': {tmp_path}/mine.toml: cannot be read: No such file or directory"
    )
    (tmp_path / "mine.toml").write_text(
        '[device]\nname = "mine"\nkind = "drive"\ntitle = "Mine"\n[media]\n'
        'read_gb_per_s = { value = 3.0, source = "datasheet: 3 GB/s" }\n'
        'channels = { value = 8, source = "datasheet: 8" }\n'
        'latency_us = { value = 80.0, source = "datasheet: 80 us" }\n'
        'request_bytes_max = { value = 131072, source = "datasheet: 128 KiB" }\n'
    )
    assert load_system(path).devices["csd0"].device.title == "Mine"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "pair"', 'name = "pear"', ["[system] name is 'pear', but the file is pair.toml"]),
        (
            'profile = "newport"',
            'profile = "newpot"',
            [
                "[[device]] 'csd0': no profile 'newpot'; did you mean 'newport'? profiles: "
                + ", ".join(profile_names())
            ],
        ),
        (
            'host = "host0"',
            'host = "hots0"',
            ["[system] host: no device 'hots0'; did you mean 'host0'? devices: host0, csd0"],
        ),
        (
            'host = "host0"',
            'host = "csd0"',
            ["[system] host 'csd0' is a csd; the host must be a cpu"],
        ),
        (
            '"host0", "csd0"',
            '"host0", "csd1"',
            [
                "[[link]] 2 ends: no node 'csd1'; did you mean 'csd0'? nodes: host0, csd0, client",
                "no link leads from client 'client' to: csd0",
            ],
        ),
        (
            '"host0", "csd0"',
            '"csd0", "csd0"',
            [
                "[[link]] 2 joins 'csd0' to itself",
                "no link leads from client 'client' to: csd0",
            ],
        ),
        (
            'devices = ["csd0"]',
            'devices = ["csd", "host0"]',
            [
                (
                    "[[dataset]] 'orders*' devices: no device 'csd'; did you mean 'csd0'? "
                    "devices: host0, csd0"
                ),
                (
                    "[[dataset]] 'orders*' devices: 'host0' is a cpu without [media]; "
                    "it stores nothing"
                ),
            ],
        ),
        (
            'devices = ["csd0"]',
            "devices = []",
            ["[[dataset]] 'orders*' devices is empty; a dataset lives somewhere"],
        ),
        (
            "[[dataset]]",
            '[[switch]]\nname = "csd0"\n[[dataset]]',
            [
                "name 'csd0' is given to 2 nodes; a node's name is its own",
                "[[dataset]] 'orders*' devices: no device 'csd0'; devices: host0",
            ],
        ),
        (
            "[[dataset]]",
            '[[switch]]\nname = "client"\n[[dataset]]',
            ["[system] client 'client' is a switch; a switch asks nothing"],
        ),
        (
            'layout = "files"',
            'layout = "rows"',
            ["[[dataset]] 1 layout cannot be 'rows'; possible: files"],
        ),
        (
            '"host0", "csd0"',
            '"host0"',
            ["[[link]] 2 ends must list 2 things, not 1"],
        ),
        (
            '"client", "host0"]\nbandwidth_gb_per_s',
            '"client", "host0"]\nbandwidth_gbit_per_s',
            [
                (
                    "no key 'bandwidth_gbit_per_s' in [[link]] 1; did you mean "
                    "'bandwidth_gb_per_s'? keys: ends, bandwidth_gb_per_s, latency_us, duplex, "
                    "both_ways_share, count"
                ),
                "key 'bandwidth_gb_per_s' is missing in [[link]] 1",
            ],
        ),
    ],
)
def test_each_mistake_gives_its_reasons(written, old, new, expected):
    assert reasons(written((old, new))) == expected


def test_a_system_without_links_is_asked_for_them(tmp_path):
    path = tmp_path / "pair.toml"
    path.write_text(GOOD[: GOOD.index("[[link]]")])
    assert reasons(path) == ["table [[link]] is missing"]


def test_a_host_that_cannot_run_everything_is_refused(written, tmp_path):
    text = (files("wherry.device_profiles") / "sapphire-rapids.toml").read_text()
    text = text.replace('"route", ', "").replace('name = "sapphire-rapids"', 'name = "lame"')
    (tmp_path / "lame.toml").write_text(text)
    path = written(('profile = "sapphire-rapids"', 'profile = "lame.toml"'))
    assert reasons(path) == ["[system] host 'host0' must run everything, but lacks: route"]


def test_mistakes_of_all_kinds_are_told_at_once(written):
    path = written(
        ('host = "host0"', 'host = "nobody"'),
        ('"host0", "csd0"', '"csd0", "csd0"'),
        ('devices = ["csd0"]', "devices = []"),
    )
    assert reasons(path) == [
        "[system] host: no device 'nobody'; devices: host0, csd0",
        "[[link]] 2 joins 'csd0' to itself",
        "no link leads from client 'client' to: csd0",
        "[[dataset]] 'orders*' devices is empty; a dataset lives somewhere",
    ]


def test_an_unknown_system_lists_the_systems():
    with pytest.raises(InputError) as caught:
        load_system("dpu-cds-host")
    assert str(caught.value) == (
        "no system 'dpu-cds-host'; did you mean 'dpu-csd-host'? systems: "
        + ", ".join(system_names())
    )


def test_all_shipped_files_are_good():
    assert {"dpu-csd-host", "rack-16", "this-machine"} <= {*system_names()}
    assert check_shipped() == []


def test_a_shipped_file_with_mistakes_is_reported(monkeypatch, written):
    folder = written(('host = "host0"', 'host = "csd0"')).parent
    (folder / "systems").mkdir()
    (folder / "pair.toml").rename(folder / "systems" / "pair.toml")
    monkeypatch.setattr("wherry.devices.system.profile_folder", lambda: folder)
    assert check_systems() == [
        "device_profiles/systems/pair.toml: [system] host 'csd0' is a csd; the host must be a cpu"
    ]


def test_a_drive_reaches_the_dpu_without_the_host():
    system = load_system("dpu-csd-host")
    assert names(lanes(system, "csd1", "client")) == [
        "csd1->pcie0", "pcie0->dpu0", "dpu0->client",
    ]  # fmt: skip
    assert names(lanes(system, "host0", "csd0")) == ["host0->pcie0", "pcie0->csd0"]
    assert [link.ends for link in route(system, "csd0", "dpu0")] == [
        ("csd0", "pcie0"), ("dpu0", "pcie0"),
    ]  # fmt: skip


def test_both_ways_use_the_same_links_in_opposite_directions():
    system = load_system("dpu-csd-host")
    there, back = lanes(system, "csd0", "host0"), lanes(system, "host0", "csd0")
    assert [lane.link for lane in there] == [lane.link for lane in reversed(back)]
    assert {*there}.isdisjoint(back)


def test_no_link_is_needed_to_stay():
    assert route(load_system("dpu-csd-host"), "csd0", "csd0") == ()


def link(a, b, latency):
    bandwidth = Figure(1.0, "measured: 1 GB/s")
    return Link((a, b), bandwidth, Figure(latency, "measured: for a test"), "full")


@pytest.mark.parametrize(
    ("links", "way"),
    [
        # fewer hops win over less latency
        ([link("a", "x", 0.1), link("x", "b", 0.1), link("a", "b", 9.0)], [2]),
        # equal hops: less latency wins, whatever the order of the file
        ([link("a", "x", 2), link("x", "b", 2), link("a", "y", 1), link("y", "b", 2)], [2, 3]),
        # equal in both: the first in the file wins
        ([link("a", "b", 1.0), link("a", "b", 1.0)], [0]),
        # 0.1 + 0.2 is 0.3, so these are equal too, and not decided by binary rounding
        (
            [link("a", "x", 0.1), link("x", "b", 0.2), link("a", "y", 0.3), link("y", "b", 0)],
            [0, 1],
        ),
    ],
)
def test_the_best_way_is_decided_by_hops_latency_and_order(links, way):
    assert [lane.link for lane in shortest(tuple(links), "a")["b"]] == way


def test_a_route_to_nowhere_is_refused():
    with pytest.raises(InputError) as caught:
        route(load_system("dpu-csd-host"), "csd0", "dpu1")
    assert str(caught.value) == (
        "no node 'dpu1'; did you mean 'dpu0'? nodes: host0, dpu0, csd0, csd1, pcie0, client"
    )


def test_files_are_dealt_to_the_drives_in_turn():
    system = load_system("dpu-csd-host")
    assert [home(system, "lineitem", i) for i in range(5)] == [
        "csd0", "csd1", "csd0", "csd1", "csd0",
    ]  # fmt: skip


def test_a_dataset_without_a_home_lists_the_patterns(written):
    system = load_system(written())
    assert home(system, "orders_2024", 7) == "csd0"
    with pytest.raises(InputError) as caught:
        home(system, "lineitem", 0)
    assert str(caught.value) == (
        "system 'pair' has no home for dataset 'lineitem'; known patterns: 'orders*'"
    )


def test_a_negative_file_index_is_refused():
    with pytest.raises(InputError, match="file index -1 of dataset 'x' is negative"):
        home(load_system("dpu-csd-host"), "x", -1)


def test_this_machine_is_one_measured_cpu():
    system = load_system("this-machine")
    profile = system.devices["cpu0"]
    assert system.host == system.client == "cpu0"
    assert home(system, "anything", 3) == "cpu0"
    assert route(system, "cpu0", system.client) == ()
    assert {*profile.capabilities.operators} == {*OPERATOR_NAMES}
    for figure in (profile.cores.count, profile.memory.capacity_bytes,
                   profile.memory.bandwidth_gb_per_s, profile.rates.relative_scan):  # fmt: skip
        assert figure.source.startswith("measured: ")
        assert figure.value > 0
    assert profile.rates.relative_hash.source.startswith("estimate: ")
    assert load_system("this-machine") is system


def present(tables):
    """Give tables as a file would: without what is absent."""
    if not isinstance(tables, dict):
        return tables
    return {key: present(value) for key, value in tables.items() if value is not None}


def test_this_machine_meets_the_rules_of_a_profile():
    built = msgspec.to_builtins(load_system("this-machine").devices["cpu0"])
    given = present(built)
    given = msgspec.json.decode(msgspec.json.encode(given))
    assert problems_of(given, Profile) == []


GROUP = """
[[group]]
count = 2

[[group.switch]]
name = "pcie{n}"

[[group.device]]
name = "ssd{n}-{m}"
profile = "plain-nvme-gen4"
count = 3
"""


@pytest.fixture
def grouped(tmp_path):
    """Gives a function that writes a system with a group of two, and gives its path."""

    def write(*replacements):
        text = GOOD.replace('devices = ["csd0"]', 'devices = ["ssd*"]') + GROUP
        for ends, more in (('"pcie{n}", "host0"', ""), ('"ssd{n}-{m}", "pcie{n}"', "count = 3")):
            text += LINK.format(ends=ends).replace("[[link]]", "[[group.link]]") + more
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "pair.toml"
        path.write_text(text)
        return path

    return write


def test_a_group_stands_for_as_many_entries(grouped):
    system = load_system(grouped())
    drives = [f"ssd{n}-{m}" for n in range(2) for m in range(3)]
    assert [*system.devices] == ["host0", "csd0", *drives]
    assert system.switches == ("pcie0", "pcie1")
    assert {system.devices[name].device.name for name in drives} == {"plain-nvme-gen4"}
    assert names(lanes(system, "ssd1-2", "host0")) == ["ssd1-2->pcie1", "pcie1->host0"]
    # Neighbours in the list lie in different members of the group.
    homes = [home(system, "orders", i) for i in range(7)]
    assert homes == ["ssd0-0", "ssd1-0", "ssd0-1", "ssd1-1", "ssd0-2", "ssd1-2", "ssd0-0"]


def test_a_group_is_what_a_longer_file_would_have_said(grouped, written):
    short = load_system(grouped())
    drive = '[[device]]\nname = "{}"\nprofile = "plain-nvme-gen4"\n'
    switches = ["pcie0", "pcie1"]
    drives = [f"ssd{n}-{m}" for n in range(2) for m in range(3)]
    text = "".join(f'[[switch]]\nname = "{name}"\n' for name in switches)
    text += "".join(drive.format(name) for name in drives)
    for n in range(2):
        text += LINK.format(ends=f'"pcie{n}", "host0"')
        text += "".join(LINK.format(ends=f'"ssd{n}-{m}", "pcie{n}"') for m in range(3))
    by_turn = ", ".join(f'"ssd{n}-{m}"' for m in range(3) for n in range(2))
    path = written(('devices = ["csd0"]', f"devices = [{by_turn}]"))
    path.write_text(path.read_text() + text)
    assert load_system(path) == short


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # what every member does wrong is said once
        (
            'ends = ["pcie{n}", "host0"]',
            'ends = ["pci{n}", "host0"]',
            [
                (
                    "[[group]] 1 [[link]] 1 ends: no node 'pci0'; did you mean 'pcie0'? nodes: "
                    "host0, csd0, ssd0-0, ssd0-1, ssd0-2, ssd1-0, ssd1-1, ssd1-2, pcie0, pcie1, "
                    "client"
                ),
                (
                    "no link leads from client 'client' to: ssd0-0, ssd0-1, ssd0-2, ssd1-0, "
                    "ssd1-1, ssd1-2, pcie0, pcie1"
                ),
            ],
        ),
        (
            'profile = "plain-nvme-gen4"',
            'profile = "newpot"',
            [
                "[[device]] 'ssd{n}-{m}': no profile 'newpot'; did you mean 'newport'? profiles: "
                + ", ".join(profile_names())
            ],
        ),
        ('name = "pcie{n}"', 'name = "pcie"', None),
        (
            "count = 2",
            "count = 0",
            ["[[group]] 1 count must be a whole number of 1 or more, not 0"],
        ),
        (
            "count = 2",
            "count = 2.5",
            ["[[group]] 1 count must be a whole number of 1 or more, not 2.5"],
        ),
        (
            "[[group]]\ncount = 2",
            "[[group]]",
            ["key 'count' is missing in [[group]] 1"],
        ),
        (
            "[[group.switch]]",
            "[[group.swich]]",
            [
                (
                    "no key 'swich' in [[group]] 1; did you mean 'switch'? "
                    "keys: count, device, switch, link"
                )
            ],
        ),
        (
            'devices = ["ssd*"]',
            'devices = ["hdd*"]',
            [
                (
                    "[[dataset]] 'orders*' devices: no device matches 'hdd*'; "
                    "devices: host0, csd0, ssd0-0, ssd0-1, ssd0-2, ssd1-0, ssd1-1, ssd1-2"
                )
            ],
        ),
    ],
)
def test_a_mistake_in_a_group_is_told_once(grouped, old, new, expected):
    found = reasons(grouped((old, new)))
    if expected is None:
        assert "name 'pcie' is given to 2 nodes; a node's name is its own" in found
    else:
        assert found == expected


def test_what_stands_for_nothing_is_said(written):
    path = written(('name = "csd0"', 'name = "csd{n}"'), ('"host0", "csd0"', '"host0", "csd{m}"'))
    assert [reason for reason in reasons(path) if "stands" in reason] == [
        (
            "[[device]] 2: nothing stands for {n} in 'csd{n}'; {n} is the member of a group, "
            "{m} the place in the count of an entry"
        ),
        (
            "[[link]] 2: nothing stands for {m} in 'csd{m}'; {n} is the member of a group, "
            "{m} the place in the count of an entry"
        ),
    ]


def test_a_rack_is_one_node_written_once():
    rack = load_system("rack-16")
    drives = [name for name, profile in rack.devices.items() if profile.media is not None]
    assert len(drives) == 16 * 36
    assert len(rack.links) == 2 + 16 * (2 + 36)
    assert sorted(rack.datasets[0].devices) == sorted(drives)
    assert [home(rack, "x", i) for i in (0, 1, 15, 16)] == ["csd0-0", "csd1-0", "csd15-0", "csd0-1"]
    for drive in drives:
        node = drive.removeprefix("csd").split("-")[0]
        assert names(lanes(rack, drive, "host0")) == [
            f"{drive}->pcie{node}", f"pcie{node}->dpu{node}", f"dpu{node}->tor", "tor->host0",
        ]  # fmt: skip


def test_a_search_that_stopped_early_finds_what_a_full_one_does():
    rack = load_system("rack-16")
    for start in ("csd7-3", "dpu2", "host0", "client"):
        full = shortest(rack.links, start)
        for target in ("csd0-0", "csd15-35", "dpu9", "host0", "client", start):
            assert lanes(rack, start, target) == full[target]


def test_a_share_is_at_most_one(written):
    path = written(
        ('duplex = "full"', 'duplex = "full"\nboth_ways_share = {value = 2, source = "paper: x"}')
    )
    assert reasons(path) == [
        f"[[link]] {n} both_ways_share is a share and must not exceed 1, but is 2" for n in (1, 2)
    ]
