"""Other tenants: what the planner makes of their load is what a simulation of both says."""

import numpy as np
import pytest
from support.days import days

from wherry import col, load_system
from wherry.plan.place import place
from wherry.session import record
from wherry.sim.replay import replay_many
from wherry.trace.usage import used_ns

SYSTEM = load_system("dpu-csd-host")
TENANTS = 60


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    rows = days(tmp_path_factory.mktemp("rows"), files=2, rows=1_000_000)
    return record(rows.filter(col("day") < 100).agg(total=col("price").sum()))


def beside_tenants(counts, placement, share):
    """Give the mean time of a query that comes while others keep the drives' cores so busy."""
    near = place(counts.query, SYSTEM, pins={"near": "home", "partial": "home"}).chosen.placement
    alone = replay_many(SYSTEM, [(near, counts)])[0]
    interval = int(used_ns(alone.spans, SYSTEM)["cores csd0"] / share)
    tenants = [(near, counts)] * TENANTS
    arrivals = [n * interval for n in range(TENANTS)]
    times = []
    for place_in_line in (0.55, 0.68, 0.81):
        mine = int(TENANTS * place_in_line) * interval + interval // 3
        runs = replay_many(SYSTEM, [*tenants, (placement, counts)], arrivals=[*arrivals, mine])
        times.append(runs[-1].time.ns)
    return sum(times) / len(times)


def test_a_busy_drive_pushes_work_back_to_the_host_as_a_simulation_says(counts):
    query = counts.query
    sites = {
        site: place(query, SYSTEM, pins={"near": site, "partial": site}).chosen.placement
        for site in ("home", "host0")
    }
    taken = []
    for share in (0.05, 0.97):
        load = {"cores csd0": share, "cores csd1": share}
        predicted = {
            site: place(query, SYSTEM, pins={"near": site, "partial": site}, load=load)
            for site in sites
        }
        planned = min(sites, key=lambda site: predicted[site].chosen.cost.time)
        simulated = {site: beside_tenants(counts, p, share) for site, p in sites.items()}
        assert planned == min(simulated, key=simulated.get), simulated
        taken.append(planned)
    assert taken == ["home", "host0"]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_predicted_times_beside_tenants_that_come_at_random(counts, share):
    pins = {"near": "home", "partial": "home"}
    near = place(counts.query, SYSTEM, pins=pins).chosen.placement
    alone = used_ns(replay_many(SYSTEM, [(near, counts)])[0].spans, SYSTEM)
    interval = alone["cores csd0"] / share
    load = {f"cores {name}": share for name in ("csd0", "csd1")}
    load |= {f"media {name}": alone["media csd0"] / interval for name in ("csd0", "csd1")}
    predicted = place(counts.query, SYSTEM, pins=pins, load=load).chosen.cost.time.ns
    # Each is a tenant of the others; the first ones find too little company.
    gaps = np.random.default_rng(3).exponential(interval, 150)
    runs = replay_many(
        SYSTEM, [(near, counts)] * 150, arrivals=np.cumsum(gaps).astype(int).tolist()
    )
    simulated = np.mean([run.time.ns for run in runs[20:]])
    assert predicted == pytest.approx(simulated, rel=0.3)
