"""Where a continuation runs: a system and datasets by name, so that another process can go on.

A frame names a dataset, never a path; what the name stands for is this node's business. A setting
that was made of tables in memory can be used, but not found again by another process: its bytes say
which dataset has to be given anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from wherry.base.errors import CorruptError, InputError, listed, unknown_name
from wherry.data.fragments import FragmentSource
from wherry.data.sharding import shard_of_value
from wherry.devices.profile import is_path
from wherry.devices.system import Dataset, System, home, load_system, system_names
from wherry.devices.this_machine import THIS_MACHINE
from wherry.flow.wire import Shard
from wherry.pipeline import Pipeline, scan

ALL_SHARDS = -1


class _Stored(msgspec.Struct, frozen=True):
    """A setting as a journal keeps it; a dataset without a path was given as a table."""

    system: str
    datasets: dict[str, list[str]]
    found_at: str
    """What `load_system` takes; empty if the system was given as an object of its own."""


_settings = msgspec.json.Decoder(_Stored)  # see wherry.base.decoders


class Setting(Struct, frozen=True):
    """A system and the datasets that movables name.

    Attributes
    ----------
    system : System
        `this-machine`, or an emulated one.
    datasets : mapping of str to Pipeline
        Each a scan of the whole dataset.
    paths : mapping of str to list of str
        Where they are stored; none for a table.
    found_at : str
        Name or path of the system; empty if it has neither.
    """

    system: System
    datasets: Mapping[str, Pipeline]
    paths: Mapping[str, list[str]]
    found_at: str = ""
    _seen_from: dict[tuple[str, str, str], System] = field(default_factory=dict)

    @property
    def modelled(self) -> bool:
        """Whether its times follow from profiles."""
        return self.system.name != THIS_MACHINE

    def dataset(self, name: str) -> Pipeline:
        """Give all rows of a dataset.

        Raises
        ------
        InputError
            If there is no such dataset here.
        """
        found = self.datasets.get(name)
        if found is None:
            raise unknown_name("dataset", name, self.datasets)
        return found

    def shard(self, name: str, key: object) -> Shard:
        """Give the shard that has a key, or all of a dataset that is not sharded."""
        whole = self.dataset(name)
        scheme = whole.source.shards
        if scheme is None:
            return self.whole(name)
        number = shard_of_value(key, whole.source.schema.field(scheme.key).type, scheme)
        return Shard(name, home(self.system, whole.source.name, number), number)

    def whole(self, name: str) -> Shard:
        """Give all shards of a dataset; its owner is the host if they lie on several devices."""
        source = self.dataset(name).source
        homes = {home(self.system, source.name, n) for n in range(max(1, source.fragments))}
        owner = homes.pop() if len(homes) == 1 else self.system.host
        return Shard(name, owner, ALL_SHARDS)

    def rows_of(self, shard: Shard) -> Pipeline:
        """Give the rows of a shard.

        Raises
        ------
        InputError
            If the dataset is sharded otherwise than when the shard was found.
        """
        whole = self.dataset(shard.dataset)
        if shard.number == ALL_SHARDS:
            return whole
        source = whole.source
        if not isinstance(source, FragmentSource) or not 0 <= shard.number < source.fragments:
            raise InputError(
                f"dataset {shard.dataset!r} has {source.fragments} shards; wanted {shard.number}"
            )
        part = FragmentSource(
            source.name, source.schema, source.parts[shard.number : shard.number + 1], None,
            source.constants[shard.number : shard.number + 1],
        )  # fmt: skip
        return scan(part)

    def seen_from(self, client: str, dataset: str = "", owner: str = "") -> System:
        """Give the system as asked from `client`; `dataset`, if named, lies on `owner`."""
        key = (client, dataset, owner)
        found = self._seen_from.get(key)
        if found is None:
            lies = (Dataset(dataset, (owner,), "files"),) if dataset else ()
            found = replace(self.system, client=client, datasets=(*lies, *self.system.datasets))
            self._seen_from[key] = found
        return found


def setting(system: str | Path | System, datasets: Mapping[str, object]) -> Setting:
    """Open datasets on a system.

    Parameters
    ----------
    datasets : mapping of str to what `scan` takes, or a Pipeline that only scans
        By the name that movables use.

    Raises
    ------
    InputError
        If one of them cannot be scanned, or is a pipeline with operators; if devices of the system
        are agents, which run no movables.
    """
    found = system if isinstance(system, System) else load_system(system)
    if found.agents:
        raise InputError(
            f"movables do not run at agents, and {found.name} has {listed(list(found.agents))}; "
            "possible: a system without agents, or pipelines, which run at them"
        )
    opened: dict[str, Pipeline] = {}
    paths: dict[str, list[str]] = {}
    for name, data in datasets.items():
        opened[name] = data if isinstance(data, Pipeline) else scan(data)
        if opened[name].operators:
            raise InputError(f"dataset {name!r} has operators; a movable applies them itself")
        paths[name] = _paths(data)
    return Setting(found, opened, paths, _found_at(system))


def to_bytes(given: Setting) -> bytes:
    """Give a setting as a journal keeps it."""
    names = dict(sorted(given.paths.items()))
    return msgspec.json.encode(_Stored(given.system.name, names, given.found_at))


def from_bytes(
    data: bytes, given: Mapping[str, object], system: str | Path | System | None = None
) -> Setting:
    """Open what `to_bytes` wrote; datasets that are `given` replace those of its paths.

    Parameters
    ----------
    system : str, path or System, optional
        Stands for a system that was given as an object.

    Raises
    ------
    InputError
        If a dataset was a table in memory, or the system an object, and is not given.
    CorruptError
        If the bytes are no setting.
    """
    stored = _stored(data)
    lacking = [name for name, paths in stored.datasets.items() if not paths and name not in given]
    if lacking:
        raise InputError(
            f"dataset {lacking[0]!r} was a table in memory of another process; give it anew: "
            f"--dataset {lacking[0]}=PATH"
        )
    where = stored.found_at or system
    if where is None:
        raise InputError(
            f"system {stored.system!r} was an object of another process; give it anew: "
            f"--system FILE.toml"
        )
    return setting(where, {**stored.datasets, **given})


def described(data: bytes) -> tuple[str, dict[str, list[str]]]:
    """Give the system's name and the datasets' paths, without opening them.

    Raises
    ------
    CorruptError
        If the bytes are no setting.
    """
    stored = _stored(data)
    return stored.system, stored.datasets


def _stored(data: bytes) -> _Stored:
    try:
        return _settings.decode(data)
    except msgspec.DecodeError as problem:
        raise CorruptError(f"{len(data)} bytes are no setting: {problem}") from None


def _found_at(system: str | Path | System) -> str:
    if isinstance(system, System):
        shipped = system.name in system_names() and load_system(system.name) == system
        return system.name if shipped else ""
    return str(Path(system).resolve()) if is_path(system) else str(system)


def _paths(data: object) -> list[str]:
    if isinstance(data, str | Path):
        return [str(Path(data).resolve())]
    if isinstance(data, list | tuple) and all(isinstance(item, str | Path) for item in data):
        return [str(Path(item).resolve()) for item in data]
    return []
