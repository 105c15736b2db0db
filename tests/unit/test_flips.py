"""Flip points: the decision is another one beyond them; and what other tenants leave."""

import pytest
from support.days import days
from support.runs import query_of

from wherry import InputError, col, load_system
from wherry.devices.altered import cores_times, loaded, with_cores, with_links
from wherry.plan.flips import decision, flips
from wherry.plan.place import Wish, choose, place

SYSTEM = load_system("dpu-csd-host")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return days(tmp_path_factory.mktemp("rows"))


def light(rows):
    return rows.filter(col("day") < 100).agg(total=col("price").sum())


def heavy(rows):
    sums = {f"sum{n}": (col("price") * (col("day") + n)).sum() for n in range(24)}
    return rows.agg(**sums)


@pytest.mark.parametrize("build", [light, heavy])
@pytest.mark.parametrize("cold", [False, True])
def test_beyond_a_flip_point_the_decision_is_another(rows, build, cold):
    asked, wish = query_of(build(rows)), Wish(cold=cold)
    choice = choose(asked, SYSTEM, wish)
    found = flips(asked, SYSTEM, choice, wish)
    assert found
    here = decision(asked, choice.chosen.placement)
    for flip in found:
        assert flip.decision == here != flip.beyond
        assert flip.at != flip.now
        numbers = frozenset(
            n for n, link in enumerate(SYSTEM.links) if "-".join(link.ends) in flip.of
        )
        for value, wanted in ((flip.still, here), (flip.at, flip.beyond)):
            if flip.figure == "cores":
                changed = with_cores(SYSTEM, frozenset(flip.of), value / flip.now)
                assert cores_times(changed.devices[flip.of[0]], 1.0) == value
            else:
                changed = with_links(SYSTEM, numbers, value / flip.now)
            assert decision(asked, choose(asked, changed, wish).chosen.placement) == wanted


def test_explain_tells_flip_points(rows):
    told = light(rows).explain(SYSTEM)
    assert {flip.figure for flip in told.flips} == {"bandwidth_gb_per_s", "cores"}
    for flip in told.flips:
        assert flip.line() in str(told)


def test_one_device_decides_nothing(rows):
    assert light(rows).explain().flips == ()


def test_a_load_leaves_a_share_of_what_there_is():
    busy = loaded(SYSTEM, {"csd0": 0.75, "link csd1->pcie0": 0.5, "bandwidth host0": 0.5})
    before, after = SYSTEM.devices["csd0"], busy.devices["csd0"]
    assert after.media.read_gb_per_s.value == before.media.read_gb_per_s.value / 4
    assert after.rates.relative_scan.value == pytest.approx(before.rates.relative_scan.value / 4)
    assert after.start.kernel_start_us.value == before.start.kernel_start_us.value * 4
    assert after.memory == before.memory
    assert busy.devices["csd1"] == SYSTEM.devices["csd1"]
    half = SYSTEM.devices["host0"].memory.bandwidth_gb_per_s.value / 2
    assert busy.devices["host0"].memory.bandwidth_gb_per_s.value == pytest.approx(half)
    changed = [a.ends for a, b in zip(SYSTEM.links, busy.links, strict=True) if a != b]
    assert changed == [("csd1", "pcie0")]


@pytest.mark.parametrize(
    "load",
    [{"csd0": 1.0}, {"csd0": -0.1}, {"csd9": 0.5}, {"cores csd9": 0.5}, {"link a->b": 0.5},
     {"csd0": True}, {"csd0": "half"}, {"window csd0": 0.5}],
    ids=str,
)  # fmt: skip
def test_loads_of_nothing_are_refused(rows, load):
    with pytest.raises(InputError):
        light(rows).explain(SYSTEM, load=load)


def test_a_busy_drive_gives_its_chunks_away(rows):
    asked = query_of(light(rows))
    assert place(asked, SYSTEM).chosen.placement.sites[1] == "home"
    drives = {"cores csd0": 0.95, "cores csd1": 0.95}
    assert place(asked, SYSTEM, load=drives).chosen.placement.sites[1] != "home"
    assert place(asked, SYSTEM).chosen.placement.sites[1] == "home"
    told = light(rows).explain(SYSTEM, load=drives)
    assert "cores csd0 is busy for 95% with others" in str(told)
