"""The machine alone, fed with events in every legal order: it finishes once, and loses nothing."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec import Struct, field
from msgspec.structs import replace
from support.runs import KEY, World

from wherry import Retryable
from wherry.data.chunk import ChunkRef
from wherry.plan.placement import GATE, HOME, Stage, Way, dealt
from wherry.plan.watch import Watch
from wherry.run.commands import (
    ALL,
    BEFORE,
    NOTHING,
    ROUTING,
    Accepted,
    Command,
    Deliver,
    Delivered,
    Event,
    Finish,
    Install,
    Installed,
    Loaded,
    Missing,
    Move,
    Moved,
    Ran,
    Read,
    Replan,
    Replanned,
    Route,
    Routed,
    Run,
    Send,
)
from wherry.run.continuation import thaw
from wherry.run.machine import Machine, first_chunks

SITES = (HOME, GATE, "a", "b", "c")
DEVICES = ("a", "b", "c")
MISSING = frozenset(DEVICES)
ROWS = 10


@st.composite
def worlds(draw: st.DrawFn, *, enough: bool = False) -> World:
    """Give stages at random sites: one or two chunkwise ones, perhaps a merge, perhaps respond."""
    chunkwise = draw(st.lists(st.sampled_from(SITES), min_size=1, max_size=2))
    stages = [Stage(i + 1, i + 1, site, chunkwise=True) for i, site in enumerate(chunkwise)]
    respond = st.sampled_from(DEVICES)
    if enough or draw(st.booleans()):
        site = draw(st.sampled_from(DEVICES))
        stages.append(Stage(len(stages) + 1, len(stages) + 1, site, chunkwise=False))
    elif chunkwise[-1] in (HOME, GATE):
        respond = st.sampled_from((chunkwise[-1], *DEVICES))
    router = draw(st.sampled_from(DEVICES))
    responds = draw(respond)
    sites = (router, *(stage.site for stage in stages), responds)
    if draw(st.booleans()):
        last = stages[-1]
        stages.append(Stage(last.last + 1, last.last + 1, responds, last.chunkwise))
    homes = draw(st.lists(st.integers(0, 1), max_size=9))
    seen: Counter[int] = Counter()
    chunks = []
    for fragment in homes:
        chunks.append(ChunkRef(fragment, seen[fragment], 0, ROWS))
        seen[fragment] += 1
    limit = draw(st.integers(0, 40)) if enough else None
    split = draw(ways(sites, len(chunkwise)))
    return World(tuple(stages), sites, tuple(chunks), draw(st.integers(1, 3)), limit, split)


@st.composite
def ways(draw: st.DrawFn, sites: tuple[str, ...], chunkwise: int) -> tuple[Way, ...]:
    """Give ways that begin with `sites` and run other chunks' stages elsewhere, or none."""
    others = st.lists(st.sampled_from(SITES), min_size=chunkwise, max_size=chunkwise)
    weights = st.integers(1, 5)
    more = [
        Way((sites[0], *other, *sites[1 + chunkwise :]), draw(weights))
        for other in draw(st.lists(others, max_size=2))
    ]
    return (Way(sites, draw(weights)), *more) if more else ()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 60))
def test_ways_are_dealt_evenly(weights: list[int], count: int) -> None:
    given_ways = dealt(weights, count)
    assert dealt(weights, count + 1)[:count] == given_ways
    for n in range(count + 1):
        for way, weight in enumerate(weights):
            due = n * weight / sum(weights)
            assert abs(given_ways[:n].count(way) - due) < len(weights)


class Play(Struct):
    """Carries commands out in an order the test draws, and checks each against the rules."""

    world: World
    data: st.DataObject | None = None
    missing: frozenset[str] = frozenset()
    issued: list[Command] = field(default_factory=list)
    waiting: list[Command] = field(default_factory=list)
    at: dict[tuple[int, int], str] = field(default_factory=dict)
    plans: set[str] = field(default_factory=set)
    opened: set[tuple[str, int]] = field(default_factory=set)
    through: set[int] = field(default_factory=set)
    named: dict[str, set[ChunkRef]] = field(default_factory=dict)
    others: st.SearchStrategy[tuple[Way, ...]] | None = None
    flying: Counter[str] = field(default_factory=Counter)

    def run(self) -> Finish:
        machine = Machine(self.world.orders())
        if self.world.held is not None:
            meet = sum(stage.chunkwise for stage in self.world.stages)
            self.at[meet - 1, BEFORE] = "client"
        self.take(machine.start())
        while not any(isinstance(c, Finish) for c in self.issued):
            assert self.waiting, "nothing is under way, and nothing is finished"
            places = st.integers(0, len(self.waiting) - 1)
            place = 0 if self.data is None else self.data.draw(places)
            event = self.carry(self.waiting.pop(place))
            self.take(machine.handle(event))
        while self.waiting:
            assert machine.handle(self.carry(self.waiting.pop())) == []
        finished = [c for c in self.issued if isinstance(c, Finish)]
        assert len(finished) == 1
        return finished[0]

    def take(self, commands: list[Command]) -> None:
        self.issued += commands
        self.waiting += [c for c in commands if not isinstance(c, Finish)]
        for command in commands:
            if isinstance(command, Read):
                self.flying[command.target] += 1
                assert self.flying[command.target] <= self.world.window
            elif isinstance(command, Replan):
                going = [s for _, shares in (*command.left, *command.begun) for (s,) in shares]
                rest = [self.world.chunks[number] for number in self.through]
                assert sorted((*going, *rest), key=str) == sorted(self.world.chunks, key=str)

    def carry(self, command: Command) -> Event:
        match command:
            case Send(_, target, stage, message):
                assert thaw(message, KEY).sites == self.world.sites
                if target in self.missing and target not in self.plans:
                    return Missing(target, stage)
                self.opened.add((target, stage))
                if stage == ROUTING:
                    assert thaw(message, KEY).chunks == self.world.done
                if stage == 0:
                    self.named[target] = set(thaw(message, KEY).chunks)
                return Accepted(target, stage)
            case Install(_, target, stage):
                self.plans.add(target)
                return Installed(target, stage)
            case Route(device):
                assert device == self.world.sites[0]
                return Routed(tuple((ref,) for ref in self.world.chunks))
            case Read(device, target, chunk, (ref,)):
                assert device == "ab"[ref.fragment]
                assert ref in self.named[target]
                self.at[-1, chunk] = device
                return Loaded(chunk)
            case Move(source, target, piece, stage):
                assert self.at[piece] == source != target
                self.at[piece] = target
                return Moved(piece, target, stage)
            case Run():
                return self.ran(command)
            case Replan():
                return self.replanned(command)
            case Deliver(source, target, piece):
                assert source == (self.world.sites[0] if piece == NOTHING else self.at[piece])
                assert target == "client"
                return Delivered(piece)
        raise AssertionError(f"{command} was carried out")

    def ran(self, command: Run) -> Ran:
        assert (command.device, command.stage) in self.opened
        assert all(self.at.pop(piece) == command.device for piece in command.pieces)
        self.at[command.stage, command.chunk] = command.device
        if command.stage == 0:
            self.flying[command.device] -= 1
        after = command.stage + 1
        if after == len(self.world.stages) or not self.world.stages[after].chunkwise:
            self.through.add(command.chunk)
        rows = ROWS if self.others is None else self.data.draw(st.integers(0, ROWS))
        return Ran(command.stage, command.chunk, rows, ROWS, ROWS)

    def replanned(self, command: Replan) -> Replanned:
        """Send what is left any way, or as it would go."""
        ways = self.data.draw(st.none() | self.others) or None
        return Replanned(command.seen, ways)

    def made_of(self, finish: Finish) -> list[int]:
        """Give the chunks of the answer, in its order."""
        merge = self.world.stages[-1]
        if merge.chunkwise:
            return [chunk for _, chunk in finish.pieces]
        merging = next(c for c in self.issued if isinstance(c, Run) and c.chunk == ALL)
        return [chunk for _, chunk in merging.pieces]


@given(world=worlds(), data=st.data())
def test_every_chunk_is_once_in_the_answer_and_in_order(world: World, data: st.DataObject) -> None:
    play = Play(world, data)
    finish = play.run()
    assert play.made_of(finish) == list(range(len(world.chunks)))
    delivered = [c.piece for c in play.issued if isinstance(c, Deliver)]
    assert sorted(delivered) == sorted(finish.pieces or (NOTHING,))
    reads = [c.chunk for c in play.issued if isinstance(c, Read)]
    assert sorted(reads) == list(range(len(world.chunks)))


@given(world=worlds(), data=st.data())
def test_devices_that_lack_the_plan_get_it_once(world: World, data: st.DataObject) -> None:
    play = Play(world, data, missing=frozenset(DEVICES))
    finish = play.run()
    assert play.made_of(finish) == list(range(len(world.chunks)))
    # Two messages may reach a device before its plan does; then each asks for it.
    installs = Counter((c.target, c.stage) for c in play.issued if isinstance(c, Install))
    assert set(installs.values()) == {1}


@given(world=worlds(enough=True), data=st.data())
def test_a_limit_stops_reading_and_keeps_the_first_rows(world: World, data: st.DataObject) -> None:
    play = Play(world, data)
    chunks = play.made_of(play.run())
    assert chunks == list(range(len(chunks)))
    assert world.enough is not None
    assert len(chunks) == len(world.chunks) or len(chunks) * ROWS >= world.enough
    if world.chunks:
        # No chunk after the first ones that hold enough is waited for.
        assert (len(chunks) - 1) * ROWS < max(1, world.enough)


def test_a_limit_reads_no_more_than_the_windows_hold() -> None:
    chunks = tuple(ChunkRef(0, i, 0, ROWS) for i in range(50))
    stages = (Stage(1, 1, HOME, chunkwise=True), Stage(2, 2, "c", chunkwise=False))
    world = World(stages, ("c", HOME, "c", "c"), chunks, window=2, enough=15)
    machine, reads = Machine(world.orders()), 0
    waiting = machine.start()
    play = Play(world)
    while not isinstance(waiting[0], Finish):
        command = waiting.pop(0)
        reads += isinstance(command, Read)
        waiting += machine.handle(play.carry(command))
    assert 2 <= reads <= 4


@given(world=worlds(), data=st.data())
def test_pieces_are_ready_in_their_order(world: World, data: st.DataObject) -> None:
    """A stream may give away each piece once all before it are delivered."""
    machine, play = Machine(world.orders()), Play(world, data)
    play.take(machine.start())
    given_away: list[int] = []
    delivered: set[int] = set()
    while not any(isinstance(c, Finish) for c in play.issued):
        event = play.carry(play.waiting.pop(data.draw(st.integers(0, len(play.waiting) - 1))))
        if isinstance(event, Delivered):
            delivered.add(event.piece[1])
        play.take(machine.handle(event))
        given_away += [chunk for _, chunk in machine.ready_to_give(len(given_away))]
        assert delivered.issuperset(given_away)
    merged = not world.stages[-1].chunkwise
    assert given_away == ([] if merged else list(range(len(world.chunks))))


@given(world=worlds(), data=st.data())
def test_chunks_may_go_elsewhere_at_any_time(world: World, data: st.DataObject) -> None:
    """However often: every chunk is once in the answer, and read by who was told of it."""
    watched = replace(world, watch=Watch(0.5, 0.5, round=1, switches=9))
    last = len(world.sites) - 1
    apart = sum(stage.chunkwise and stage.last < last for stage in world.stages)
    missing = data.draw(st.sampled_from([frozenset(), frozenset(DEVICES)]))
    others = ways(world.sites, apart)
    play = Play(watched, data, missing=missing, others=others)
    finish = play.run()
    assert play.made_of(finish) == list(range(len(world.chunks)))
    reads = [c.chunk for c in play.issued if isinstance(c, Read)]
    assert sorted(reads) == list(range(len(world.chunks)))


def test_only_chunks_not_begun_go_elsewhere() -> None:
    chunks = tuple(ChunkRef(0, i, 0, ROWS) for i in range(8))
    stages = (Stage(1, 1, "a", chunkwise=True), Stage(2, 2, "c", chunkwise=False))
    watch = Watch(0.0, 0.0, round=4)
    world = World(stages, ("c", "a", "c", "c"), chunks, window=2, enough=None, watch=watch)
    machine, play, seen = Machine(world.orders()), Play(world), []
    waiting = machine.start()
    while not isinstance(waiting[0], Finish):
        command = waiting.pop(0)
        play.take([command])
        if isinstance(command, Replan):
            seen.append(command)
            event: Event = Replanned(command.seen, (Way(("c", "b", "c", "c"), 1),))
        else:
            event = play.carry(command)
        waiting += machine.handle(event)
    (asked,) = seen
    assert (asked.seen.chunks, asked.seen.rows_out, asked.device) == (4, 4 * ROWS, "c")
    assert [len(shares) for _, shares in (*asked.left, *asked.begun)] == [2, 2]
    ran = {c.chunk: c.device for c in play.issued if isinstance(c, Run) and c.stage == 0}
    assert [ran[n] for n in range(8)] == ["a"] * 6 + ["b"] * 2


def test_a_device_begins_what_its_messages_have_named() -> None:
    """Two decisions, one soon after the other, each give it more; the messages take their time."""
    chunks = tuple(ChunkRef(0, i, 0, ROWS) for i in range(40))
    stages = (Stage(1, 1, "a", chunkwise=True), Stage(2, 2, "c", chunkwise=False))
    watch = Watch(0.0, 0.0, round=1, switches=9)
    there, here = Way(("c", "b", "c", "c"), 1), Way(("c", "a", "c", "c"), 1)
    split = (replace(here, weight=5), there)
    world = World(stages, here.sites, chunks, 2, None, split, watch)
    answers = [(here, there), (there,)]
    machine, play = Machine(world.orders()), Play(world)
    waiting, held = machine.start(), list[Command]()
    play.take(waiting)
    while True:
        command = waiting.pop(0) if waiting else held.pop(0)
        if isinstance(command, Finish):
            break
        if waiting and isinstance(command, Send) and command.target == "b" and "b" in play.named:
            held.append(command)
            continue
        if isinstance(command, Replan):
            event: Event = Replanned(command.seen, answers.pop(0) if answers else None)
        elif isinstance(command, Run) and command.stage == 0:
            play.ran(command)
            # Shares that differ from all before, so that every chunk makes it ask.
            made = ROWS * (command.chunk + 1)
            event = Ran(command.stage, command.chunk, made, ROWS, ROWS)
        else:
            event = play.carry(command)
        more = machine.handle(event)
        play.take(more)
        waiting += more
    told = [c for c in play.issued if isinstance(c, Send) and (c.target, c.stage) == ("b", 0)]
    assert not answers
    assert len(told) == 3
    ran = {c.chunk for c in play.issued if isinstance(c, Run) and c.device == "b"}
    assert len(ran) > 5


def legs(world: World, data: st.DataObject) -> World:
    """Give the world as it is for a run that goes on, perhaps with what came before."""
    merges = not world.stages[-1].chunkwise
    done = tuple(ChunkRef(0, n, 0, ROWS) for n in range(100, 100 + data.draw(st.integers(0, 3))))
    held = data.draw(st.none() | st.integers(0, 30)) if merges else None
    return replace(world, done=done, held=held)


@given(world=worlds(), data=st.data())
def test_a_run_that_goes_on_begins_with_what_the_client_holds(
    world: World, data: st.DataObject
) -> None:
    play = Play(legs(world, data), data, missing=data.draw(st.sampled_from([frozenset(), MISSING])))
    before = [] if play.world.held is None else [BEFORE]
    assert play.made_of(play.run()) == [*before, *range(len(world.chunks))]


@given(world=worlds(enough=True), data=st.data())
def test_what_the_client_holds_may_be_enough(world: World, data: st.DataObject) -> None:
    play = Play(legs(world, data), data)
    chunks = play.made_of(play.run())
    held = play.world.held
    assert world.enough is not None
    if held is not None:
        assert chunks.pop(0) == BEFORE
    rows = held or 0
    assert chunks == list(range(len(chunks)))
    assert len(chunks) == len(world.chunks) or rows + len(chunks) * ROWS >= world.enough
    if rows >= world.enough:
        assert not any(isinstance(c, Read) for c in play.issued)


@given(world=worlds(), data=st.data())
def test_a_run_that_stops_takes_the_first_chunks_and_no_others(
    world: World, data: st.DataObject
) -> None:
    stages = tuple(stage for stage in world.stages if stage.chunkwise)
    cut = stages[-1].last + 1

    def apart(sites: tuple[str, ...]) -> tuple[str, ...]:
        return (*sites[:cut], *[HOME] * (len(sites) - cut))

    split = tuple(replace(way, sites=apart(way.sites)) for way in world.split)
    stop = data.draw(st.integers(0, len(world.chunks) + 1))
    sites = world.sites if len(stages) == len(world.stages) else apart(world.sites)
    split = world.split if len(stages) == len(world.stages) else split
    stopped = replace(world, stages=stages, sites=sites, split=split, stop=stop)
    play = Play(stopped, data)
    finish = play.run()
    wanted = list(range(min(stop, len(world.chunks))))
    assert [chunk for _, chunk in finish.pieces] == wanted
    assert sorted(c.chunk for c in play.issued if isinstance(c, Read)) == wanted
    delivered = {c.piece for c in play.issued if isinstance(c, Deliver)}
    assert delivered == set(finish.pieces or (NOTHING,))


@given(st.lists(st.integers(1, 4), max_size=5), st.integers(0, 12))
def test_the_first_chunks_of_shares(sizes: list[int], count: int) -> None:
    chunks = [ChunkRef(0, n, 0, ROWS) for n in range(sum(sizes))]
    rest = iter(chunks)
    shares = tuple(tuple(next(rest) for _ in range(size)) for size in sizes)
    found = first_chunks(shares, count)
    assert [ref for share in found for ref in share] == chunks[:count]
    assert all(found)
    assert found[:-1] == shares[: max(0, len(found) - 1)]


def test_no_chunks_still_make_an_answer() -> None:
    stages = (Stage(1, 1, HOME, chunkwise=True),)
    world = World(stages, ("a", HOME, "a"), (), window=1, enough=None)
    assert Play(world).run() == Finish(())


def test_a_device_that_loses_the_plan_again_is_not_asked_for_ever() -> None:
    stages = (Stage(1, 1, HOME, chunkwise=True),)
    machine = Machine(World(stages, ("a", HOME, "a"), (), window=1, enough=None).orders())
    machine.start()
    assert isinstance(machine.handle(Missing("a", -1))[0], Install)
    assert isinstance(machine.handle(Installed("a", -1))[0], Send)
    with pytest.raises(Retryable, match="a lost the plan"):
        machine.handle(Missing("a", -1))
