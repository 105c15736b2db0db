"""Chains of a program as pipelines: built from what was recorded, run where their rows lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.flow.nodes import Chain, ScanOf
from wherry.flow.record import applied, filled
from wherry.flow.wire import Rows, Shard
from wherry.movables.setting import Setting
from wherry.movables.stores import Stores, new_key
from wherry.pipeline import Pipeline, scan
from wherry.run.receipts import DIMENSIONS, Amounts
from wherry.session import Options, Result, answers_at, run_many

_IN_MEMORY = "memory"
_MICRO = 1_000_000


class Ready(Struct, frozen=True):
    """A chain that can be run: its pipeline, and where the rows that it reads lie.

    Attributes
    ----------
    dataset, owner : str
        What systems call the source, and the device that has it; empty where the system says.
    """

    pipeline: Pipeline
    dataset: str = ""
    owner: str = ""


def ready(chain: Chain, operands: Sequence[object], setting: Setting, stores: Stores) -> Ready:
    """Give the pipeline of a chain.

    Parameters
    ----------
    operands : sequence
        Values of `chain.inputs`, in order.

    Raises
    ------
    InputError
        If columns or types do not fit; the message is that of the pipeline's operator.
    LeaseEnded
        If the rows it starts from are gone.
    """
    values = dict(zip(chain.inputs, operands, strict=True))
    source = chain.source
    if isinstance(source, ScanOf):
        found = Ready(setting.dataset(source.dataset))
    else:
        found = _source(values[source.name], setting, stores)
    target: object = found.pipeline
    for call in filled(chain, tuple(operands)).calls:
        target = applied(call, target)
    if not isinstance(target, Pipeline):
        raise InputError("a chain ends with group_by(...); follow it with .agg(...)")
    return Ready(target, found.dataset, found.owner)


def _source(value: object, setting: Setting, stores: Stores) -> Ready:
    if isinstance(value, Shard):
        rows = setting.rows_of(value)
        if value.number < 0:
            return Ready(rows)
        return Ready(rows, rows.source.name, value.owner)
    if isinstance(value, Rows):
        return Ready(scan(stores.rows(value.key, value.owner)), _IN_MEMORY, value.owner)
    raise InputError(f"a chain starts with rows or a shard, not with a {type(value).__name__}")


def place(chain: Ready, setting: Setting, options: Options) -> str:
    """Give the node that should carry the chain out: where its answer would be made."""
    seen = setting.seen_from(setting.system.client, chain.dataset, chain.owner)
    return answers_at(chain.pipeline, seen, options)


def run_at(
    node: str, chains: Sequence[Ready], setting: Setting, options: Options
) -> tuple[list[pa.Table], Amounts]:
    """Run chains with the answers coming to `node`; give those, and what was used."""
    results: list[Result] = []
    for chain in chains:
        seen = setting.seen_from(node, chain.dataset, chain.owner)
        results += run_many([chain.pipeline], seen, options)
    tables = [result.table for result in results]
    return tables, _used(results, sum(table.num_rows for table in tables))


def reference(node: str, rows: pa.Table, until_ns: int, stores: Stores, id_: bytes) -> Rows:
    """Keep rows of a continuation at a node, and give what frames hold of them."""
    key = new_key(id_)
    stores.keep(key, rows)
    return Rows(node, key, rows.num_rows, rows.num_columns, rows.nbytes, until_ns)


def _used(results: Iterable[Result], rows: int) -> Amounts:
    found = dict.fromkeys(DIMENSIONS, 0)
    found["rows"] = rows
    for result in _with_builds(results):
        found["time_ns"] += result.time.ns - sum(build.time.ns for build in result.builds)
        if result.usage is not None:
            found["money_micro"] += round(sum(result.usage.expense.money_usd.values()) * _MICRO)
        for receipt in result.receipts:
            found["bytes"] += sum(receipt.link_bytes.values())
            found["iops"] += receipt.iops
            found["ram_byte_ns"] += receipt.ram_byte_ns
            found["nic_buffer_byte_ns"] += receipt.nic_buffer_byte_ns
    return tuple(found[name] for name in DIMENSIONS)


def _with_builds(results: Iterable[Result]) -> Iterable[Result]:
    for result in results:
        yield result
        yield from _with_builds(result.builds)
