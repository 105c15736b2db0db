"""What a workload is: pipelines over the TPC-H tables, and how their answers are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
from msgspec import Struct

from wherry.devices.system import System
from wherry.pipeline import Pipeline

Tables = Mapping[str, Path]
"""The folder of each TPC-H table, as `wherry.benchmarks.tpch.generate` gives them."""


class Workload(Struct, frozen=True):
    """One thing that is run, compared and reported.

    Attributes
    ----------
    name, title : str
        What it is called on the command line, and in a sentence.
    pipelines : callable
        Give the pipelines over the tables.
    reference : callable
        Give DuckDB's answer to each of them.
    ordered : bool
        Whether the order of an answer's rows is part of it.
    near : callable
        Give the pins that bring the work to where the data lies on a system.
    placed_by : "planner" or "pins"
        Who places the run that is compared with the host alone.
    in_flight : int
        How many pipelines the client asks at a time.
    """

    name: str
    title: str
    pipelines: Callable[[Tables], list[Pipeline]]
    reference: Callable[[Tables], list[pa.Table]]
    ordered: bool
    near: Callable[[System], Mapping[str, str]]
    placed_by: Literal["planner", "pins"] = "planner"
    in_flight: int = 1


def on_drives(system: System) -> dict[str, str]:  # noqa: ARG001  the same on every system
    """Give the pins that filter and aggregate every chunk where it is stored."""
    return {"near": "home", "partial": "home"}


def through_nic(system: System) -> dict[str, str]:
    """Give the pins that route on the NIC, if there is one, and answer from the drives."""
    nics = (name for name, profile in system.devices.items() if profile.device.kind == "nic")
    return {"routing": next(nics, system.host), "near": "home", "respond": "home"}
