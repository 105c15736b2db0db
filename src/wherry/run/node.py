"""What a node of the protocol knows, and the small steps its rules are made of.

`protocol.py` says what the rules are; `home.py` has those of the node that owns a continuation,
`visit.py` those of the node it visits. Nothing here has a clock, a thread, randomness or I/O.
"""

from __future__ import annotations

from heapq import heappush
from typing import Final

from msgspec import Struct

from wherry.run import control, message
from wherry.run.control import Control
from wherry.run.delivery import Command, Event, Kept, Load, Match, Outcome, Persist, Received, Send
from wherry.run.message import FRESH, RUN, Message
from wherry.run.records import Forgotten, Held, Leased, Receipted, Record

MS: Final = 1_000_000
HOLDER: Final = b"\x00at:"
"""Home: what a `Leased` record begins with that says which node keeps something."""


LIFE_BITS: Final = 32
"""Of a run's number: those above say which life of its node it was in."""


class Timing(Struct, frozen=True):
    """How long a node waits; steady nanoseconds.

    Attributes
    ----------
    retry_ns : int
        Until what was sent and not acknowledged is sent again; doubles each time.
    doublings : int
        How often it doubles at most.
    tries : int
        How often a visited node sends on what home has on record; then it is home's to drive.
    leases_kept : int
        How many leases long a node keeps rows without a sign from home.
    parked_keep_ns : int
        How long it keeps them for one that is parked for an event.
    """

    retry_ns: int = 50 * MS
    doublings: int = 6
    tries: int = 8
    leases_kept: int = 4
    parked_keep_ns: int = 24 * 3600 * 1000 * MS


class Entry:
    """A continuation that something is done for here: `message` is its newest state known here.

    At home `where` says who has it ("": home itself). At a visited node the state is being carried
    out (`RUNNING`) or on its way to `where`.
    """

    __slots__ = (
        "alive", "avoid", "came", "data", "deadline", "due", "epoch", "fallback", "holders",
        "hop", "id", "lease", "message", "renew", "retry", "setting", "started", "state", "told",
        "tries", "where",
    )  # fmt: skip

    def __init__(self, state: int, message: Message, data: bytes) -> None:
        self.id = message.id
        self.epoch = message.epoch
        self.hop = message.hop
        self.state = state
        self.message = message
        self.data = data
        self.where = ""
        self.came = b""
        self.started = 0
        self.setting = b""
        """Home: digest of what says where it runs."""
        self.told = False
        self.tries = 0
        self.due = 0
        """The earliest of the times below, as it stands in the heap; 0: none."""
        self.retry = 0
        self.lease = 0
        self.alive = 0
        self.renew = 0
        self.deadline = 0
        self.avoid: tuple[str, ...] = ()
        self.fallback = b""
        """Home: the last state before rows were made that the newest one refers to."""
        self.holders: dict[str, int] = {}
        """Home: nodes that keep something, and until when (wall)."""


class Telling:
    """A receipt on its way home, sent again until home says that it is on record."""

    __slots__ = ("data", "due", "home", "key", "record", "tries")

    def __init__(self, key: Key, home: str, data: bytes, record: Receipted | None) -> None:
        self.key = key
        self.home = home
        self.data = data
        self.record = record
        self.tries = 0
        self.due = 0


class Keeping:
    """Something kept at this node for a continuation until a time."""

    __slots__ = ("due", "id", "nbytes", "resource")

    def __init__(self, id_: bytes, resource: bytes, nbytes: int) -> None:
        self.id = id_
        self.resource = resource
        self.nbytes = nbytes
        self.due = 0


class Lacking:
    """Messages that wait for a program, by their id."""

    __slots__ = ("digest", "due", "events")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.events: dict[bytes, Received] = {}
        self.due = 0


Key = tuple[bytes, int, int, int]
"""Id, epoch, hop, and which run of that hop."""
Timed = Entry | Telling | Keeping | Lacking


class State:
    """All a node knows.

    Parameters
    ----------
    name : str
        Its name among nodes.
    key : bytes
        What messages are sealed with.
    life : int
        A number below 2**31 that no other life of this node had.
    owns : bool
        Whether continuations may have their home here; any node may be visited by them.
    timing : Timing
        How long it waits.
    key_id : int
        Says which key it is, in what is sent.
    """

    def __init__(
        self,
        name: str,
        key: bytes,
        life: int,
        *,
        owns: bool = False,
        timing: Timing | None = None,
        key_id: int = 0,
    ) -> None:
        self.name = name
        self.owns = owns
        self.key = key
        self.key_id = key_id
        self.runs = life << LIFE_BITS
        self.timing = timing or Timing()
        self.entries: dict[bytes, Entry] = {}
        self.telling: dict[Key, Telling] = {}
        self.keeping: dict[bytes, dict[bytes, Keeping]] = {}
        self.programs: dict[bytes, bytes] = {}
        self.settings: set[bytes] = set()
        """Digests of settings that this life has put on record."""
        self.lacking: dict[bytes, Lacking] = {}
        self.loading: dict[bytes, list[Event]] = {}
        """Events that wait for what the journal keeps of an id."""
        self.matching: dict[str, bool] = {}
        """Names that a `Match` is out for; true: look again when it is back."""
        self.heap: list[tuple[int, int, Timed]] = []
        self.order = 0
        self.now = 0
        self.wall = 0
        self.jitter = 0
        self.out: list[Command] = []


LACKING_MAX: Final = 1024
"""Messages that wait for programs; more are left to their senders to send again."""
LOADING_MAX: Final = 64
"""Events that wait for one id; more from other nodes are left to them to send again."""


def arm(node: State, timed: Timed, due: int) -> None:
    """Have `timed` fire at `due`, which is not now but later; 0: never."""
    if due and due <= node.now:
        # What is overdue stays so: were it put off at every event, a busy node would never fire it.
        due = timed.due if 0 < timed.due <= node.now else node.now + 1
    if due != timed.due:
        timed.due = due
        if due:
            node.order += 1
            heappush(node.heap, (due, node.order, timed))


def arm_entry(node: State, entry: Entry) -> None:
    """Have an entry fire at the earliest of its times."""
    due = 0
    for time in (entry.retry, entry.lease, entry.alive, entry.renew, entry.deadline):
        if time and (not due or time < due):
            due = time
    arm(node, entry, due)


def run_number(node: State) -> int:
    """Give a number that no other run of a hop has at this node."""
    node.runs += 1
    return node.runs


def backed_off(node: State, tries: int) -> int:
    """Give the time of the next try: doubled each time, and up to twice that by chance."""
    delay = node.timing.retry_ns << min(tries, node.timing.doublings)
    return node.now + delay + (delay * node.jitter >> 10)


def say(node: State, target: str, control_: Control) -> None:
    """Send a control message."""
    node.out.append(Send(target, control.freeze(control_, node.key, node.key_id)))


def persist(node: State, *records: Record) -> None:
    """Write records; what is put out later waits for them."""
    node.out.append(Persist(records))


def load(node: State, id_: bytes, event: Event) -> None:
    """Have `event` handled once it is known what the journal keeps of `id_`.

    One read is out for an id at a time, and later events wait behind it: what is read is never
    older than what this machine wrote.
    """
    waiting = node.loading.get(id_)
    if waiting is None:
        node.loading[id_] = []
        node.out.append(Load(id_))
        node.loading[id_].append(event)
    elif len(waiting) < LOADING_MAX or not isinstance(event, Received):
        waiting.append(event)


def match(node: State, name: str) -> None:
    """Look for a waiting one and its event; one look is out for a name at a time."""
    if name in node.matching:
        node.matching[name] = True
    else:
        node.matching[name] = False
        node.out.append(Match(name))


def held(entry: Entry, *, wake_ns: int = 0, event: str = "") -> Held:
    """Give the record of an entry."""
    m = entry.message
    return Held(
        entry.id, entry.epoch, entry.hop, entry.state, m.program, m.position, entry.data,
        entry.where, wake_ns, event, m.tenant, entry.started, entry.came, entry.setting,
    )  # fmt: skip


def following(m: Message, outcome: Outcome) -> Message:
    """Give the message of the next hop: what a step came to."""
    o = outcome
    return Message(
        m.id, o.kind, m.epoch, m.hop + 1, m.program, o.position, m.home, m.tenant, o.frame,
        o.operand, o.given, o.flags & ~FRESH, m.deadline_ns, m.lease_ms, o.budget, m.trace, o.span,
        m.trace_flags, m.key_id,
    )  # fmt: skip


def resumed(m: Message, given: int, operand: bytes) -> Message:
    """Give the message of the next hop: a state that goes on with a result."""
    return Message(
        m.id, RUN, m.epoch, m.hop + 1, m.program, m.position, m.home, m.tenant, m.frame, operand,
        given, m.flags & message.REFERS, m.deadline_ns, m.lease_ms, m.budget, m.trace, m.span,
        m.trace_flags, m.key_id,
    )  # fmt: skip


def driven(m: Message, epoch: int, *, fresh: bool = False) -> Message:
    """Give the same state under another epoch."""
    return Message(
        m.id, m.kind, epoch, m.hop, m.program, m.position, m.home, m.tenant, m.frame, m.operand,
        m.given, m.flags | FRESH if fresh else m.flags & ~FRESH, m.deadline_ns, m.lease_ms,
        m.budget, m.trace, m.span, m.trace_flags, m.key_id,
    )  # fmt: skip


def frozen(node: State, m: Message) -> bytes:
    """Give the bytes of a message under this node's key."""
    return message.freeze(m, node.key)


def tell(
    node: State,
    key: Key,
    home: str,
    where: str,
    *,
    tenant: str,
    receipt: bytes = b"",
    data: bytes = b"",
) -> tuple[Receipted, ...]:
    """Tell home what a hop came to and used, until home has that on record.

    Gives the record that keeps the receipt until then.
    """
    id_, epoch, hop, run = key
    passed = control.Passed(id_, epoch, hop, run, where, tenant, receipt, data, id_ in node.keeping)
    record = None
    if receipt:
        record = Receipted(id_, epoch, hop, node.name, tenant, receipt, run, home=home)
    telling = Telling(key, home, control.freeze(passed, node.key, node.key_id), record)
    node.telling[key] = telling
    arm(node, telling, backed_off(node, 0))
    return () if record is None else (record,)


def keep(node: State, id_: bytes, kept: tuple[Kept, ...], keep_ns: int) -> list[Leased]:
    """Keep what a step left, for so long; give the records that say so."""
    here = node.keeping.setdefault(id_, {})
    for one in kept:
        keeping = here.get(one.resource)
        if keeping is None:
            keeping = here[one.resource] = Keeping(id_, one.resource, one.nbytes)
        arm(node, keeping, node.now + keep_ns)
    return [Leased(one.resource, id_, node.wall + keep_ns, one.nbytes) for one in kept]


def drop(node: State, entry: Entry) -> None:
    """Know nothing of a continuation any more; what is kept for it, and its receipts, stay."""
    entry.due = 0
    if node.entries.get(entry.id) is entry:
        del node.entries[entry.id]
    own = entry.message.home == node.name
    persist(node, Forgotten(entry.id, node.wall if own else 0))
