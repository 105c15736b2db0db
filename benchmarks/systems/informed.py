"""What a placement costs at least, from counts: no simulated run of it takes less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from wherry.devices.demand import Demand, demand
from wherry.plan.account import Account, added
from wherry.plan.cost import Costs
from wherry.plan.placement import Placement, Stage
from wherry.sim.recorded import Chain, Count, Counts

_UNSURE: Final = ("bandwidth ",)
"""Resources that can be given for a moment what another use of them still has."""
_SLACK: Final = Fraction(995, 1000)
"""Chunks are taken as equal; the devices that hold the smaller ones end so much earlier."""


@dataclass
class Informed(Costs):
    """Costs from what programs did, where `Costs` has estimates."""

    counts: Counts = field(kw_only=True)

    def bound_ns(self, placement: Placement) -> int:
        """Give the least time of a placement: what is busiest, and all that cannot overlap it."""
        parts = self.route(placement), self.chunks(placement.ways), self.gather(placement)
        whole = added(self.system, parts)
        busy = {n: ns for n, ns in whole.busy.items() if not n.startswith(_UNSURE)}
        longest = max((ns + _beside(name, whole) for name, ns in busy.items()), default=0)
        # Some device begins as soon as it has its message, and the rows of its joins.
        setup = whole.setup + min(whole.begins.values(), default=0)
        return int((setup + longest + whole.barrier) * _SLACK)

    def asked(self, device: str, stage: Stage, parts: int, *, reads: bool = False) -> Demand:
        """Give what one of `parts` runs of a stage asks of a device, on the average."""
        key = (device, stage.first, stage.last, parts, reads)
        if key not in self._demands:
            self._demands[key] = self._mean(device, self._runs(stage))
        return self._demands[key]

    def out_bytes(self, segment: int) -> int:
        """Give the bytes that come out of a segment for one chunk."""
        last = len(self.query.segments) - 1 if segment < 0 else segment
        made = self._runs(Stage(1, last, "", chunkwise=True))
        return sum(count.nbytes for count in made) // max(1, len(made))

    def _runs(self, stage: Stage) -> Sequence[Count]:
        if stage.chunkwise:
            chain: Chain = ((stage.first, stage.last),)
            if stage.first > 1:
                chain = ((1, stage.first - 1), *chain)
            return self.counts.chunkwise(chain, unwritten=False)
        merge = next(n for n, s in enumerate(self.query.segments) if s.kind == "merge")
        chain = ((1, merge - 1), (merge, stage.last))
        if stage.first > merge:
            chain = ((1, merge - 1), (merge, stage.first - 1), (stage.first, stage.last))
        return [self.counts.gathered(chain, False, 1)]

    def _mean(self, device: str, counts: Sequence[Count]) -> Demand:
        profile = self.system.devices[device]
        each = [demand(profile, c.work, rows=c.rows_in, packed=c.packed) for c in counts]
        first, many = each[0], len(each)
        return Demand(
            first.before,
            first.after,
            sum(one.core_ns for one in each) // many,
            sum(one.memory_ns for one in each) // many,
            sum(one.alone_ns for one in each) // many,
            sum(one.beyond_ns for one in each) // many,
        )


def _beside(name: str, whole: Account) -> int:
    """Give what any chunk that uses a resource spends before and after it, the least of all."""
    if name.startswith("window "):
        return 0
    found = []
    for one in whole.ways:
        way = one.way
        if name in way:
            rest = one.ns - way[name]
            if name in whole.rounds:
                # Several units may end at the same time.
                units, alone = whole.rounds[name]
                rest -= alone - alone // units
            if name.startswith("media "):
                rest -= way["alone"]
            found.append(max(0, rest))
    return min(found, default=0)
