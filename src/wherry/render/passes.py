"""One pass made native: what is decided when it is rendered, and the variants compiled for it.

What stays open until a chunk comes is only which columns have nulls in it and, for groups, how keys
are compared; each combination is a variant, compiled when it is first met.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final
from typing import Literal as Literal_

import pyarrow as pa
from msgspec import Struct, field

from wherry.data.types import layout_of
from wherry.ir.expr import Call, Column, Field, IsNull, Literal, Node, When, walk
from wherry.ir.resolve import call_type, type_of
from wherry.ir.stage import Groups, Matches, Pass, Rows, Totals, output_schema
from wherry.ir.text import call_text, to_text
from wherry.ir.types import MOMENTS, SPREADS
from wherry.kernels.engine import Compiled as MachineCode
from wherry.kernels.engine import engine
from wherry.render import functions as fn
from wherry.render.images import Images, write_images, write_learn, write_match
from wherry.render.intervals import Bounds
from wherry.render.lanes import Lanes, write_fold, write_spread
from wherry.render.loop import OWN, Slot, Variant
from wherry.render.moments import Parts
from wherry.render.split import Lookup, RowNumber, Split, is_fixed
from wherry.render.state import Cell, initial, layout, stride
from wherry.render.textkeys import TextKey

_MOST_VARIANTS: Final = 256
"""Of a pass; whoever runs one keeps its code."""


class Encoded(Struct, frozen=True):
    """A text that takes part as an integer: by code as a key, by rank in min and max."""

    node: Node
    column: Column
    ranked: bool

    @property
    def plain(self) -> bool:
        """Tell whether it is a key whose texts need not be numbered while they are short."""
        return not self.ranked and layout_of(type_of(self.node)) in {"narrow", "wide", "views"}

    @property
    def stored(self) -> bool:
        """Tell whether it is a key whose codes are stored, in a dictionary."""
        return not self.ranked and pa.types.is_dictionary(type_of(self.node))


class Compiled(Struct, frozen=True):
    """One variant of a pass: functions, what their context holds, how to read what they keep.

    `begin` is a state before any row, with lanes behind it if there are any.
    `machine_code` keeps what the addresses point to; None if nothing was compiled.
    """

    text: str
    addresses: dict[str, int]
    slots: dict[Slot, int]
    cells: tuple[Cell, ...]
    begin: bytes
    key_widths: tuple[int, ...]
    key_words: int
    machine_code: MachineCode | None
    images: Images | None = None
    lanes: Lanes | None = None


Way = Literal_["rows", "few", "direct", "hashed"]
"""How rows find their group; "rows" for passes without groups."""
Forms = tuple[tuple[str, int], ...]
"""By column of codes: the words of a text key that is compared as it is (see `TextKey`)."""


class Extra(Struct, frozen=True):
    """A block function by itself, with a context of its own, and what writing it gave.

    `code` keeps what the address points to.
    """

    address: int
    slots: dict[Slot, int]
    made: Any
    code: MachineCode


class PassPlan(Struct, eq=False, dict=True):
    """A pass as it was split into native code, lookups, texts as integers, and residuals.

    Parameters
    ----------
    step : Pass
        Lifted.
    schema : pyarrow.Schema
        Of the rows that come in.
    predicate : Node, optional
        In native terms, as all following.
    outputs, keys : tuple of Node
        Of the sink.
    calls : tuple of Call
        Of the sink; a text's min and max read its ranks, and first and last are numbers of rows.
    picks : dict
        By call: the expression whose value in the row found is the first or last.
    """

    step: Pass
    schema: pa.Schema
    bounds: Bounds
    folder: Path
    predicate: Node | None
    outputs: tuple[Node, ...]
    keys: tuple[Node, ...]
    calls: tuple[Call, ...]
    encoded: tuple[Encoded, ...]
    residuals: dict[Node, Column]
    fields: dict[Node, Column]
    lookups: dict[Node, Lookup]
    reasons: tuple[str, ...]
    picks: dict[int, Node]
    _variants: dict[tuple[frozenset[str], Way, Forms], Compiled] = field(default_factory=dict)
    _extras: dict[tuple[str, frozenset[str]], Extra] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    @cached_property
    def out_schema(self) -> pa.Schema:
        """Give the schema of what comes out."""
        return output_schema(self.step, self.schema)

    @cached_property
    def result_types(self) -> tuple[pa.DataType, ...]:
        """Give the types of the aggregates as the stage declares them."""
        sink = self.step.sink
        return tuple(call_type(call) for _, call in getattr(sink, "calls", ()))

    def batch_of(self, columns: Sequence[pa.Array]) -> pa.RecordBatch:
        """Give columns as the rows that come out, in the types that the stage declares."""
        schema = self.out_schema
        arrays = [
            c if c.type.equals(t) else c.cast(t) for c, t in zip(columns, schema.types, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=schema.names)

    @property
    def keeps_rows(self) -> bool:
        """Tell whether the pass computes columns of every row and does nothing else."""
        return self.predicate is None and isinstance(self.step.sink, Rows) and bool(self.outputs)

    @property
    def kept_columns(self) -> tuple[str, ...] | None:
        """Give the columns that the outputs are, None if one is computed."""
        names = tuple(node.name for node in self.outputs if isinstance(node, Column))
        return names if len(names) == len(self.outputs) else None

    @property
    def roots(self) -> tuple[Node, ...]:
        """Give every native expression of the pass."""
        arguments = (c.argument for c in self.calls if c.argument is not None)
        first = () if self.predicate is None else (self.predicate,)
        return (*first, *self.outputs, *self.keys, *arguments)

    @property
    def text(self) -> str:
        """Give the LLVM IR of the variant for a chunk without nulls, few groups and short texts."""
        forms = tuple((item.column.name, 1) for item in self.encoded if item.plain)
        if not isinstance(self.step.sink, Groups):
            return self.compiled(frozenset()).text
        return self.compiled(frozenset(), "hashed" if self.spreads else "few", forms).text

    @property
    def spreads(self) -> bool:
        """Tell whether an aggregate keeps moments, for which no lanes exist."""
        return any(call.kind in SPREADS for call in self.calls)

    def text_keys(self, forms: Forms) -> tuple[Node | TextKey, ...]:
        """Give the keys with those texts as words that `forms` names."""
        sources = {item.column.name: item.node for item in self.encoded}
        found: list[Node | TextKey] = list(self.keys)
        for number, key in enumerate(self.keys):
            words = dict(forms).get(getattr(key, "name", ""))
            if words is not None:
                source = sources[key.name]  # type: ignore[attr-defined]
                found[number] = TextKey(source.name, type_of(source), words)  # type: ignore[attr-defined]
        return tuple(found)

    def compiled(self, nullable: frozenset[str], way: Way = "rows", forms: Forms = ()) -> Compiled:
        """Give the variant for chunks in which exactly the columns `nullable` have nulls."""
        key = nullable, way, forms
        found = self._variants.get(key)
        if found is None:
            with self._lock:
                found = self._variants.get(key)
                if found is None:
                    _bound(self._variants)
                    found = _compile(self, Variant(self.bounds, nullable), way, forms)
                    self._variants[key] = found
        return found

    def function(
        self,
        name: str,
        nullable: frozenset[str],
        write: Callable[[fn.Writer], Any],
        beside: Compiled | Extra | None = None,
    ) -> Extra:
        """Give the block function `name` that `write` writes, compiled when it is first needed.

        Its context serves those of `beside` too.
        """
        with self._lock:
            if (name, nullable) not in self._extras:
                _bound(self._extras)
                w = fn.writer(Variant(self.bounds, nullable))
                w.slots.update({} if beside is None else beside.slots)
                made = write(w)
                code = engine(self.folder).functions(str(w.module), (name,))
                found = Extra(code.addresses[name], w.slots, made, code)
                self._extras[name, nullable] = found
            return self._extras[name, nullable]

    def listing(self, indent: str) -> list[str]:
        """Give what runs, line by line, by expression."""
        lines = [] if self.predicate is None else [f"mask: {to_text(self.step.predicate)}"]  # type: ignore[arg-type]
        sink = self.step.sink
        if isinstance(sink, Matches):
            lines += [f"key: {to_text(node)}" for node in sink.keys]
        if isinstance(sink, Rows | Matches):
            lines += [
                f"{name}: {to_text(node)} ({'column' if isinstance(native, Column) else 'values'})"
                for (name, node), native in zip(sink.outputs, self.outputs, strict=True)
            ]
        if isinstance(sink, Matches):
            lines += [f"{name}: of {to_text(sink.build)}" for name, _, _ in sink.added]
        elif not isinstance(sink, Rows):
            if isinstance(sink, Groups):
                lines += [f"key {name}: {to_text(node)}" for name, node in sink.keys]
            lines += [f"{name}: {call_text(call)}" for name, call in sink.calls]
        lines += [
            f"lookup {x.number} by code of {x.column}: {to_text(n)}"
            for n, x in self.lookups.items()
        ]
        lines += [f"field of a struct: {to_text(n)}" for n in self.fields]
        lines += [f"residual: {reason}" for reason in self.reasons]
        return [indent + line for line in lines]


def _bound(kept: dict[Any, Any]) -> None:
    """Let variants go if they are many: rows of strangers have nulls in whichever columns."""
    if len(kept) >= _MOST_VARIANTS:
        kept.clear()


def plan_pass(step: Pass, schema: pa.Schema, bounds: Bounds, folder: Path) -> PassPlan:
    """Give `step` split into what runs natively and what does not."""
    split = Split(bounds)
    encoded: list[Encoded] = []
    reasons: list[str] = []
    predicate = None if step.predicate is None else split.value(split.extracted(step.predicate))
    outputs: tuple[Node, ...] = ()
    keys: tuple[Node, ...] = ()
    calls: tuple[Call, ...] = ()
    picks: dict[int, Node] = {}
    if isinstance(step.sink, Matches):
        keys = tuple(split.value(key) for key in step.sink.keys)
    if isinstance(step.sink, Rows | Matches):
        outputs = tuple(_output(node, split) for _, node in step.sink.outputs)
    else:
        named = step.sink.keys if isinstance(step.sink, Groups) else ()
        keys = tuple(_key(name, node, split, encoded, reasons) for name, node in named)
        calls = tuple(_call(name, call, split, encoded, reasons) for name, call in step.sink.calls)
        picks = _picks(step.sink.calls, reasons)
    plan = PassPlan(
        step,
        schema,
        bounds,
        folder,
        predicate,
        outputs,
        keys,
        calls,
        tuple(encoded),
        {},
        {},
        {},
        (),
        picks,
    )
    roots = (*plan.roots, *(e.node for e in encoded))
    residuals, lookups = split.used(roots)
    plan.residuals, plan.lookups = residuals, lookups
    plan.fields = split.used_fields((*roots, *lookups))
    plan.reasons = (*(split.reasons[n] for n in residuals), *reasons)
    return plan


def _output(node: Node, split: Split) -> Node:
    node = split.extracted(node)
    if isinstance(node, Column):
        return node
    if not is_fixed(type_of(node)):
        return split.residual(node, _BY_PYARROW)
    return split.value(node)


_BY_PYARROW = "texts and bytes are computed by pyarrow"


def _encode(node: Node, split: Split, encoded: list[Encoded], *, ranked: bool) -> Column:
    node = split.extracted(node)
    source = node if isinstance(node, Column) else split.residual(node, _BY_PYARROW)
    t = type_of(source)
    indices = pa.types.is_dictionary(t) and not ranked
    name = f"{OWN}{'rank' if ranked else 'code'} {len(encoded)}"
    column = Column(name, t.index_type if indices else pa.int32())
    encoded.append(Encoded(source, column, ranked))
    return column


def _key(name: str, node: Node, split: Split, encoded: list[Encoded], reasons: list[str]) -> Node:
    if is_fixed(type_of(node)):
        return split.value(split.extracted(node))
    if layout_of(type_of(node)) == "fixed":
        reasons.append(f"key {name}: bytes of one width are numbered by pyarrow dictionary_encode")
    return _encode(node, split, encoded, ranked=False)


def _call(name: str, call: Call, split: Split, encoded: list[Encoded], reasons: list[str]) -> Call:
    if call.argument is None:
        return call
    if call.kind in _EXTREMES:
        return Call(_EXTREMES[call.kind], RowNumber())
    if type_of(call.argument).equals(MOMENTS) and call.kind in SPREADS:
        fields = (Field(call.argument, field.name, field.type) for field in MOMENTS)
        return Call(call.kind, Parts(tuple(split.value(split.extracted(f)) for f in fields)))
    if is_fixed(type_of(call.argument)):
        return Call(call.kind, split.value(split.extracted(call.argument)))
    if call.kind == "count":
        return Call("count", split.value(split.extracted(_null_where(call.argument))))
    reasons.append(f"{name}: texts are ranked by pyarrow for {call_text(call)}")
    return Call(call.kind, _encode(call.argument, split, encoded, ranked=True))


_EXTREMES: Final = {"first": "min", "last": "max"}
"""The first row is the one with the smallest number."""


def _picks(calls: Sequence[tuple[str, Call]], reasons: list[str]) -> dict[int, Node]:
    found = {}
    for number, (name, call) in enumerate(calls):
        if call.kind in _EXTREMES and call.argument is not None:
            found[number] = call.argument
            if not isinstance(call.argument, Column):
                what = to_text(call.argument)
                reasons.append(f"{name}: {what} is computed by pyarrow, of the rows found alone")
    return found


def _null_where(node: Node) -> Node:
    """Give a truth that is null where `node` is: all that a count asks of texts and structs."""
    missing = IsNull(node)
    return When(((missing, Literal(None, pa.bool_())),), missing)


def read_columns(plan: PassPlan) -> frozenset[str]:
    """Give the names of columns whose validity native code reads."""
    nodes = [n for root in plan.roots for n in walk(root) if not isinstance(root, Column)]
    bare = [*plan.keys, *(c.argument for c in plan.calls)]
    nodes += [n for n in (*bare, plan.predicate) if isinstance(n, Column)]
    nodes += [item.node for item in plan.encoded if item.plain]
    return _names(nodes)


def _names(nodes: Iterable[Node]) -> frozenset[str]:
    read = [n for n in nodes if isinstance(n, Column | Lookup)]
    return frozenset(n.column if isinstance(n, Lookup) else n.name for n in read)


def needed_columns(plan: PassPlan) -> frozenset[str]:
    """Give the names of the stored columns that native code or the answer takes."""
    nodes = (*plan.roots, *(item.node for item in plan.encoded), *plan.picks.values())
    found = {n for root in nodes for n in walk(root)}
    return _names(found)


def _compile(plan: PassPlan, variant: Variant, way: Way, forms: Forms) -> Compiled:
    w = fn.writer(variant)
    names: list[str] = []

    def write(name: str, body: Callable[[], Any]) -> Any:
        names.append(name)
        return body()

    if plan.predicate is not None:
        predicate = plan.predicate
        write("mask", lambda: fn.write_mask(w, predicate))
    for number, node in enumerate(plan.outputs):
        if not isinstance(node, Column):
            name = f"values{number}"
            write(name, lambda n=node, f=name: fn.write_values(w, f, n))  # type: ignore[misc]
    cells = layout(plan.calls, variant)
    words, widths, images, lanes = 1, tuple[int, ...](), None, None
    keys = plan.text_keys(forms)
    if way == "few":
        images = write("images", lambda: write_images(w, keys))
        write("match", lambda: write_match(w, images))
        write("learn", lambda: write_learn(w, images))
        lanes = write("spread", lambda: write_spread(w, cells))
        write("fold", lambda: write_fold(w, cells, lanes, stride(cells)))
        words, widths = images.words, images.widths
    elif way == "direct":
        write("keys", lambda: fn.write_slots(w, plan.keys))
    elif way == "hashed":
        words = write("keys", lambda: fn.write_keys(w, keys))
        widths = tuple(fn.key_words(key, variant) for key in keys)
    if way in {"direct", "hashed"}:
        write("scatter", lambda: fn.write_scatter(w, cells, stride(cells)))
    elif isinstance(plan.step.sink, Matches | Totals):
        probes = isinstance(plan.step.sink, Matches)
        each = partial(fn.write_probe, w, plan.keys), partial(fn.write_accumulate, w, cells)
        write("probe" if probes else "accumulate", each[0] if probes else each[1])
    begin = initial(cells) + (b"" if lanes is None else lanes.initial())
    text = str(w.module)
    code = engine(plan.folder).functions(text, tuple(names)) if names else None
    addresses = {} if code is None else code.addresses
    return Compiled(text, addresses, w.slots, cells, begin, widths, words, code, images, lanes)
