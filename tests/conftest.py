"""One profile for every property: the same examples in every run, and no deadline."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "wherry",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("wherry")
