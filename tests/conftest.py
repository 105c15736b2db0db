"""Two profiles for properties: the same examples in every run, or (`make soak`) ever new ones.

Tests marked `gpu` are skipped where there is no CUDA card; with REQUIRE_GPU=1 they fail there.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from wherry.devices.gpu_paths import gpu_paths

settings.register_profile(
    "wherry",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "soak", settings.get_profile("wherry"), derandomize=False, max_examples=10_000
)
settings.load_profile("wherry")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long tests to `make soak`."""
    if config.getoption("--hypothesis-profile") != "soak":
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    on_cards = [item for item in items if item.get_closest_marker("gpu")]
    if on_cards and os.environ.get("REQUIRE_GPU") != "1":
        found = gpu_paths()["pinned"]
        if not found.present:
            skipped = pytest.mark.skip(reason=f"no CUDA card: {found.detail}")
            for item in on_cards:
                item.add_marker(skipped)
