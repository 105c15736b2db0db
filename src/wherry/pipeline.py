"""The builder: an immutable chain of operators; nothing runs until asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.data.encoded import Encoding, check_compression
from wherry.data.sharding import ShardScheme, cut_shards
from wherry.data.source import Source, open_source
from wherry.devices.this_machine import THIS_MACHINE
from wherry.ir.builder import Aggregate as AggregateCall
from wherry.ir.builder import Expr, Value, to_node
from wherry.ir.expr import Column, Compare, Literal, Node, Shard, all_of
from wherry.ir.resolve import resolve, resolve_condition, type_of
from wherry.ir.text import to_text
from wherry.ops.aggregate import Aggregate
from wherry.ops.arguments import (
    Key,
    check_key,
    join_keys,
    named_calls,
    named_outputs,
    row_count,
    sort_keys,
)
from wherry.ops.distinct import Distinct
from wherry.ops.filter import Filter
from wherry.ops.group_by import GroupBy
from wherry.ops.join import How, Join, join_of
from wherry.ops.limit import Limit
from wherry.ops.operator import Operator, unique_names
from wherry.ops.respond import Respond
from wherry.ops.route import SHARD_COLUMN, RouteRequest, RouteRows, route_rows
from wherry.ops.select import Select
from wherry.ops.sort import Sort, TopK
from wherry.ops.with_columns import with_columns

if TYPE_CHECKING:
    from wherry.data.arrow_write import Written
    from wherry.devices.system import System
    from wherry.plan.explain import Explanation
    from wherry.plan.objective import Objective
    from wherry.run.device_table import DeviceTable
    from wherry.session import Options, Pins, Prepared, Result, SystemLike
    from wherry.suspension import Suspended

_SHARDS_MAX = 4096


class Pipeline(Struct, frozen=True):
    """A query in the making: what to read and the operators to apply, each checked when added.

    Attributes
    ----------
    source : Source
        What is scanned.
    operators : tuple of Operator
        In the order rows meet them.
    schema : pyarrow.Schema
        The columns of the answer.
    """

    source: Source
    operators: tuple[Operator, ...]
    schema: pa.Schema

    def _then(self, operator: Operator) -> Pipeline:
        if self.operators and isinstance(self.operators[-1], Respond):
            raise InputError(f"{operator.name} after respond; respond is the last operator")
        schema = operator.schema(self.schema)
        return replace(self, operators=(*self.operators, operator), schema=schema)

    def filter(self, *predicates: Expr) -> Pipeline:
        """Keep the rows for which every predicate is true; null is not true."""
        if not predicates:
            raise InputError("filter needs at least one predicate")
        terms = tuple(resolve_condition(to_node(p), self.schema) for p in predicates)
        return self._then(Filter(all_of(terms)))

    def select(self, *columns: str | Expr, **named: Value) -> Pipeline:
        """Give exactly these columns: names, expressions with `.alias()`, or name=expression."""
        outputs = named_outputs(columns, named, self.schema, "select")
        if not outputs:
            raise InputError("select needs at least one column")
        return self._then(Select(outputs))

    def with_columns(self, *columns: Expr, **named: Value) -> Pipeline:
        """Keep every column, and add or replace these."""
        added = named_outputs(columns, named, self.schema, "with_columns")
        return self._then(with_columns(self.schema, added))

    def agg(self, *calls: AggregateCall, **named: AggregateCall) -> Pipeline:
        """Aggregate all rows into one: `agg(total=col("price").sum(), n=wherry.count())`."""
        return self._then(Aggregate(named_calls(calls, named, self.schema)))

    def group_by(self, *keys: str | Expr, **named: Value) -> Grouping:
        """Group by keys; follow with `.agg(...)`."""
        found = named_outputs(keys, named, self.schema, "group_by")
        if not found:
            raise InputError("group_by needs at least one key; agg(...) alone aggregates all rows")
        for name, node in found:
            check_key(name, type_of(node), "group_by")
        return Grouping(self, found)

    def distinct(self, *columns: str) -> Pipeline:
        """Give every different row once.

        Parameters
        ----------
        columns : str
            Give the different combinations of these columns instead, and no other column; all
            columns if none is named. Nulls count as one value, and so do all NaN.
        """
        found = named_outputs(columns or self.schema.names, {}, self.schema, "distinct")
        for name, node in found:
            check_key(name, type_of(node), "distinct")
        return self._then(Distinct(found))

    def join(
        self,
        other: object,
        on: Key | Iterable[Key] | None = None,
        *,
        left_on: Key | Iterable[Key] | None = None,
        right_on: Key | Iterable[Key] | None = None,
        how: How = "inner",
        suffix: str = "_right",
    ) -> Pipeline:
        """Join with the rows of `other` that have equal keys.

        `other` is the smaller side: it is run first, as a query of its own, and its answer goes to
        the devices where these rows are. Rows stay in stored order; the matches of a row come in
        the order of `other`.

        Parameters
        ----------
        other : Pipeline, or whatever `scan` takes
            The other side.
        on : name, expression or several
            The keys, if they are called the same on both sides.
        left_on, right_on : name, expression or several
            The keys of each side, in pairs. A null equals nothing; NaN equals NaN.
        how : str
            `inner` gives every pair of rows with equal keys; `left` also rows without a match, with
            nulls beside them; `semi` gives the rows that have a match, `anti` those that have none,
            each once and without a column of `other`.
        suffix : str
            Put behind the name of a column of `other` that is here too. Key columns of `other` are
            left out.

        Raises
        ------
        InputError
            If the keys of a pair have no type that holds every value of both.
        """
        side = other if isinstance(other, Pipeline) else scan(other)
        left, right = join_keys(on, left_on, right_on)
        if side.operators and isinstance(side.operators[-1], Respond):
            raise InputError("join: the other side ends with respond, and only answers are encoded")
        keys, operators, names = join_of(how, self.schema, side.schema, left, right, suffix=suffix)
        for operator in operators:
            side = side._then(operator)
        return self._then(Join(how, keys, names, side))

    def sort(self, *by: str, descending: bool | Iterable[bool] = False) -> Pipeline:
        """Bring rows into the order of the columns `by`; stable, nulls last."""
        return self._then(Sort(sort_keys(by, descending, self.schema, "sort")))

    def top_k(
        self, k: int, *, by: str | Iterable[str], descending: bool | Iterable[bool] = True
    ) -> Pipeline:
        """Keep the `k` largest rows by `by` (smallest with descending=False); nulls last."""
        names = (by,) if isinstance(by, str) else tuple(by)
        keys = sort_keys(names, descending, self.schema, "top_k")
        return self._then(TopK(row_count(k, "top_k"), keys))

    def limit(self, n: int) -> Pipeline:
        """Keep the first `n` rows, in stored order or the order of a sort before it."""
        return self._then(Limit(row_count(n, "limit")))

    def route(
        self,
        key: str,
        equals: Value | None = None,
        *,
        shards: int | None = None,
        bounds: Iterable[Value] | None = None,
    ) -> Pipeline:
        """Send the request to the shard that holds `key`, or split rows into shards.

        Parameters
        ----------
        key : str
            The column that decides.
        equals : value, optional
            Keep only rows whose key equals this; if the data is sharded by the key, only that
            shard is asked.
        shards : int, optional
            Split rows by hash into this many; adds int32 column `shard` and orders by it.
        bounds : values, optional
            Split rows by range: shard i holds keys below bounds[i] and not below those before.
        """
        given = [
            name
            for name, v in (("equals", equals), ("shards", shards), ("bounds", bounds))
            if v is not None
        ]
        if len(given) != 1:
            raise InputError(
                f"route needs one of equals=, shards= or bounds=; got {', '.join(given) or 'none'}"
            )
        if equals is not None:
            return self._route_request(key, equals)
        if shards is not None and not 1 <= shards <= _SHARDS_MAX:
            raise InputError(f"route: shards is {shards}; possible: 1 to {_SHARDS_MAX}")
        return self._route_rows(key, shards, tuple(bounds or ()))

    def respond(self, compression: str | None = None) -> Pipeline:
        """Let the answer travel as an Arrow IPC stream, encoded by the device that responds.

        `Result.encoded` is the stream; `Result.table` and `collect()` decode it. Compression pays
        where the answer's link is slow, and costs that device work.

        Parameters
        ----------
        compression : "lz4", "zstd" or None
            Of the stream's buffers.
        """
        return self._then(Respond(Encoding(check_compression(compression))))

    def to(self, device: str, system: SystemLike = THIS_MACHINE) -> Pipeline:
        """Load the stored columns that the pipeline reads onto a card, and give the pipeline.

        They stay there as long as the scanned source is referred to; queries that read no others
        are planned as what they are: near their data.

        Parameters
        ----------
        device : str
            Such as "gpu0".

        Raises
        ------
        InputError
            If there is no such card, or what is scanned is decoded when it is read, as Parquet is.
        Retryable
            If the columns have no room there; with how much they need.
        """
        _session().load(self, device, system)
        return self

    def explain(
        self,
        system: SystemLike = THIS_MACHINE,
        *,
        placement: Pins | None = None,
        cold: bool = False,
        objective: Objective = "time",
        load: Mapping[str, float] | None = None,
        analyze: bool = False,
    ) -> Explanation:
        """Give where the pipeline would run on a system, why, and why not elsewhere.

        `print` it, or read its fields; every predicted time in it is modelled. Parameters are
        those of `run`.

        Parameters
        ----------
        analyze : bool
            Also run the pipeline, and show predicted against actual for every term of its cost.
        """
        session = _session()
        options = session.Options(placement or {}, False, cold, objective, load or {})
        return session.explain(self, system, options, analyze=analyze)

    def run(
        self,
        system: SystemLike = THIS_MACHINE,
        *,
        placement: Pins | None = None,
        strict: bool = False,
        cold: bool = False,
        objective: Objective = "time",
        load: Mapping[str, float] | None = None,
        deadline_s: float | None = None,
        reader: str | None = None,
    ) -> Result:
        """Run the pipeline and give the answer with the account of how it was made.

        Parameters
        ----------
        system : str, path or System
            `this-machine` measures; any other system is emulated: real rows, modelled times.
        placement : mapping or "host-only", optional
            Sites for segments that must run there: `{"near": "home", "merge": "host0"}`.
        strict : bool
            Refuse if part of the query would go through pyarrow instead of a native program.
        cold : bool
            Let emulated devices lack the query's plan at first: installing it takes time, and the
            planner counts that.
        objective : "time", "money", "energy", or mapping, optional
            What the placement is chosen by; `{"time": 1.0, "energy": 0.2}` weighs them, each as a
            share of what it is on the host alone.
        load : mapping of str to float, optional
            Busy share, from 0 to below 1, of devices or resources that other tenants use:
            `{"csd0": 0.7, "link csd1->pcie0": 0.2}`; the planner counts on what is left.
        deadline_s : float, optional
            On a system with agents, give the answer or an error within so many seconds.
        reader : "pinned", "kvikio" or "gds", optional
            What brings stored bytes onto a card; the ledger says which way they took.

        Raises
        ------
        Refused
            If no placement is possible, with every reason, or if devices of the system lack the
            figures that the objective needs.
        InputError
            If there is a deadline, and no device of the system is an agent; a reader, and no card.
        Retryable
            If agents were lost, or the deadline is over: the device and its part are named.
        """
        session = _session()
        options = session.Options(
            placement or {}, strict, cold, objective, load or {}, deadline_s, reader
        )
        return session.run(self, system, options)

    def prepare(
        self,
        system: SystemLike = THIS_MACHINE,
        *,
        placement: Pins | None = None,
        strict: bool = False,
        reader: str | None = None,
    ) -> Prepared:
        """Run the pipeline here, and give it ready to be answered again by its programs alone.

        For queries so small that planning them is most of their time. Parameters are those of
        `run`.

        Raises
        ------
        InputError
            If the system is not this machine, or the pipeline has joins.

        Examples
        --------
        >>> soon = wh.scan("orders.arrow").agg(n=wh.count()).prepare()
        >>> soon.collect()
        """
        session = _session()
        options = session.Options(placement or {}, strict, reader=reader)
        return session.prepare(self, system, options)

    def suspend(
        self,
        system: SystemLike = THIS_MACHINE,
        *,
        after: int,
        since: Suspended | None = None,
        placement: Pins | None = None,
        strict: bool = False,
        cold: bool = False,
    ) -> Suspended:
        """Run the pipeline until `after` chunks went through, and stop there.

        What is left becomes bytes with `Suspended.to_bytes`, and goes on with `resume`, on any
        system, in any process that has the data.

        Parameters
        ----------
        after : int
            Chunks of this run, in stored order.
        since : Suspended, optional
            Where an earlier run of this pipeline stopped; the first chunk if not given.
        system, placement, strict, cold
            As `run` has them.

        Raises
        ------
        InputError
            If the pipeline, its constants or its data are not those that were suspended.
        """
        suspension, options = _suspension(placement, strict=strict, cold=cold)
        return suspension.suspend(self, system, options, after=after, since=since)

    def resume(
        self,
        suspended: Suspended,
        system: SystemLike = THIS_MACHINE,
        *,
        placement: Pins | None = None,
        strict: bool = False,
        cold: bool = False,
    ) -> Result:
        """Run what is left of the pipeline since it was suspended; parameters are those of `run`.

        The answer is that of a run that never stopped. If no operator needs all rows, it is what
        was not delivered yet: the rows of the chunks that were left.

        Raises
        ------
        InputError
            If the pipeline, its constants or its data are not those that were suspended.
        """
        suspension, options = _suspension(placement, strict=strict, cold=cold)
        return suspension.resume(self, suspended, system, options)

    def collect(self, system: SystemLike = THIS_MACHINE) -> pa.Table:
        """Run the pipeline and give its answer."""
        return self.run(system).table

    def collect_on(
        self, device: str, system: SystemLike = THIS_MACHINE, *, reader: str | None = None
    ) -> DeviceTable:
        """Run the pipeline on a CUDA card of this machine; its answer stays in the card's memory.

        Each of its `batches` is taken where it lies by whatever knows Arrow's device interface
        (`__arrow_c_device_array__`), each column of numbers by whatever knows DLPack, such as
        `torch.from_dlpack`; `to_arrow()` copies it to the host.

        Parameters
        ----------
        device : str
            Such as "gpu0".
        reader : "pinned", "kvikio" or "gds", optional
            What brings stored bytes onto the card, as `run` has it.

        Raises
        ------
        InputError
            If there is no such card or reader.
        Refused
            If more than filters and projections of columns that a card writes is asked for.
        Retryable
            If the answer has no room there.
        """
        return _session().collect_on(self, device, system, reader)

    def collect_shards(self, system: SystemLike = THIS_MACHINE) -> list[pa.Table]:
        """Run a pipeline that ends in `route(shards=)` or `route(bounds=)`; give a table a shard.

        Rows stay in stored order within their shard; the column `shard` is left out.

        Raises
        ------
        InputError
            If the last operator does not split rows into shards.
        """
        last = self.operators[-1] if self.operators else None
        if not isinstance(last, RouteRows):
            raise InputError(
                "collect_shards needs route(KEY, shards=N) or route(KEY, bounds=[...]) at the end"
            )
        return cut_shards(self.collect(system), SHARD_COLUMN, last.shard.count)

    def stream(self, system: SystemLike = THIS_MACHINE) -> pa.RecordBatchReader:
        """Run the pipeline and give the batches of its answer, in order, as they are made.

        On this machine nothing new is begun while the consumer takes its time; on an emulated
        system the whole run is simulated before the first batch. A reader that was scanned and can
        be read only once is read a few batches at a time, if no operator has to see all rows.
        """
        return pa.RecordBatchReader.from_batches(self.schema, _session().stream(self, system))

    def write(
        self,
        path: str | Path,
        system: SystemLike = THIS_MACHINE,
        *,
        compression: str | None = None,
        overwrite: bool = False,
    ) -> Written:
        """Run the pipeline and write its answer as an Arrow IPC file; give its rows and bytes.

        The file appears whole or not at all. On this machine batches are written as they are made,
        so that an answer may be larger than the memory.

        Parameters
        ----------
        compression : "lz4", "zstd" or None
            Of the file's buffers.
        overwrite : bool
            Whether a file of that name is replaced; it is refused otherwise.

        Raises
        ------
        InputError
            If the file exists or cannot be written, or a column's dictionaries have more values
            together than its index type can number.
        """
        return _session().write(self, path, system, compression=compression, overwrite=overwrite)

    def _route_request(self, key: str, equals: Value) -> Pipeline:
        compared = resolve_condition((Expr(Column(key)) == equals).node, self.schema)
        match compared:
            case Compare("==", Column() as column, Literal() as value):
                return self._then(RouteRequest(column, value))
        raise InputError(f"route: equals= must be a constant of the type of {key!r}")

    def _route_rows(self, key: str, shards: int | None, bounds: tuple[Value, ...]) -> Pipeline:
        if SHARD_COLUMN in self.schema.names:
            raise InputError(f"route adds a column {SHARD_COLUMN!r}, and there is one already")
        column = resolve(Column(key), self.schema)
        limits = [self._bound(column, bound) for bound in bounds]
        if shards is not None:
            asked = Shard(column, "hash", shards)
        else:
            asked = Shard(column, "range", len(limits) + 1, tuple(v.value for v in limits))
        ShardScheme(asked.by, key, asked.count, asked.bounds)  # refuses bounds that do not ascend
        shard = resolve(asked, self.schema)
        assert isinstance(shard, Shard)
        return self._then(route_rows(self.schema, shard))

    def _bound(self, key: Node, bound: Value) -> Literal:
        compared = resolve((Expr(key) < bound).node, self.schema)
        if isinstance(compared, Compare) and isinstance(compared.right, Literal):
            literal = compared.right
            if literal.value is not None and type_of(literal).equals(type_of(key)):
                return literal
        raise InputError(f"route: bounds= must be constants of the type of {to_text(key)}")


class Grouping(Struct, frozen=True):
    """`group_by(...)`, to be followed by `.agg(...)`."""

    pipeline: Pipeline
    keys: tuple[tuple[str, Node], ...]

    def agg(self, *calls: AggregateCall, **named: AggregateCall) -> Pipeline:
        """Aggregate each group: `agg(total=col("price").sum(), n=wherry.count())`."""
        found = named_calls(calls, named, self.pipeline.schema)
        unique_names([name for name, _ in (*self.keys, *found)], "group_by")
        return self.pipeline._then(GroupBy(self.keys, found))


def scan(
    data: object,
    *,
    columns: Iterable[str] | None = None,
    system: str | Path | System | None = None,
) -> Pipeline:
    """Begin a pipeline over data that stays where it is.

    Parameters
    ----------
    data : path(s), glob, directory, pyarrow Table, RecordBatch or Dataset, or any Arrow C stream
        Files are Arrow IPC or Parquet, and memory-mapped. No column of Arrow is copied to be
        scanned; of Parquet, and of what is compressed, those needed are decoded chunk by chunk.
        Folders named `key=value` below a directory become columns.
    columns : names, optional
        Only these columns are in reach; all of them if not given.
    system : name, path or System, optional
        One whose devices are agents: `data` is the name of a dataset that they have, and the
        pipeline is to run there.

    Raises
    ------
    InputError
        If the data does not exist, is not Arrow, or has types Wherry does not know.
    """
    source = open_source(data) if system is None else _session().source_at(system, data)
    # Nullability and metadata are of the stored columns; what programs make has name and type.
    fields = [pa.field(field.name, field.type) for field in source.schema]
    whole = Pipeline(source, (), pa.schema(fields))
    return whole if columns is None else whole.select(*columns)


def _session() -> ModuleType:
    """Give the module that places and runs pipelines; importing it takes as long as the rest."""
    from wherry import session  # noqa: PLC0415

    return session


def _suspension(placement: Pins | None, *, strict: bool, cold: bool) -> tuple[ModuleType, Options]:
    """Give the module that suspends and resumes runs, and the options of one."""
    from wherry import suspension  # noqa: PLC0415

    return suspension, _session().Options(placement or {}, strict, cold)
