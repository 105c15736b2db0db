"""Stop a query after some of its chunks, put it away as bytes, and go on elsewhere.

A query that merges has made partial aggregates, candidates or rows that passed, which wait for the
rest; they are its state. One whose operators work row by row has delivered the rows of those chunks
already, and its state is a cursor.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, InputError
from wherry.data.chunk import ChunkRef
from wherry.data.segment import SegmentPool
from wherry.data.types import Plain, to_plain
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.build import Build
from wherry.ir.types import is_build, type_to_text
from wherry.ops.operator import Declared
from wherry.plan.joins import with_builds
from wherry.plan.query import Query, segment_schemas
from wherry.render.gather import Piece, batches_of, several
from wherry.run.condense import condensed
from wherry.run.continuation import runs_of
from wherry.run.orders import Leg
from wherry.run.suspended import State, freeze, thaw
from wherry.session import Options, Result, SystemLike, carry

KEY_BYTES: Final = 64
"""Of a key at most: what BLAKE2b takes."""


class Suspended(Struct, frozen=True, eq=False):
    """A query that stopped after some of its chunks.

    Attributes
    ----------
    state : State
        All that is needed to go on, besides the pipeline and its data.
    result : Result or None
        The account of the run that stopped here; None if it was read from bytes. Its table has the
        rows of that run's chunks if they need no others, and none if they wait for the rest.
    """

    state: State
    result: Result | None = None

    def __repr__(self) -> str:
        of = f"{self.chunks} chunks of {self.state.dataset!r}"
        return f"<suspended after {of}; {self.rows} rows wait for the rest>"

    @property
    def chunks(self) -> int:
        """How many chunks are done, in stored order, of those that can hold an answer."""
        return self.state.chunks

    @property
    def rows(self) -> int:
        """How many rows came of them and wait for the rest."""
        return self.state.rows

    def to_bytes(self, key: bytes = b"") -> bytes:
        """Give the query as bytes, sealed with `key`.

        Parameters
        ----------
        key : bytes
            At most 64; who lacks it cannot make bytes that are read. Without one the seal shows
            damage, and no forgery.
        """
        return freeze(self.state, _key(key))

    @classmethod
    def from_bytes(cls, data: bytes, key: bytes = b"") -> Suspended:
        """Read what `to_bytes` gave, with the same key.

        Raises
        ------
        CorruptError
            If it is not whole, or sealed with another key.
        """
        return cls(thaw(bytes(data), _key(key)))


def suspend(
    declared: Declared,
    system: SystemLike = THIS_MACHINE,
    options: Options | None = None,
    *,
    after: int,
    since: Suspended | None = None,
) -> Suspended:
    """Run a pipeline on a system until `after` chunks went through, and stop there.

    Parameters
    ----------
    after : int
        Chunks of this run, in stored order; fewer if no more are left, or if they have enough rows.
    since : Suspended, optional
        Where an earlier run of the same pipeline stopped; the first chunk if not given.

    Raises
    ------
    InputError
        If the pipeline, its constants or its data are not those that were suspended.
    CorruptError
        If what was suspended does not fit the pipeline's plan.
    """
    if type(after) is not int or after < 0:
        raise InputError(f"suspend: after is {after!r}; possible: a number of chunks, 0 or more")
    ready, begin = _with_sides(declared, since), _Begin(since, after)
    carried = carry(ready, system, options or Options(), begin)
    query = carried.query
    done = (*begin.done(query), *carried.chunks)
    parts: tuple[pa.RecordBatch, ...] = ()
    if _merge(query) is not None:
        kept = () if since is None else since.state.parts
        made = [batch for piece in carried.pieces for batch in batches_of(piece)]
        parts = tuple(part for part in (*kept, *made) if part.num_rows)
        parts = condensed(query.plan, query.literals, parts, SegmentPool())
    state = State(
        plan=query.plan_digest,
        dataset=query.plan.dataset,
        fingerprint=query.plan.fingerprint,
        values=_values(query),
        runs=tuple(runs_of(done)),
        parts=parts,
        builds=carried.builds,
    )
    return Suspended(state, carried.result)


def resume(
    declared: Declared,
    suspended: Suspended,
    system: SystemLike = THIS_MACHINE,
    options: Options | None = None,
) -> Result:
    """Run what is left of a pipeline; give the whole answer, or what was not delivered yet.

    Raises
    ------
    InputError
        If the pipeline, its constants or its data are not those that were suspended.
    CorruptError
        If what was suspended does not fit the pipeline's plan.
    """
    ready = _with_sides(declared, suspended)
    return carry(ready, system, options or Options(), _Begin(suspended, None)).result


class _Begin(Struct, frozen=True, eq=False):
    """Where a run of a query begins and stops, once it is known that it is that query."""

    since: Suspended | None
    stop: int | None

    def __call__(self, query: Query) -> tuple[Leg, Piece | None]:
        done = self.done(query)
        parts = () if self.since is None else self.since.state.parts
        if not parts:
            return Leg(done, None, self.stop), None
        rows = sum(part.num_rows for part in parts)
        return Leg(done, rows, self.stop), several(parts)

    def done(self, query: Query) -> tuple[ChunkRef, ...]:
        """Give the chunks that are done, having looked whether all of it fits the query."""
        if self.since is None:
            return ()
        state = self.since.state
        _check_same(query, state)
        _check_parts(query, state)
        done = query.chunks[: state.chunks]
        if tuple(runs_of(done)) != state.runs:
            raise CorruptError("suspended query: its chunks are not the first ones of its plan")
        return done


def _check_same(query: Query, state: State) -> None:
    plan = query.plan
    if state.dataset != plan.dataset:
        raise InputError(
            f"the query was suspended over dataset {state.dataset!r}, not {plan.dataset!r}"
        )
    if state.fingerprint != plan.fingerprint:
        raise InputError(
            f"dataset {plan.dataset!r} changed after the query was suspended (rows in memory count "
            "as changed wherever else they lie); run it anew"
        )
    if state.plan != query.plan_digest:
        raise InputError(
            f"another pipeline over {plan.dataset!r} was suspended: its plan is "
            f"{state.plan.hex()}, and that of this one {query.plan_digest.hex()}"
        )
    # As text, because 0.0 and -0.0 are equal.
    mine = _values(query)
    if repr(mine) != repr(state.values):
        pairs = zip(mine, state.values, strict=False)
        one, other = next((pair for pair in pairs if repr(pair[0]) != repr(pair[1])), (mine, None))
        raise InputError(f"the pipeline has constant {one!r} where the suspended one has {other!r}")


def _check_parts(query: Query, state: State) -> None:
    if not state.parts:
        return
    merge, seen = _merge(query), state.parts[0].schema
    if merge is None:
        raise CorruptError("suspended query: it has rows, and nothing where they would meet others")
    wanted = segment_schemas(query.plan)[merge]
    if seen.names != wanted.names or seen.types != wanted.types:
        raise CorruptError(
            f"suspended query: its rows have columns {_listed(seen)}, not {_listed(wanted)}"
        )


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {type_to_text(f.type)}" for f in schema) or "none"


def _merge(query: Query) -> int | None:
    kinds = [segment.kind for segment in query.segments]
    return kinds.index("merge") if "merge" in kinds else None


def _values(query: Query) -> tuple[Plain, ...]:
    # A build is told by its rows, which are there.
    return tuple(None if is_build(v.type) else to_plain(v.value) for v in query.literals)


def _with_sides(declared: Declared, since: Suspended | None) -> Declared:
    """Give the pipeline with the other sides of its joins as they were when it began."""
    if since is None:
        return declared
    left = list(since.state.builds)

    def next_side(side: Declared, keys: int) -> Build:
        if not left:
            raise CorruptError("suspended query: it lacks the rows of a join")
        build = left.pop(0)
        seen, wanted = build.batch.schema, side.schema
        same = seen.names == wanted.names and seen.types == wanted.types
        if not same or build.known.keys != keys:
            raise CorruptError(
                f"suspended query: the rows of a join have columns {_listed(build.batch.schema)}, "
                f"not {_listed(side.schema)}"
            )
        return build

    ready = with_builds(declared, next_side)
    if left:
        raise CorruptError("suspended query: it has the rows of more joins than the pipeline")
    return ready


def _key(key: bytes) -> bytes:
    if len(key) > KEY_BYTES:
        raise InputError(f"a key of {len(key)} bytes; possible: {KEY_BYTES} at most")
    return key
