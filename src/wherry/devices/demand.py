"""What one run of a program asks of a device: engine jobs, core time, memory traffic.

Simulator and planner charge the same demand; how busy the device is when a run begins is for them
to know. A GPU runs one program at a time on all of its cores; elsewhere a program has one core.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from wherry.data.decoding import Packed
from wherry.devices.charge import beyond_ns, engine_ns, memory_ns, start_ns, threads_ns
from wherry.devices.parts import Engine
from wherry.devices.profile import Profile
from wherry.devices.work import Work, core_ns, load_reference

Direction = Literal["compress", "decompress"]


class Job(Struct, frozen=True):
    """One job of an engine: its name, how many run at once, and the time of this one."""

    engine: str
    jobs: int
    ns: int


class Demand(Struct, frozen=True):
    """What a run asks for, in nanoseconds of a device that does nothing else.

    Attributes
    ----------
    before, after : tuple of Job
        Of engines: what is decompressed before the program runs, and compressed after it.
    core_ns : int
        Of the cores it occupies, its start included.
    memory_ns : int
        Of the whole memory bandwidth.
    alone_ns : int
        The longest of both, and of what the threads of a GPU can ask for.
    beyond_ns : int
        Of a memory that holds too much: all traffic is fetched on demand. 0 if that cannot be.
    """

    before: tuple[Job, ...]
    after: tuple[Job, ...]
    core_ns: int
    memory_ns: int
    alone_ns: int
    beyond_ns: int

    @property
    def waiting_ns(self) -> int:
        """The time of all engine jobs."""
        return sum(job.ns for job in (*self.before, *self.after))


def programs_at_once(profile: Profile) -> int:
    """Give how many programs a device runs at the same time."""
    if profile.cores is None or profile.device.kind == "gpu":
        return 1
    return profile.cores.count.value


def demand(profile: Profile, work: Work, *, rows: int = 0, packed: Iterable[Packed] = ()) -> Demand:
    """Give what a run of a program asks of a device.

    Parameters
    ----------
    work : Work
        All of it, what engines could do included.
    rows : int
        Rows given: a GPU has a thread for each.
    packed : iterable of Packed
        Of what was decoded, the part that is only compressed.

    Raises
    ------
    InputError
        The device runs no programs.
    """
    traffic = work.memory_bytes
    before: list[Job] = []
    after: list[Job] = []
    on_core, left = 0, work
    for part in packed:
        engine = engine_for(profile, "decompress", part.codec)
        if engine is None:
            continue
        left = replace(left, decode_bytes=left.decode_bytes - part.written_bytes)
        on_core += _placed(engine, part.stored_bytes, before)
    for codec, nbytes in (("lz4", work.lz4_bytes), ("zstd", work.zstd_bytes)):
        engine = engine_for(profile, "compress", codec) if nbytes else None
        if engine is None:
            continue
        left = replace(left, **{f"{codec}_bytes": 0})
        on_core += _placed(engine, nbytes, after)
    core = core_ns(left, profile, load_reference()) + on_core
    if profile.device.kind == "gpu" and profile.cores is not None:
        core = -(-core // profile.cores.count.value)
    core += start_ns(profile)
    memory = memory_ns(profile, traffic)
    alone = max(core, memory, threads_ns(profile, traffic, rows))
    return Demand(
        tuple(before), tuple(after), core, memory, alone, beyond_ns(profile, traffic)
    )  # fmt: skip


def engine_for(profile: Profile, direction: Direction, codec: str) -> Engine | None:
    """Give the engine whose name says what it does: `compress-lz4`, `decompress-zstd`."""
    wanted = f"{direction}-{codec}"
    return next((engine for engine in profile.engine if engine.name == wanted), None)


def _placed(engine: Engine, nbytes: int, jobs: list[Job]) -> int:
    """Add a job to `jobs`; give the core's time instead if the codec runs on the core."""
    took = engine_ns(engine, nbytes)
    if engine.runs_on == "core":
        return took
    jobs.append(Job(engine.name, engine.jobs.value, took))
    return 0
