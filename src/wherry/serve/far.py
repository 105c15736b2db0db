"""Datasets that lie at agents, as sources: shape and statistics are here, rows stay there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import pyarrow as pa

from wherry.base.errors import CorruptError, InputError, listed, unknown_name
from wherry.data.chunk import ChunkRef
from wherry.data.decoding import Decoding
from wherry.data.fragments import FragmentSource
from wherry.data.statistics import ChunkStatistics
from wherry.run.continuation import runs_of
from wherry.serve import requests
from wherry.serve.deadline import together
from wherry.serve.directory import (
    Bounds,
    Directory,
    FarPart,
    Place,
    source_of,
    stored_schema,
    to_bytes,
)
from wherry.serve.links import Link
from wherry.serve.requests import Dataset, Unpacking

R = TypeVar("R", bound=requests.Message)


class FarSource:
    """A dataset at agents: a `Source` whose statistics are asked for when they are looked at.

    Parameters
    ----------
    directory : Directory
        Which parts there are, and who has each.
    links : mapping of str to Link
        The agents.
    """

    shards = None

    def __init__(self, directory: Directory, links: Mapping[str, Link]) -> None:
        self.directory, self._links = directory, links
        self._bounds: dict[str, Bounds] = {}
        self._unpacked: dict[tuple[str, ...], tuple[tuple[Unpacking | None, ...], ...]] = {}
        self._source: FragmentSource = source_of(directory, self._part)

    @property
    def name(self) -> str:
        """What the agents call it."""
        return self.directory.name

    @property
    def schema(self) -> pa.Schema:
        """Columns and types."""
        return self._source.schema

    @property
    def fragments(self) -> int:
        """How many parts it has."""
        return self._source.fragments

    @property
    def fingerprint(self) -> bytes:
        """Changes when a part does."""
        return self._source.fingerprint

    @property
    def decodes(self) -> bool:
        """Whether reading writes columns."""
        return self._source.decodes

    @cached_property
    def holders(self) -> tuple[tuple[str, ...], ...]:
        """The agents that have each part."""
        return tuple(tuple(name for name, _ in p.holders) for p in self.directory.places)

    def told(self) -> bytes:
        """Give the directory as agents are sent it, with the statistics that are known here."""
        known = dict(self._bounds)
        return to_bytes(Directory(self.name, self.directory.schema, self.directory.places, known))

    def chunks(self) -> tuple[ChunkRef, ...]:
        """Give every row once, in stored order."""
        return self._source.chunks()

    def read(self, ref: ChunkRef, columns: Sequence[str]) -> pa.RecordBatch:
        """Refuse: rows are read where they lie, and only a few, to look at, come here."""
        del ref, columns
        names = dict.fromkeys(name for holders in self.holders for name in holders)
        raise InputError(
            f"the rows of {self.name!r} are at agents ({listed(list(names))}), and are not read "
            "elsewhere; run it on the system that it was scanned of"
        )

    def few(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> list[pa.RecordBatch]:
        """Give the rows of several references, asking each agent once.

        Raises
        ------
        InputError
            If they are more than `requests.SAMPLE_ROWS_MAX` at one agent.
        """
        asked: dict[str, list[tuple[int, ChunkRef]]] = {}
        for place, ref in enumerate(refs):
            holder, number = self._holder(ref.fragment)
            mine = ChunkRef(number, ref.batch, ref.offset, ref.rows)
            asked.setdefault(holder, []).append((place, mine))
        found: dict[int, pa.RecordBatch] = {}

        def sample(holder: str) -> requests.Rows:
            chunks = tuple(runs_of([ref for _, ref in asked[holder]]))
            ask = requests.Sample(self.name, chunks, tuple(columns))
            reply: requests.Rows = self._links[holder].ask(ask, "looking at rows", requests.Rows)
            return reply

        for holder, reply in together(sample, asked).items():
            wanted = asked[holder]
            batches = _read(reply.body, f"the sample of {holder}")
            if len(batches) != len(wanted):
                raise CorruptError(f"{holder} gave {len(batches)} samples, not {len(wanted)}")
            found.update(zip((place for place, _ in wanted), batches, strict=True))
        return [found[place] for place in range(len(refs))]

    def late(self, refs: Sequence[ChunkRef], columns: Sequence[str]) -> None:
        """Give nothing: the rows are not here."""

    def decoding(self, ref: ChunkRef, columns: Sequence[str]) -> tuple[Decoding, ...]:
        """Give what reading a chunk takes that is not a reference."""
        return self._source.decoding(ref, columns)

    def statistics(self, ref: ChunkRef) -> ChunkStatistics:
        """Give the statistics of the stored batch that `ref` lies in."""
        return self._source.statistics(ref)

    def _holder(self, part: int) -> tuple[str, int]:
        for name, number in self.directory.places[part].holders:
            if not self._links[name].lost:
                return name, number
        return self.directory.places[part].holders[0]

    def _part(self, number: int) -> FarPart:
        place, schema = self.directory.places[number], stored_schema(self.directory, number)
        return FarPart(
            place,
            schema,
            lambda column: self._measured(column)[number],
            lambda columns: self._asked(tuple(columns))[number],
        )

    def _measured(self, column: str) -> Bounds:
        """Give what is known of a column, by part and stored batch; its holders are asked once."""
        # Two threads may ask for the same: that costs little, and neither waits for the other.
        if column not in self._bounds:
            ask = requests.Measure(self.name, column)
            chosen = self._chosen()
            replies = self._each(chosen, ask, f"measuring {column}", requests.Bounds)
            self._bounds[column] = tuple(replies[holder].parts[n] for holder, n in chosen)
        return self._bounds[column]

    def _asked(self, columns: tuple[str, ...]) -> tuple[tuple[Unpacking | None, ...], ...]:
        if columns not in self._unpacked:
            ask = requests.Unpack(self.name, columns)
            chosen = self._chosen()
            replies = self._each(chosen, ask, "asking what reading takes", requests.Unpacked)
            self._unpacked[columns] = tuple(replies[holder].parts[n] for holder, n in chosen)
        return self._unpacked[columns]

    def _chosen(self) -> list[tuple[str, int]]:
        return [self._holder(part) for part in range(len(self.directory.places))]

    def _each(
        self, chosen: list[tuple[str, int]], ask: requests.Message, doing: str, kind: type[R]
    ) -> dict[str, R]:
        def reply(holder: str) -> R:
            found: R = self._links[holder].ask(ask, doing, kind)
            return found

        return together(reply, dict.fromkeys(holder for holder, _ in chosen))


def _read(body: bytes, what: str) -> list[pa.RecordBatch]:
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            return list(reader)
    except (pa.ArrowException, OSError) as problem:
        raise CorruptError(f"{what}: {len(body)} bytes are no rows: {problem}") from None


def directories(
    listed: Mapping[str, Iterable[Dataset]],
) -> tuple[dict[str, Directory], dict[str, str]]:
    """Give the datasets that agents listed, parts of one name put together, and what is none.

    What has other columns at one agent than at another is none: why, by its name.

    Parts come in the order of their labels, those of one label in the order of the agents. A part
    that two agents have, by its label and identity, is one part with two holders.
    """
    odd: dict[str, str] = {}
    schemas: dict[str, tuple[str, bytes]] = {}
    places: dict[str, dict[tuple[str, bytes], Place]] = {}
    for agent, datasets in listed.items():
        for dataset in datasets:
            first, schema = schemas.setdefault(dataset.name, (agent, dataset.schema))
            if schema != dataset.schema:
                odd[dataset.name] = (
                    f"dataset {dataset.name!r} has other columns at {agent} than at {first}"
                )
            known = places.setdefault(dataset.name, {})
            for number, part in enumerate(dataset.parts):
                before = known.get((part.label, part.identity))
                holders = (*(before.holders if before else ()), (agent, number))
                known[part.label, part.identity] = Place(part, holders)
    found = {
        name: Directory(
            name, schema, tuple(sorted(places[name].values(), key=lambda place: place.part.label))
        )
        for name, (_, schema) in schemas.items()
        if name not in odd
    }
    return found, odd


def named(found: Mapping[str, Directory], name: str) -> Directory:
    """Give a directory by its name."""
    if name not in found:
        raise unknown_name("dataset", name, sorted(found))
    return found[name]
