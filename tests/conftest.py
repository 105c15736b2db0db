"""Two profiles for properties: the same examples in every run, or (`make soak`) ever new ones."""

import pytest
from hypothesis import HealthCheck, settings

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
