"""What a caller asks of an agent and what it answers: msgpack of the structs below, nothing else.

    Hello    -> Welcome                who the agent is, and a key to seal messages with
    List     -> Listed                 its datasets
    Measure  -> Bounds                 statistics of one column of a dataset
    Unpack   -> Unpacked               what reading columns takes
    Sample   -> Rows                   a few rows
    Install  -> Done                   a plan, the rows of a join, or a directory
    Receive  -> Accepted | Lacks       a sealed continuation
    Route    -> Routed                 choose the chunks
    Read     -> Made                   a chunk of its own, for another device
    Run      -> Made                   a stage over pieces that it has
    Fetch    -> Made                   take a piece from another agent
    Give     -> Done                   rows that the caller has, as a piece
    Renew    -> Done                   keep what belongs to these queries
    Release  -> Done                   let go of all that belongs to a query
    Health   -> Healthy                load, memory, clock
    Echo     -> Rows                   as many bytes back: the latency of the way
    Offer    -> Made                   as many bytes as a piece: the rate of the way

Whatever goes wrong is a `Failed`. Decoding builds the structs below and plain values; a request
names datasets, never paths, and a message that is too long is refused before it is decoded.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from wherry.base.errors import (
    CorruptError,
    InputError,
    Refused,
    Retryable,
    WherryError,
)
from wherry.data.decoding import Packed, Reading
from wherry.data.types import Plain

VERSION: Final = 1
REQUEST_BYTES_MAX: Final = 1 << 20
"""A longer request is refused unread, unless it installs or gives something."""
INSTALL_BYTES_MAX: Final = 64 << 20
"""Of a plan, a directory, the rows of a join, or rows that a caller gives."""
TAKE_S: Final = 60.0
"""Taking a piece from another agent takes no longer."""
ECHO_BYTES_MAX: Final = 1 << 16
OFFER_BYTES_MAX: Final = 256 << 20
SAMPLE_ROWS_MAX: Final = 1 << 16
CHUNKS_MAX: Final = 1 << 16
"""Chunks that one request names."""

PieceId: TypeAlias = tuple[int, int]
Chunks: TypeAlias = tuple[tuple[int, int, int, int, int], ...]
"""Neighbouring chunks: fragment, batch, offset, rows, and how many batches in a row."""


class Message(msgspec.Struct, frozen=True, tag_field="t", forbid_unknown_fields=True):
    """A request or a reply."""


class Hello(Message, frozen=True, tag="hello"):
    """The first of every caller: which version of this module it speaks."""

    version: int = VERSION


class Welcome(Message, frozen=True, tag="welcome"):
    """Who answers.

    Attributes
    ----------
    name, profile : str
        Of the agent: the device's name, and the JSON of its profile.
    emulated : bool
        Whether its time is modelled by the profile.
    life : bytes
        16 bytes that no other life of the agent had.
    key_id, key : int, bytes
        A key for this caller's continuations.
    lease_s : float
        How long pieces are kept that nobody speaks of.
    clock_ns : int
        The agent's Unix time.
    """

    name: str
    profile: bytes
    emulated: bool
    life: bytes
    key_id: int
    key: bytes
    lease_s: float
    clock_ns: int


class List(Message, frozen=True, tag="list"):
    """Which datasets the caller may read."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A file or table of a dataset.

    Attributes
    ----------
    label : str
        Its name, without a folder.
    identity : bytes
        Digest that changes with what is stored.
    nbytes : int
        As stored; 0 if unknown.
    rows : tuple of int
        Of each stored batch.
    decodes : bool
        Whether reading writes columns.
    constants : dict
        Plain images of the columns that the path says, by name.
    """

    label: str
    identity: bytes
    nbytes: int
    rows: tuple[int, ...]
    decodes: bool
    constants: dict[str, Plain]


class Dataset(msgspec.Struct, frozen=True, array_like=True):
    """What an agent has of a dataset: the schema as Arrow IPC, and the parts in stored order."""

    name: str
    schema: bytes
    parts: tuple[Part, ...]


class Listed(Message, frozen=True, tag="listed"):
    """The datasets that the caller may read, and of those that cannot be read the reason."""

    datasets: tuple[Dataset, ...]
    unreadable: tuple[tuple[str, str], ...] = ()


class Measure(Message, frozen=True, tag="measure"):
    """What is known of one column of a dataset."""

    dataset: str
    column: str


class Bound(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a column of a stored batch, as plain images."""

    min: Plain
    max: Plain
    nulls: int | None
    nans: bool


class Bounds(Message, frozen=True, tag="bounds"):
    """By part and stored batch."""

    parts: tuple[tuple[Bound, ...], ...]


class Unpack(Message, frozen=True, tag="unpack"):
    """What reading these columns of a dataset takes that is not a reference."""

    dataset: str
    columns: tuple[str, ...]


class Unpacking(msgspec.Struct, frozen=True, array_like=True):
    """See `wherry.data.decoding.Decoding`."""

    columns: tuple[str, ...]
    stored_bytes: int
    why: str
    codec: str


class Unpacked(Message, frozen=True, tag="unpacked"):
    """By part and stored batch; None: nothing."""

    parts: tuple[tuple[Unpacking | None, ...], ...]


class Sample(Message, frozen=True, tag="sample"):
    """Rows of a dataset to look at: `SAMPLE_ROWS_MAX` at most; parts as the agent lists them."""

    dataset: str
    chunks: Chunks
    columns: tuple[str, ...]


class Rows(Message, frozen=True, tag="rows"):
    """An Arrow IPC stream, or as many bytes as were asked for."""

    body: bytes


PLAN: Final = "plan"
BUILD: Final = "build"
DIRECTORY: Final = "directory"


class Install(Message, frozen=True, tag="install"):
    """Bytes that are kept by the digest that the agent computes: a plan, a build, a directory."""

    what: str
    body: bytes


class Done(Message, frozen=True, tag="done"):
    """It is done."""


class Receive(Message, frozen=True, tag="receive"):
    """A continuation, sealed with key `key_id`; the hop belongs to stage `stage`."""

    key_id: int
    stage: int
    message: bytes


class Accepted(Message, frozen=True, tag="accepted"):
    """The continuation is open, and everything that it names is here."""


class Lacks(Message, frozen=True, tag="lacks"):
    """The agent lacks a plan, a build or a directory; the digest names the build."""

    what: str
    digest: bytes


class Route(Message, frozen=True, tag="route"):
    """Choose the chunks of a query whose continuation for stage -1 is here."""

    query: bytes
    epoch: int


class Routed(Message, frozen=True, tag="routed"):
    """The chunks that can hold an answer, in stored order."""

    chunks: Chunks


class Read(Message, frozen=True, tag="read"):
    """Make chunks of the agent's own a piece, for whoever fetches it.

    The sealed message is that of the device which will run them; it names the chunks.
    """

    key_id: int
    message: bytes
    chunk: int
    chunks: Chunks


class Run(Message, frozen=True, tag="run"):
    """Run stage `stage` of a query over pieces, or over chunks of the agent's own.

    Attributes
    ----------
    pieces : tuple of (int, int)
        In order, if `chunks` is empty.
    reading : Reading, optional
        What it took to have the piece in memory, charged to who uses it first.
    """

    query: bytes
    epoch: int
    stage: int
    chunk: int
    pieces: tuple[PieceId, ...]
    chunks: Chunks = ()
    reading: Reading | None = None


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """What the run of a program came to.

    Attributes
    ----------
    rows_in, rows_selected : int
        See `wherry.run.carrier.Count`.
    work : tuple of int
        Fields of `wherry.devices.work.Work`.
    core_ns : int
        Of one core; modelled or measured, as `Welcome` says of the agent.
    ledger : tuple of (int, int, str)
        Bytes referenced, bytes copied, why.
    """

    rows_in: int
    rows_selected: int
    work: tuple[int, ...]
    packed: tuple[Packed, ...]
    core_ns: int
    residuals: tuple[str, ...]
    ledger: tuple[tuple[int, int, str], ...]


class Made(Message, frozen=True, tag="made"):
    """A piece is here now.

    Attributes
    ----------
    rows, nbytes : int
        Of the piece; as stored if it was only read.
    ticket : bytes
        Lets whoever shows it take the piece.
    reading : Reading, optional
        What reading it came to, if something was decoded.
    spent : Spent, optional
        If a program ran.
    moved : (int, int, str)
        Bytes referenced, bytes copied and why, if it was fetched.
    """

    rows: int
    nbytes: int
    ticket: bytes = b""
    reading: Reading | None = None
    spent: Spent | None = None
    moved: tuple[int, int, str] = (0, 0, "")


class Fetch(Message, frozen=True, tag="fetch"):
    """Take piece `piece` from the agent at `address`, which gave out the ticket."""

    query: bytes
    epoch: int
    piece: PieceId
    address: str
    ticket: bytes


class Give(Message, frozen=True, tag="give"):
    """Rows that the caller has, as an Arrow IPC stream: they become piece `piece`."""

    query: bytes
    epoch: int
    piece: PieceId
    body: bytes


class Renew(Message, frozen=True, tag="renew"):
    """Keep what belongs to these queries for another lease."""

    queries: tuple[bytes, ...]


class Release(Message, frozen=True, tag="release"):
    """Let go of all that belongs to a query, in this and earlier epochs."""

    query: bytes


class Health(Message, frozen=True, tag="health"):
    """How the agent is."""


class Healthy(Message, frozen=True, tag="healthy"):
    """How the agent is.

    Attributes
    ----------
    life, clock_ns
        As in `Welcome`.
    busy : float
        Share of the last seconds that its slots for work were taken.
    taken : float
        Share of it that another query of the tenant cannot count on: see `wherry.serve.load`.
    running, waiting : int
        Programs that run, and requests that wait for their turn.
    wait_s : float
        How long one that came now would wait for its turn.
    queries, pieces : int
        That it keeps.
    segment_bytes : int
        Memory of segments in use.
    datasets : int
        That the caller may read.
    """

    life: bytes
    clock_ns: int
    busy: float
    taken: float
    running: int
    waiting: int
    wait_s: float
    queries: int
    pieces: int
    segment_bytes: int
    datasets: int


class Echo(Message, frozen=True, tag="echo"):
    """Answer with `nbytes` bytes, `ECHO_BYTES_MAX` at most."""

    nbytes: int


class Offer(Message, frozen=True, tag="offer"):
    """Make a piece of zeros, of `nbytes` bytes, `OFFER_BYTES_MAX` at most, to be taken."""

    query: bytes
    nbytes: int


class Failed(Message, frozen=True, tag="failed"):
    """It could not be done.

    Attributes
    ----------
    kind : str
        A name of `KINDS`.
    text : str
        What, where, what was seen, what is possible.
    again_s : float
        When to ask again, if that may help; 0 otherwise.
    reasons : tuple of str
        Of a `Refused`.
    """

    kind: str
    text: str
    again_s: float = 0.0
    reasons: tuple[str, ...] = ()


Request = (
    Hello | List | Measure | Unpack | Sample | Install | Receive | Route | Read | Run | Fetch
    | Give | Renew | Release | Health | Echo | Offer
)  # fmt: skip
Reply = (
    Welcome | Listed | Bounds | Unpacked | Rows | Done | Accepted | Lacks | Routed | Made
    | Healthy | Failed
)  # fmt: skip

KINDS: Final[dict[str, type[WherryError]]] = {
    "InputError": InputError,
    "CorruptError": CorruptError,
    "Retryable": Retryable,
    "WherryError": WherryError,
}

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final = msgspec.msgpack.Decoder(Request)
_replies: Final = msgspec.msgpack.Decoder(Reply)


def to_bytes(message: Message) -> bytes:
    """Give a request or a reply as it travels."""
    return _encoder.encode(message)


def request_of(data: bytes) -> Any:
    """Read a request.

    Raises
    ------
    CorruptError
        If it is too long, not msgpack, no request, or has a field of another type.
    """
    if len(data) > INSTALL_BYTES_MAX + REQUEST_BYTES_MAX:
        raise CorruptError(f"request of {len(data)} bytes; possible: {INSTALL_BYTES_MAX}")
    try:
        found = _requests.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise CorruptError(f"request of {len(data)} bytes: {problem}") from None
    if len(data) > REQUEST_BYTES_MAX and not isinstance(found, Install | Give):
        tag = type(found).__struct_config__.tag
        raise CorruptError(f"request {tag!r} of {len(data)} bytes; possible: {REQUEST_BYTES_MAX}")
    return found


def reply_of(data: bytes) -> Any:
    """Read a reply, which may be a `Failed`.

    Raises
    ------
    CorruptError
        If it is not msgpack, no reply, or has a field of another type.
    """
    try:
        return _replies.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise CorruptError(f"reply of {len(data)} bytes: {problem}") from None


def failed(problem: WherryError) -> Failed:
    """Give what an agent answers for an error."""
    if isinstance(problem, Refused):
        return Failed("Refused", problem.message, 0.0, problem.reasons)
    kind = next((k.__name__ for k in type(problem).__mro__ if k.__name__ in KINDS), "WherryError")
    return Failed(kind, str(problem), getattr(problem, "again_s", 0.0))


def error_of(reply: Failed, device: str, hop: str = "") -> WherryError:
    """Give the error that a reply stands for; it names the device, and the hop if there is one."""
    text = reply.text if reply.text.startswith(f"{device}: ") else f"{device}: {reply.text}"
    if hop:
        text = f"{text} ({hop})"
    if reply.kind == "Refused":
        return Refused(text, reply.reasons)
    found = KINDS.get(reply.kind, WherryError)(text)
    found.again_s = reply.again_s  # type: ignore[attr-defined]
    return found
