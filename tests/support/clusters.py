"""Systems of agents in this process, each with a twin: the same devices without any agent.

Agents are threads that listen at Unix sockets in a folder of the test. The twin reads the same
fragments, and knows the same homes: whatever it is asked has the same answer, and when times are
modelled the same timeline.
"""

from __future__ import annotations

import gc
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace
from pyarrow import ipc, parquet

from wherry import Pipeline, Result, load_system
from wherry.data.fragments import FragmentSource
from wherry.data.ledger import LedgerEntry
from wherry.devices.system import System
from wherry.devices.topology import Dataset
from wherry.ops.join import Join
from wherry.serve import live
from wherry.serve.agent import Agent, Asked
from wherry.serve.far import FarSource
from wherry.serve.received import BY_DESCRIPTOR, BY_REFERENCE, CARRIED
from wherry.serve.remote import GIVEN
from wherry.session import Options, run, source_at

SYSTEM = "dpu-csd-host"
"""A client, a DPU, two drives and a host; all but the client can be agents."""
DRIVES = ("csd0", "csd1")
OUTSIDE = "memory outside of segments"
HANDED_OVER = frozenset({BY_DESCRIPTOR, BY_REFERENCE, GIVEN, OUTSIDE, CARRIED})
"""Why rows went from one device to another: a twin has all of them in one process."""


class Cluster:
    """Agents that listen, and the systems to reach them by.

    Attributes
    ----------
    system, twin : System
        With agents, and without.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = ("csd0", "csd1", "dpu0"),
        *,
        emulate: bool = True,
        lease_s: float = 15.0,
        flight: bool = False,
    ) -> None:
        # The path of a socket is short, that of a test's folder may not be.
        self._sockets = tempfile.TemporaryDirectory(prefix="wa")
        self.folder, base = folder, load_system(SYSTEM)
        self.twin = replace(base, name=f"twin {folder.name}", datasets=())
        addresses = {
            name: f"grpc://127.0.0.1:{_port()}" if flight else f"unix:{self._sockets.name}/{name}"
            for name in names
        }
        self.system = replace(self.twin, name=folder.name, agents=addresses)
        self.agents: dict[str, Agent] = {}
        for name, address in addresses.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            asked = Asked(
                name, base.devices[name], (address,), folder / name, emulate, lease_s=lease_s
            )
            self.agents[name] = Agent(asked)

    def close(self) -> None:
        """End all agents."""
        for key, there in list(live._open.items()):
            if set(there.system.agents.values()) & set(self.system.agents.values()):
                live._open.pop(key).close()
        for agent in self.agents.values():
            agent.close()
        self._sockets.cleanup()
        gc.collect()

    def scan(self, name: str, system: System | None = None) -> Pipeline:
        """Scan a dataset of the agents."""
        source = source_at(system or self.system, name)
        return Pipeline(source, (), source.schema)

    def near(self, pipeline: Pipeline) -> tuple[Pipeline, System]:
        """Give a pipeline and a system that are the twins of what agents are asked."""
        homes: dict[str, tuple[str, ...]] = {}
        found = self._near(pipeline, homes)
        # What no agent has lies with the host, as its callers' own tables do.
        homes["*"] = (self.twin.host,)
        where = tuple(
            Dataset(name=name, devices=devices, layout="files") for name, devices in homes.items()
        )
        return found, replace(self.twin, datasets=where)

    def _near(self, pipeline: Pipeline, homes: dict[str, tuple[str, ...]]) -> Pipeline:
        operators = tuple(
            replace(each, side=self._near(each.side, homes)) if isinstance(each, Join) else each
            for each in pipeline.operators
        )
        far = pipeline.source
        if not isinstance(far, FarSource):
            return replace(pipeline, operators=operators)
        homes[far.name] = tuple(holders[0] for holders in far.holders)
        return replace(pipeline, source=self.local(far), operators=operators)

    def local(self, far: FarSource) -> FragmentSource:
        """Give the fragments that agents have of a dataset as one source."""
        parts, constants = [], []
        for place in far.directory.places:
            holder, number = place.holders[0]
            source = self.agents[holder].station.catalogue.source(far.name)
            parts.append(source.parts[number])
            constants.append(source.constants[number] if source.constants else {})
        fixed = tuple(constants) if any(constants) else ()
        return FragmentSource(far.name, far.schema, tuple(parts), None, fixed)

    def both(self, pipeline: Pipeline, options: Options | None = None) -> tuple[Result, Result]:
        """Run a pipeline at the agents, and at the twin."""
        chosen = options or Options()
        near, twin = self.near(pipeline)
        return run(pipeline, self.system, chosen), run(near, twin, chosen)


def _port() -> int:
    """Give a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def cluster(folder: Path, *names: str, **how: object) -> Iterator[Cluster]:
    """Give agents that end with the block."""
    found = Cluster(folder, names or ("csd0", "csd1", "dpu0"), **how)  # type: ignore[arg-type]
    try:
        yield found
    finally:
        found.close()


def store(
    folder: Path,
    table: pa.Table,
    name: str,
    *,
    parts: int = 2,
    rows: int | None = None,
    form: str = "arrow",
    agents: Sequence[str] = DRIVES,
    compression: str | None = None,
) -> None:
    """Deal a table into files, part i to agent i mod n, in batches of so many rows."""
    size = -(-table.num_rows // parts)
    for number in range(parts):
        piece = table.slice(number * size, size)
        path = folder / agents[number % len(agents)] / name / f"part-{number:02}.{form}"
        write(path, piece, rows=rows, compression=compression)


def write(
    path: Path, table: pa.Table, *, rows: int | None = None, compression: str | None = None
) -> None:
    """Write a file of the format that its name ends with, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(
            table, path, row_group_size=rows or max(1, table.num_rows), compression=compression
        )
        return
    options = ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    with ipc.new_file(path, table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=rows):
            writer.write_batch(batch)


def check_same(far: Result, near: Result, *, modelled: bool = True) -> None:
    """Check that an answer is the same and, if times are modelled, its whole account.

    Hand-overs are the agents' alone. Dictionaries that the caller's own devices gave to agents are
    one for each piece there, and counted so: bytes that are referenced are not compared then.
    """
    assert far.table.schema.equals(near.table.schema, check_metadata=True)
    assert far.table.equals(near.table), f"{far.table} is not {near.table}"
    assert [c.to_pylist() for c in far.table.columns] == [c.to_pylist() for c in near.table.columns]
    assert far.placement == near.placement
    if not modelled:
        return
    alone = not any(map(pa.types.is_dictionary, far.table.schema.types))
    alone = alone or all(entry.why != GIVEN for entry in far.ledger.entries)
    both = ledger_of(far, referenced=alone), ledger_of(near, referenced=alone)
    assert both[0] == both[1], f"only far: {both[0] - both[1]}, only near: {both[1] - both[0]}"
    if not alone:
        return
    assert far.time == near.time
    assert far.timeline == near.timeline
    assert far.receipts == near.receipts
    assert far.usage == near.usage
    assert far.revisions == near.revisions
    assert far.evidence == near.evidence
    assert len(far.builds) == len(near.builds)
    for other, twin in zip(far.builds, near.builds, strict=True):
        check_same(other, twin)


def ledger_of(result: Result, *, referenced: bool = True) -> set[LedgerEntry]:
    """Give the entries of a ledger but those of hand-overs between devices."""
    return {
        entry if referenced else replace(entry, referenced_bytes=0)
        for entry in result.ledger.entries
        if entry.why not in HANDED_OVER
    }


def handed_over(result: Result) -> Mapping[str, tuple[int, int]]:
    """Give bytes referenced and copied on their way from one device to another, by reason."""
    found: dict[str, tuple[int, int]] = {}
    for entry in result.ledger.entries:
        if entry.why in HANDED_OVER:
            known = found.get(entry.why, (0, 0))
            found[entry.why] = (
                known[0] + entry.referenced_bytes,
                known[1] + entry.copied_bytes,
            )
    return found
