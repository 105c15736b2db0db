"""What an agent keeps for a tenant besides its queries: plans, rows of joins, sources, memory.

All of it is bounded; what goes is sent again by whoever needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final, overload

import pyarrow as pa

from wherry.data.fragments import FragmentSource
from wherry.data.segment import SegmentPool
from wherry.data.source import Source
from wherry.ir.build import Build, received
from wherry.plan.query import Plan
from wherry.render.join_table import table_of
from wherry.run.installed import Installed, installed

PLANS_MAX: Final = 256
SOURCES_MAX: Final = 64
BUILD_BYTES_MAX: Final = 1 << 30


class Belongings(Sequence[Source]):
    """What is kept for one tenant; as a sequence, its sources.

    Attributes
    ----------
    pool : SegmentPool
        Its rows: no region holds those of two tenants.
    plans, builds : dict
        By digest, for the workers of its queries.
    """

    def __init__(self, pool: SegmentPool) -> None:
        self.pool = pool
        self.plans: dict[bytes, Installed] = {}
        self.builds: dict[bytes, Build] = {}
        self._sources: dict[tuple[str, bytes], FragmentSource] = {}
        self._lock = threading.Lock()

    def add_plan(self, body: bytes) -> None:
        """Keep a plan by the digest of its bytes."""
        found = installed(body)
        with self._lock:
            self.plans[found.digest] = found
            while len(self.plans) > PLANS_MAX:
                del self.plans[next(iter(self.plans))]

    def add_build(self, body: bytes) -> None:
        """Keep the rows of a join by their digest, and make the table of their keys."""
        build = received(pa.py_buffer(body))
        table_of(build)
        with self._lock:
            self.builds[build.digest] = build
            while len(self.builds) > 1 and self._build_bytes() > BUILD_BYTES_MAX:
                del self.builds[next(iter(self.builds))]

    def add_source(self, source: FragmentSource) -> None:
        """Keep a source by its name and what it holds."""
        with self._lock:
            self._sources.pop((source.name, source.fingerprint), None)
            self._sources[source.name, source.fingerprint] = source
            while len(self._sources) > SOURCES_MAX:
                del self._sources[next(iter(self._sources))]

    def knows(self, plan: Plan) -> bool:
        """Tell whether the source that a plan reads is here."""
        return (plan.dataset, plan.fingerprint) in self._sources

    def _build_bytes(self) -> int:
        return sum(build.known.table_bytes for build in self.builds.values())

    def __iter__(self) -> Iterator[Source]:
        return iter(list(self._sources.values()))

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Source]: ...
    def __getitem__(self, index: int | slice) -> Source | Sequence[Source]:
        return list(self._sources.values())[index]
