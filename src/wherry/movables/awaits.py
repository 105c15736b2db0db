"""What each kind of await does at the node that carries it out, and which node that should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import InputError
from wherry.devices.system import lanes
from wherry.flow.nodes import Awaits, Chain, Gather, RespondWith, RouteTo, ScanOf, TakeValue
from wherry.flow.wire import Rows
from wherry.movables.chains import Ready, place, ready, reference, run_at
from wherry.movables.setting import Setting
from wherry.movables.stores import Stores
from wherry.run.delivery import Kept
from wherry.run.receipts import NOTHING, Amounts, total
from wherry.session import Options

_PLACES_KEPT = 1024


class Around(Struct):
    """What awaits are carried out with: the same at every node of a process.

    Attributes
    ----------
    setting : Setting
        The system and the datasets.
    stores : Stores
        Rows that steps left.
    options : Options
        How pipelines run.
    """

    setting: Setting
    stores: Stores
    options: Options = field(default_factory=Options)
    _places: dict[tuple[Chain, object], str] = field(default_factory=dict)

    def place(self, chain: Chain, operands: Sequence[Any]) -> str:
        """Give the node where a chain's answer would be made; planned once for each source."""
        values = dict(zip(chain.inputs, operands, strict=True))
        source = chain.source
        start = source.dataset if isinstance(source, ScanOf) else values[source.name]
        if isinstance(start, Rows):
            start = (start.owner, start.num_rows.bit_length(), start.num_columns)
        key = (chain, start)
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= _PLACES_KEPT:
                self._places.clear()
            planned = ready(chain, operands, self.setting, self.stores)
            found = self._places[key] = place(planned, self.setting, self.options)
        return found


class Done(Struct):
    """For which continuation an await is carried out, what that used, and the rows that it left."""

    id: bytes
    used: Amounts = NOTHING
    kept: list[Kept] = field(default_factory=list)


def carry_out(
    node: str,
    awaits: Awaits,
    operands: tuple[Any, ...],
    *,
    around: Around,
    until_ns: int,
    done: Done,
) -> Any:
    """Carry an await out at a node and give its result; `done` takes what that used.

    Parameters
    ----------
    until_ns : int
        When the lease of rows that it makes ends, in Unix nanoseconds.
    """
    setting, stores = around.setting, around.stores
    match awaits:
        case RouteTo(dataset, True):
            return setting.shard(dataset, operands[0])
        case RouteTo(dataset):
            return setting.whole(dataset)
        case Chain() as chain:
            return _ran(node, [ready(chain, operands, setting, stores)], around, until_ns, done)[0]
        case Gather(chains):
            parts = zip(chains, _cut(chains, operands), strict=True)
            several = [ready(chain, part, setting, stores) for chain, part in parts]
            return tuple(_ran(node, several, around, until_ns, done))
        case TakeValue(column):
            return _only_value(stores.rows(operands[0].key, operands[0].owner), column)
        case RespondWith():
            stores.rows(operands[0].key, operands[0].owner)
            return operands[0]
    raise InputError(f"{type(awaits).__name__} is home's to carry out")


def node_for(awaits: Awaits, operands: tuple[Any, ...], around: Around) -> str:
    """Give the node that should carry an await out."""
    setting = around.setting
    match awaits:
        case RouteTo():
            return _router(setting)
        case Chain() as chain:
            return around.place(chain, operands)
        case Gather(chains):
            parts = zip(chains, _cut(chains, operands), strict=True)
            nodes = {around.place(chain, part) for chain, part in parts}
            return nodes.pop() if len(nodes) == 1 else setting.system.host
        case TakeValue() | RespondWith():
            return str(operands[0].owner)
    return setting.system.client


def refers(values: tuple[Any, ...]) -> list[Rows]:
    """Give the rows that values refer to."""
    found = []
    for value in values:
        if isinstance(value, Rows):
            found.append(value)
        elif isinstance(value, tuple):
            found += refers(value)
    return found


def _ran(node: str, chains: list[Ready], around: Around, until_ns: int, done: Done) -> list[Rows]:
    tables, used = run_at(node, chains, around.setting, around.options)
    done.used = total([done.used, used])
    rows = [reference(node, table, until_ns, around.stores, done.id) for table in tables]
    done.kept += [Kept(one.key, one.nbytes) for one in rows]
    return rows


def _cut(chains: Sequence[Chain], operands: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    found, first = [], 0
    for chain in chains:
        last = first + len(chain.inputs)
        found.append(operands[first:last])
        first = last
    return found


def _only_value(rows: pa.Table, column: str) -> object:
    if column not in rows.schema.names:
        names = ", ".join(rows.schema.names)
        raise InputError(f"wherry.value: no column {column!r}; columns: {names}")
    if rows.num_rows != 1:
        raise InputError(f"wherry.value: {column!r} of {rows.num_rows} rows; it takes exactly one")
    return rows.column(column)[0].as_py()


def _router(setting: Setting) -> str:
    """Give the first device on the way from the client to the host that runs programs."""
    system = setting.system
    if system.client in system.devices:
        return system.client
    way = (lane.target for lane in lanes(system, system.client, system.host))
    able = (n for n in way if n in system.devices and system.devices[n].runs_programs)
    return next(able, system.host)
