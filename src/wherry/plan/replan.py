"""Place what is left of a query anew, once what passes is not what was planned with.

Two worlds are thinkable. What was seen last goes on; or the estimate of the whole holds after all,
and the chunks that are left make up for those that were read. The second one counts only if rows of
all chunks were looked at, and while what was seen does not refute it; else the mean of all that was
seen stands in its place. Chunks are sent another way only if that pays in both worlds, by more than
predictions err, with what it costs to begin there; the smaller gain decides which way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from wherry.base.units import Time, format_ns
from wherry.data.chunk import ChunkRef
from wherry.devices.altered import loaded
from wherry.devices.charge import install_ns, start_ns
from wherry.devices.system import System
from wherry.devices.work import Work, core_ns, load_reference
from wherry.ir.stage import Matches, Pass
from wherry.plan.account import Account
from wherry.plan.cost import Costs
from wherry.plan.objective import BY_TIME, Score
from wherry.plan.place import Choice, Wish
from wherry.plan.placement import Placement, Way, homes_of, stages_on
from wherry.plan.query import Query, near_flow, with_near
from wherry.plan.split import alike, split
from wherry.plan.watch import Seen, Watch, round_of

MARGIN: Final = 0.15
"""What a switch must gain at least, as a share of what is left. 95 of 100 predictions of a run err
by less (253 cells of `wherry bench systems`; 4 % on the average): a smaller gain may be a loss."""


class Decision(Struct, frozen=True):
    """How the rest of the chunks go, decided during a run.

    Attributes
    ----------
    seen : Seen
        Why it was thought about.
    chunks_left : int
        Not yet begun at that time.
    before, after : str
        The placement of those until then, and from then on; equal if it stayed.
    ways : tuple of Way or None
        None if it stayed.
    kept, changed : int
        What is left comes to at least gain: as it was, and by the best other way found, switching
        included. Modelled nanoseconds, or the score of another objective.
    by_time : bool
        Whether these are nanoseconds.
    """

    seen: Seen
    chunks_left: int
    before: str
    after: str
    ways: tuple[Way, ...] | None
    kept: int
    changed: int
    by_time: bool = True


class Going(Struct, frozen=True):
    """Chunks that go one way."""

    sites: tuple[str, ...]
    chunks: tuple[ChunkRef, ...]


Decide = Callable[[Seen, Sequence[Going], Sequence[Going]], Decision]
"""Gives how chunks that are left go: what was seen, how these would go, and those begun do."""


class Revision(Struct, frozen=True):
    """A decision, and when it was taken since the run began."""

    at: Time
    decision: Decision

    def line(self) -> str:
        """Give it as text."""
        made, seen = self.decision, self.decision.seen
        planned = f"{seen.planned_low:.2%} to {seen.planned_high:.2%}"
        if seen.planned_low == seen.planned_high:
            planned = f"{seen.planned_low:.2%}"
        found = (
            f"replanned after {seen.chunks} chunks, at {format_ns(self.at.ns)}: "
            f"{seen.share:.2%} pass, not {planned}; {made.chunks_left} chunks left "
        )
        if made.ways is None:
            return found + f"stay with {made.before}: no other way gains enough"
        gain = ""
        if made.by_time:
            gain = f", predicted {format_ns(made.changed)} instead of {format_ns(made.kept)}"
        return found + f"go {made.after}, not {made.before}{gain}"


class Replanner(Struct, frozen=True):
    """Decides anew for one query on one system.

    Attributes
    ----------
    system : System
        With its load.
    allowed : tuple of tuple of str
        For each segment, the sites that may run it.
    watch : Watch
        When to ask.
    """

    query: Query
    system: System
    allowed: tuple[tuple[str, ...], ...]
    watch: Watch
    cold: bool = False
    score: Score = BY_TIME

    def decide(self, seen: Seen, left: Sequence[Going], begun: Sequence[Going]) -> Decision:
        """Give how chunks that are left go.

        Parameters
        ----------
        left, begun : sequence of Going
            How they would go as it was, and how those do that are on their way.
        """
        worlds = [
            _World(self, Costs(query, self.system), left, begun)
            for query in _thinkable(self.query, seen, left, begun)
        ]
        others = dict.fromkeys(one for world in worlds for one in world.best())
        kept = [world.kept() for world in worlds]
        ways, least = _ways(left), 0.0
        changed = list(kept)
        for other in others:
            found = [world.changed(other) for world in worlds]
            gains = [1 - new / max(1, old) for new, old in zip(found, kept, strict=True)]
            if min(gains) > least:
                ways, changed, least = other, found, min(gains)
        worst = min(range(len(worlds)), key=lambda n: 1 - changed[n] / max(1, kept[n]))
        before, after = (
            _placement(each).describe(self.query.segments)
            for each in (_ways(left), ways if least > MARGIN else _ways(left))
        )
        return Decision(
            seen=seen,
            chunks_left=sum(len(each.chunks) for each in left),
            before=before,
            after=after,
            ways=ways if least > MARGIN else None,
            kept=kept[worst],
            changed=changed[worst],
            by_time=self.score == BY_TIME,
        )


def replanner(query: Query, system: System, choice: Choice, wish: Wish) -> Replanner | None:
    """Give what decides anew during a run of a choice; None if there is nothing to decide.

    That is so if what passes is known, or cannot be seen where it runs, or if chunks have no other
    way that meets where this one does.
    """
    key = ("watch", id(system), wish, choice.chosen.placement)
    if key not in query.known:
        # A query is not kept with what is known of it, which outlives its source.
        query.known[key] = (system, _watch(query, system, choice))
    watch: Watch | None = query.known[key][1]
    if watch is None:
        return None
    loaded_system = loaded(system, dict(wish.load))
    return Replanner(query, loaded_system, choice.allowed, watch, wish.cold, choice.score)


def _watch(query: Query, system: System, choice: Choice) -> Watch | None:
    near, scanned = near_flow(query), query.flows[0].rows
    placement, size = choice.chosen.placement, round_of(len(query.chunks))
    if near.exact or not scanned or len(query.chunks) <= size:
        return None
    selects, homes = _selects(query, placement), homes_of(query, system)
    # Two sites may be one device: then there is no other way.
    ways = alike(query, choice.allowed, placement)
    unlike = {tuple(map(homes.at, one.sites)) for one in ways}
    if selects is None or len(unlike) < 2:
        return None
    # What statistics surely know holds; what they guess is all that can turn out wrong.
    low, high = (near.rows_low, near.rows_high) if query.sampled else (near.rows, near.rows)
    return Watch(low / scanned, high / scanned, size, selects)


def _selects(query: Query, placement: Placement) -> bool | None:
    """Tell whether what passes is what the first program selects, not what it makes.

    None if it is neither: a join adds rows before the program goes on with them.
    """
    first = stages_on(query.segments, placement.sites)[0]
    number = [segment.kind for segment in query.segments].index("near")
    inside = query.segments[number + 1 : first.last + 1]
    if not any(segment.steps for segment in inside):
        return False
    steps = query.segments[number].steps
    joins = any(isinstance(step, Pass) and isinstance(step.sink, Matches) for step in steps)
    return None if joins or len(steps) > 1 else True


def _placement(ways: tuple[Way, ...]) -> Placement:
    return Placement(ways[0].sites, ways if len(ways) > 1 else ())


def _ways(*going: Sequence[Going]) -> tuple[Way, ...]:
    """Give the ways that chunks go, their weights being the numbers of them."""
    found: dict[tuple[str, ...], int] = {}
    for one in (each for every in going for each in every):
        found[one.sites] = found.get(one.sites, 0) + len(one.chunks)
    return tuple(Way(sites, count) for sites, count in found.items())


def _thinkable(
    query: Query, seen: Seen, left: Sequence[Going], begun: Sequence[Going]
) -> list[Query]:
    """Give the query as it may be for all that is not through: as seen last, and as sampled."""
    chunks = tuple(ref for each in (*begun, *left) for ref in each.chunks)
    return [_rest(query, chunks, share) for share in _shares(query, seen)]


def _shares(query: Query, seen: Seen) -> list[float]:
    """Give the shares of the rows not yet through that may pass."""
    near, rows = near_flow(query), query.flows[0].rows - seen.rows_in
    if query.sampled and rows > 0:
        low, guess, high = (
            (made - seen.rows_out) / rows for made in (near.rows_low, near.rows, near.rows_high)
        )
        # A sample that lies leaves too few rows for what is left, or more than can come of it.
        most = max(1.0, seen.high)
        if high >= 0 and low <= most:
            return [seen.share, min(max(guess, 0.0), most)]
    return [seen.share, seen.mean]


def _rest(query: Query, chunks: tuple[ChunkRef, ...], share: float) -> Query:
    """Give the query as if it were of these chunks only, and this share of their rows came out."""
    rows, near = float(sum(ref.rows for ref in chunks)), near_flow(query)
    scanned = replace(query.flows[0], rows_low=rows, rows=rows, rows_high=rows)
    rest = replace(query, chunks=chunks, flows=(scanned, *query.flows[1:]), known={})
    made = rows * share
    passed = min(rows, query.within.passed * made / near.rows) if near.rows else min(rows, made)
    return with_near(rest, replace(near, rows_low=made, rows=made, rows_high=made), passed=passed)


class _World(Struct, frozen=True):
    """What is not through, if a share of its rows passes; `costs` are of all of it.

    What is on its way keeps its devices busy, whatever is decided: it counts both times.
    """

    asked: Replanner
    costs: Costs
    left: Sequence[Going]
    begun: Sequence[Going]

    def best(self) -> list[tuple[Way, ...]]:
        """Give the best single way for what is left, and the best split of ways."""
        asked, query = self.asked, self.costs.query
        first, count = Placement(self.left[0].sites), sum(len(each.chunks) for each in self.left)
        ways = alike(query, asked.allowed, first)
        alone: list[tuple[Way, ...]] = [(Way(one.sites, count),) for one in ways]
        found = [min(alone, key=self.changed)]
        shares = split(query, self.costs, asked.allowed, first, asked.score)
        if shares is not None:
            found.append(self._filled_up(shares.placement.ways))
        return [ways for ways in found if set(ways) != set(_ways(self.left))]

    def _filled_up(self, ways: tuple[Way, ...]) -> tuple[Way, ...]:
        """Give what is left the ways that make all of it, with what is on its way, go as `ways`."""
        on_way = {way.sites: way.weight for way in _ways(self.begun)}
        count, whole = len(self.costs.query.chunks), sum(way.weight for way in ways)
        more = [
            Way(way.sites, round(way.weight * count / whole) - on_way.get(way.sites, 0))
            for way in ways
        ]
        # Ways that have more than their part already leave the others less than theirs.
        return tuple(way for way in more if way.weight > 0)

    def kept(self) -> int:
        """Give what is left if all go as they would: everything there has begun."""
        return self._score(Account(self.costs.system), _ways(self.begun, self.left))

    def changed(self, ways: tuple[Way, ...]) -> int:
        """Give what is left if it goes other ways, thinking and beginning there included."""
        system, used = self.costs.system, self._devices(_ways(self.begun, self.left))
        router = system.devices[ways[0].sites[0]]
        terms = Work(filter_terms=len(self.costs.query.chunks))
        account = Account(system, setup=start_ns(router) + core_ns(terms, router, load_reference()))
        begins = self.costs.route(_placement(ways)).begins
        for device in self._devices(ways) - used:
            install = install_ns(system.devices[device]) if self.asked.cold else 0
            account.begins[device] = begins.get(device, 0) + install
        whole, count = sum(way.weight for way in ways), sum(len(e.chunks) for e in self.left)
        merged = {way.sites: way.weight * whole for way in _ways(self.begun)}
        for way in ways:
            merged[way.sites] = merged.get(way.sites, 0) + way.weight * count
        return self._score(account, tuple(Way(*pair) for pair in merged.items()))

    def _score(self, begin: Account, ways: tuple[Way, ...]) -> int:
        costs = self.costs
        cost = costs.together(begin, costs.chunks(ways), *costs.gather(_placement(ways)))
        return self.asked.score.of(cost)

    def _devices(self, ways: tuple[Way, ...]) -> frozenset[str]:
        """Give the devices that work on chunks by themselves."""
        query = self.costs.query
        homes = homes_of(query, self.costs.system)
        return frozenset(
            device
            for way in ways
            for stage in stages_on(query.segments, way.sites)
            if stage.chunkwise
            for device in homes.at(stage.site)
        )
