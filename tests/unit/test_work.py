import msgspec
import pytest

from wherry.base.errors import InputError
from wherry.devices.figures import Count, Figure
from wherry.devices.parts import Cache
from wherry.devices.profile import Device, Profile, Rates, load_profile
from wherry.devices.work import ReferenceCore, Work, core_ns, load_reference


def figure(value):
    return Figure(value, "measured: for a test")


REFERENCE = ReferenceCore(
    title="a round one",
    scan_gb_per_s=figure(10.0),
    filter_gterms_per_s=figure(20.0),
    arithmetic_gvalues_per_s=figure(5.0),
    string_mrows_per_s=figure(500.0),
    hash_mrows_per_s=figure(100.0),
    write_gb_per_s=figure(8.0),
    sort_msteps_per_s=figure(200.0),
    decode_gb_per_s=figure(2.0),
    lz4_gb_per_s=figure(1.0),
    zstd_gb_per_s=figure(0.5),
)


def device(**relative):
    rates = {name: figure(relative.get(name[9:], 1.0)) for name in Rates.__struct_fields__}
    return Profile(device=Device(name="d", kind="nic", title="d"), rates=Rates(**rates))


@pytest.mark.parametrize(
    ("family", "relative", "count", "ns"),
    [
        ("scan_bytes", "scan", 1000, 100),  # 1000 B at 10 B/ns
        ("filter_terms", "filter", 1000, 50),  # 20 a ns
        ("arithmetic_values", "arithmetic", 1000, 200),  # 5 a ns
        ("string_rows", "string", 1000, 2000),  # 500 M/s = 2 ns each
        ("hash_rows", "hash", 1000, 10_000),  # 100 M/s = 10 ns each
        ("write_bytes", "write", 1000, 125),  # 8 B/ns
        ("sort_steps", "sort", 1000, 5000),  # 200 M/s = 5 ns each
        ("decode_bytes", "decode", 1000, 500),  # 2 B/ns
        ("lz4_bytes", "compress", 1000, 1000),  # 1 B/ns
        ("zstd_bytes", "compress", 1000, 2000),  # 0.5 B/ns
    ],
)
def test_each_family_takes_its_own_rate(family, relative, count, ns):
    work = Work(**{family: count})
    assert core_ns(work, device(), REFERENCE) == ns
    assert core_ns(work, device(**{relative: 0.25}), REFERENCE) == 4 * ns


def test_families_add_up():
    work = Work(*[1000] * 10)
    assert core_ns(work, device(), REFERENCE) == 20_975


def test_a_table_that_fits_in_the_cache_is_hashed_at_the_cached_rate():
    """dpbento-mem-read-rnd: 16 KB 172.7, 1 GB 6.7 Mop/s on BlueField-2; a step, not a slope."""
    cache = Cache(Count(4096, "measured: for a test"), figure(1.0), figure(2.5))
    cached = msgspec.structs.replace(device(hash=0.5), cache=cache)
    fits, beyond = (Work(hash_rows=1000, state_bytes=size) for size in (4096, 4097))
    # 100 M/s x 2.5 is 4 ns a row, x 0.5 is 20 ns.
    assert core_ns(fits, cached, REFERENCE) == 4_000
    assert core_ns(beyond, cached, REFERENCE) == 20_000
    assert core_ns(fits, device(hash=0.5), REFERENCE) == 20_000
    # What fits alone no longer does beside what does not.
    assert core_ns(fits + beyond, cached, REFERENCE) == 40_000


def test_no_work_takes_no_time():
    assert core_ns(Work(), device(), REFERENCE) == 0


def test_a_half_is_rounded_up_and_only_once():
    # 5 B at 10 B/ns = 0.5 ns; 4 B at 8 B/ns = 0.5 ns; both together are 1 ns, not 2.
    assert core_ns(Work(scan_bytes=5), device(), REFERENCE) == 1
    assert core_ns(Work(scan_bytes=4), device(), REFERENCE) == 0
    assert core_ns(Work(scan_bytes=5, write_bytes=4), device(), REFERENCE) == 1


def test_the_decimal_figure_counts_not_its_binary_neighbour():
    # 10 GB/s x 0.03 = 0.3 B/ns exactly. The double nearest to 0.03 would give 37 ns more.
    slow = device(scan=0.03)
    assert core_ns(Work(scan_bytes=3 * 10**17), slow, REFERENCE) == 10**18


def test_shipped_figures_give_the_hand_computed_time_of_q6():
    # 168 MB / 19 + 30 M / 25 + 12 M / 25 ns on the reference core; the 10.3 ms measured is near.
    work = Work(scan_bytes=168_000_000, filter_terms=30_000_000, arithmetic_values=12_000_000)
    cpu = load_profile("sapphire-rapids")
    assert core_ns(work, cpu, load_reference()) == 8_842_105 + 1_200_000 + 480_000


def test_a_device_without_rates_is_named():
    with pytest.raises(InputError) as caught:
        core_ns(Work(scan_bytes=1), load_profile("plain-nvme-gen4"), REFERENCE)
    assert str(caught.value) == (
        "device_profiles/plain-nvme-gen4.toml: no table [rates], so no time can be modelled: "
        "a device of kind 'drive' runs no programs"
    )


def test_a_rate_that_is_absent_is_named_when_it_is_needed():
    smart = load_profile("smartssd")
    assert core_ns(Work(scan_bytes=19_000_000), smart, load_reference()) == 3_703_704
    with pytest.raises(InputError) as caught:
        core_ns(
            Work(scan_bytes=1, sort_steps=1, lz4_bytes=1, zstd_bytes=1), smart, load_reference()
        )
    assert str(caught.value) == (
        "device_profiles/smartssd.toml: no time can be modelled without [rates] "
        "relative_sort, relative_compress"
    )


def test_work_adds_field_by_field():
    a, b = Work(*range(1, 11)), Work(*range(10, 101, 10))
    assert msgspec.structs.astuple(a + b) == (*range(11, 111, 11), 0)
    states = Work(state_bytes=5) + Work(state_bytes=7)
    assert states == Work(state_bytes=7)
    assert Work() + a == a


def test_negative_work_is_refused():
    with pytest.raises(InputError, match="work cannot be negative, but hash_rows is -1"):
        Work(hash_rows=-1)


def test_the_reference_core_tells_where_its_rates_come_from():
    reference = load_reference()
    assert reference.scan_gb_per_s.value == 19.0
    assert reference.scan_gb_per_s.source.startswith("measured: one thread")
