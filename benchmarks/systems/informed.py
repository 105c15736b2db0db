"""What a placement costs at least, from counts: no simulated run of it takes less time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from msgspec.structs import replace

from wherry.devices.demand import Demand, demand
from wherry.plan.account import Account, added
from wherry.plan.cost import Costs
from wherry.plan.placement import Placement, Stage
from wherry.run.carrier import Count
from wherry.sim.recorded import Chain, Counts

_UNSURE: Final = "bandwidth "
"""Of memories: a use that has begun keeps for a while what others ask for by then."""
_MESSAGES_NS: Final = 1_000
"""What messages may take less than their estimated sizes say."""


class Informed(Costs, kw_only=True, dict=True):
    """Costs from what programs did, where `Costs` has estimates.

    Parameters
    ----------
    least : bool
        Take every chunk for the one with the least work and bytes, not for the mean.
    """

    counts: Counts
    least: bool = False

    def bound_ns(self, placement: Placement) -> int:
        """Give the least time of a placement: what is busiest, and all that cannot overlap it.

        Whatever a resource is busy with, the smallest chunk has to come to it first, and to leave.
        """
        ways = placement.ways
        parts = self.route(placement), self.chunks(ways), *self.gather(placement)
        whole, smallest = added(self.system, parts), self._smallest.chunks(ways)
        busy = {n: ns for n, ns in whole.busy.items() if not n.startswith(_UNSURE)}
        longest = max((ns + _beside(name, smallest) for name, ns in busy.items()), default=0)
        # Some device begins as soon as it has its message; when it has the rows of its joins is not
        # known to the byte.
        begin = 0 if any(self.query.builds) else min(whole.begins.values(), default=0)
        return whole.setup + begin + longest + whole.barrier - _MESSAGES_NS

    @cached_property
    def _smallest(self) -> Informed:
        query = self.query
        sizes = [self.counts.read_bytes(chunk) for chunk in range(len(query.chunks))]
        reading = replace(query.reading, media_bytes=min(sizes, default=0))
        small = replace(query, reading=reading)
        return Informed(small, self.system, self.cold, counts=self.counts, least=True)

    def asked(self, device: str, stage: Stage, parts: int, *, reads: bool = False) -> Demand:
        """Give what one of `parts` runs of a stage asks of a device."""
        key = (device, stage.first, stage.last, parts, reads)
        if key not in self._demands:
            self._demands[key] = self._of(device, self._runs(stage))
        return self._demands[key]

    def out_bytes(self, segment: int) -> int:
        """Give the bytes that come out of a segment for one chunk."""
        last = len(self.query.segments) - 1 if segment < 0 else segment
        made = [count.nbytes for count in self._runs(Stage(1, last, "", chunkwise=True))]
        return self._one(made)

    def _one(self, values: Sequence[int]) -> int:
        if not values:
            return 0
        return min(values) if self.least else sum(values) // len(values)

    def _runs(self, stage: Stage) -> Sequence[Count]:
        """Give the counts of a stage; of two ways of leaving rows the one with less work."""
        kinds = [segment.kind for segment in self.query.segments]
        merge = kinds.index("merge") if "merge" in kinds else None
        if stage.chunkwise:
            chain: Chain = ((stage.first, stage.last),)
            if stage.first > 1:
                chain = ((1, stage.first - 1), *chain)
            return self.counts.chunkwise(chain, unwritten=stage.last + 1 == merge)
        assert merge is not None
        chain = ((1, merge - 1), (merge, stage.last))
        if stage.first > merge:
            chain = ((1, merge - 1), (merge, stage.first - 1), (stage.first, stage.last))
        return [self.counts.gathered(chain, False, 1)]

    def _of(self, device: str, counts: Sequence[Count]) -> Demand:
        profile = self.system.devices[device]
        each = [demand(profile, c.work, rows=c.rows_in, packed=c.packed) for c in counts]
        first, one = each[0], self._one

        def of(part: Callable[[Demand], int]) -> int:
            return one([part(asked) for asked in each])

        return Demand(
            first.before,
            first.after,
            of(lambda asked: asked.core_ns),
            of(lambda asked: asked.memory_ns),
            of(lambda asked: asked.alone_ns),
            of(lambda asked: asked.beyond_ns),
        )


def _beside(name: str, whole: Account) -> int:
    """Give what any chunk that uses a resource spends before and after it, the least of all."""
    found = []
    for one in whole.ways:
        way = one.way
        if name not in way:
            continue
        rest = one.ns - way[name]
        if name in whole.rounds:
            # Several units may end at the same time.
            units, alone = whole.rounds[name]
            rest -= alone - alone // units
        if name.startswith("media "):
            rest -= way["alone"]
        # Between two uses of its own, others may use it.
        found.append(0 if name in one.again else max(0, rest))
    return min(found, default=0)
