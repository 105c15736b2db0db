"""Every source of points that is known, one file for those that are predicted alike."""

from wherry.validate.families import (
    additive,
    compression,
    dpbento,
    gds,
    gpu,
    network,
    skyhook,
    smartssd,
    unmodelled,
)

FAMILIES = (
    compression.FAMILY,
    dpbento.HOST,
    dpbento.FAMILY,
    smartssd.TRANSFERS,
    smartssd.BENCHMARKS,
    smartssd.PIPELINE,
    gpu.BENCHES,
    gpu.NVBANDWIDTH,
    gds.FARM,
    gds.GUIDE,
    gds.KVIKIO,
    network.HOPS,
    network.RELAY,
    additive.FAMILY,
    skyhook.FAMILY,
    skyhook.VARIATIONS,
    *unmodelled.FAMILIES,
)
"""In the order of the report; the first that knows a point's paper has it."""
