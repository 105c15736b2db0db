"""Two profiles for properties: the same examples in every run, or (`make soak`) ever new ones."""

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
