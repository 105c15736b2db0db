"""Groups by keys of small known domains: a program around `kernels/cuda/groups.cu`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import CorruptError, Refused
from wherry.ir.expr import Column, Node
from wherry.ir.resolve import type_of
from wherry.ir.stage import Groups
from wherry.ir.text import to_text
from wherry.render.cuda.answers import read_cells, stored
from wherry.render.cuda.bind import Bound, Piece
from wherry.render.cuda.expressions import stored_code, value
from wherry.render.cuda.program import CudaPass, CudaProgram, called, program_of, tests_text
from wherry.render.cuda.state import State, state_of
from wherry.render.cuda.totals import Spans, whole
from wherry.render.cuda.values import Body, Frame
from wherry.render.domains import addresses
from wherry.render.encode import are_codes
from wherry.render.loop import Slot, Variant

_THREADS: Final = (128, 64, 32)
_CORE: Final = 228 << 10
_OF_A_BLOCK: Final = 1024
"""Bytes of memory on chip: of a core of sm_90; and of a block besides what it asks for."""
_FLAG: Final = 16
"""Bytes of what says that a key was in no domain; states take a multiple of as many at most."""


class Domain(Struct, frozen=True):
    """The integers that a key may be: `size` of them from `low` on; and null, if `nullable`."""

    low: int
    size: int
    nullable: bool

    @property
    def slots(self) -> int:
        """Give how many there are with the null, which is the last."""
        return max(1, self.size + self.nullable)


class GroupsProgram(Struct, frozen=True):
    """A program that groups: what its states hold, how many groups and threads, of what keys.

    Attributes
    ----------
    shared : int
        Bytes of memory on chip that a launch of `group_pass` asks for.
    """

    program: CudaProgram
    state: State
    groups: int
    threads: int
    shared: int
    domains: tuple[Domain, ...]


def domains_of(plan: CudaPass, variant: Variant, sizes: dict[str, int]) -> tuple[Domain, ...]:
    """Give the domains of keys.

    Parameters
    ----------
    sizes : dict
        Of each dictionary, by column: how many entries it has.

    Raises
    ------
    Refused
        If a key's domain is not known; with every reason.
    """
    assert isinstance(plan.step.sink, Groups)
    found, reasons = list[Domain](), list[str]()
    for (_, asked), node in zip(plan.step.sink.keys, plan.roots, strict=False):
        domain = _domain(node, variant, sizes)
        if domain is None:
            reasons.append(f"{to_text(asked)}: nothing bounds it, and it is no dictionary's")
        else:
            found.append(domain)
    if reasons:
        raise Refused("groups of unbounded keys cannot run on a CUDA device", tuple(reasons))
    return tuple(found)


def _domain(node: Node, variant: Variant, sizes: dict[str, int]) -> Domain | None:
    t = type_of(node)
    if isinstance(node, Column) and node.name in sizes:
        return Domain(0, sizes[node.name], node.name in variant.nullable)
    if pa.types.is_boolean(t):
        return Domain(0, 2, nullable=True)
    if not (isinstance(node, Column) and addresses(t) and node.name in variant.bounds):
        return None
    low, high = variant.bounds[node.name]
    return Domain(low, high - low + 1, node.name in variant.nullable)


def fits_on_chip(
    plan: CudaPass, variant: Variant, sizes: dict[str, int], shared_bytes: int
) -> bool:
    """Tell whether all keys have known domains, and the groups of 32 threads fit on chip."""
    try:
        render_groups(plan, variant, domains_of(plan, variant, sizes), shared_bytes)
    except Refused:
        return False
    return True


def most_groups(plan: CudaPass, variant: Variant, sizes: dict[str, int]) -> int | None:
    """Give how many groups there can be, or None if the domain of a key is not known."""
    try:
        return prod(domain.slots for domain in domains_of(plan, variant, sizes))
    except Refused:
        return None


def render_groups(
    plan: CudaPass, variant: Variant, domains: tuple[Domain, ...], shared_bytes: int
) -> GroupsProgram:
    """Give the program of a pass whose sink is Groups.

    Its text depends on how many groups there are, not on what they are.

    Parameters
    ----------
    shared_bytes : int
        Memory on chip that a block may have if it asks.

    Raises
    ------
    Refused
        If the groups of 32 threads do not fit on chip.
    """
    frame = Frame()
    frame.entry("rows", "", "i64")
    frame.entry("span", "", "i64")
    frame.entry("states", "", "State*")
    frame.entry("outside", "", "u32*")
    tests = tests_text(frame, variant, plan.predicate, "test_rows")
    slot = _slot_text(frame, plan, variant, domains)
    state = state_of(frame, variant, called(plan), ordered=True)
    groups = prod(domain.slots for domain in domains)
    threads = _threads(groups, state.nbytes)
    need = _needed(groups, state.nbytes, threads)
    if need > shared_bytes:
        text = f"{groups} groups of {state.nbytes} bytes need {need} bytes on chip"
        raise Refused(f"{text}; a block has {shared_bytes}")
    sizes = f"constexpr u32 GROUPS = {groups}, THREADS = {threads};"
    program = program_of(frame, [tests, state.text, slot, sizes], ["reduce", "groups"])
    shared = (groups + 1) * state.nbytes * threads
    return GroupsProgram(program, state, groups, threads, shared, domains)


def _needed(groups: int, state_bytes: int, threads: int) -> int:
    """Give the bytes on chip of a block.

    Of each thread there is a state for every group and one more, and one of each warp.
    """
    return state_bytes * ((groups + 1) * threads + threads // 32)


def _threads(groups: int, state_bytes: int) -> int:
    """Give how many threads a block has: many, if a core then has nearly as many as it can.

    This is so on every device alike, because sums depend on it.
    """
    of_core = {n: _CORE // (_needed(groups, state_bytes, n) + _OF_A_BLOCK) * n for n in _THREADS}
    most = max(of_core.values())
    return next(n for n in _THREADS if 10 * of_core[n] >= 9 * most)


def _slot_text(frame: Frame, plan: CudaPass, variant: Variant, domains: tuple[Domain, ...]) -> str:
    """Give `slot(c, row)`: the number of a row's group."""
    body, terms, fits = Body(frame, variant), ["0ull"], ["true"]
    for number, (node, domain) in enumerate(zip(plan.roots, domains, strict=False)):
        t = type_of(node)
        if pa.types.is_dictionary(t):
            assert isinstance(node, Column)
            found = stored_code(node.name, t.index_type, body)
        else:
            found = value(node, body)
        low, size, stride = (
            frame.entry(kind, str(number), "u64") for kind in ("lowest", "extent", "stride")
        )
        digit = body.name("u64", f"(u64){found.data} - {low}")
        fit = f"{digit} < {size}"
        if domain.nullable and found.valid is not None:
            digit = body.name("u64", f"{found.valid} ? {digit} : {size}")
            fit = f"(!{found.valid} | ({fit}))"
        terms.append(f"{digit} * {stride}")
        fits.append(fit)
    body.lines.append(f"return {' & '.join(fits)} ? {' + '.join(terms)} : ~0ull;")
    head = "DEVICE u64 slot(const Context& c, const i64 row, const Read_slot& r) {"
    return f"{body.reader('slot')}\n{head}\n{body.text}}}"


def domain_numbers(domains: tuple[Domain, ...]) -> dict[Slot, int]:
    """Give what the context says of domains."""
    found, stride = dict[Slot, int](), 1
    for number, domain in enumerate(domains):
        found["lowest", str(number)] = domain.low
        found["extent", str(number)] = domain.size
        found["stride", str(number)] = stride
        stride *= domain.slots
    return found


def groups_bytes(made: GroupsProgram, spans: int) -> int:
    """Give the bytes of partial states, those of all rows, and whether a key was in no domain."""
    return (spans + 1) * made.groups * made.state.nbytes + _FLAG


class GroupsWork:
    """A row for each group of the rows of a share that pass, in order of first appearance.

    Parameters
    ----------
    spans : Spans
        Partial states of all pieces, of each group.
    """

    def __init__(self, made: GroupsProgram, plan: CudaPass, bound: Bound, spans: Spans) -> None:
        self._made, self._plan, self._bound, self._spans = made, plan, bound, spans
        self._folded = made.groups * made.state.nbytes
        self._states = bound.device.zeros(groups_bytes(made, spans.count))
        self._done = 0
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Queue the partial states of a piece."""
        spans, threads = self._spans.of(piece.rows), self._made.threads
        piece.put("span", self._spans.rows)
        piece.put("states", self._states.address + self._done * self._folded)
        piece.put("outside", self._states.address + (self._spans.count + 1) * self._folded)
        piece.put("first", piece.first)
        self._done += spans
        if spans:
            shared = self._made.shared
            self._bound.launch("group_pass", spans, threads, piece.context, shared=shared)

    def finish(self) -> list[pa.RecordBatch]:
        """Give one batch.

        Raises
        ------
        CorruptError
            If a key is not within what bounds it.
        InputError
            If a sum of decimals needs more than 38 digits.
        """
        made, plan = self._made, self._plan
        context = whole(self._bound, self._spans, self._states)
        self._bound.launch("fold_pass", made.groups, made.threads, context)
        end = self._states.address + self._spans.count * self._folded
        got = self._bound.device.get(end, self._folded + _FLAG)
        if got[self._folded]:
            raise CorruptError("a key is not within the bounds that statistics give it")
        found = made.state.read(got[: self._folded])
        self.selected = int(found["rows"].sum())
        present = found["rows"].nonzero()[0]
        rest = slots = present[found["first"][present].argsort()]
        columns = list[pa.Array]()
        for node, domain in zip(plan.roots, made.domains, strict=False):
            columns.append(_keys(node, self._bound, domain, rest % domain.slots))
            rest = rest // domain.slots
        columns += read_cells(made.state.cells, found[slots])
        return [pa.RecordBatch.from_arrays(columns, schema=plan.output)]


def _keys(node: Node, bound: Bound, domain: Domain, digits: np.ndarray[Any, Any]) -> pa.Array:
    t, numbers = type_of(node), digits + domain.low
    known = digits != domain.size if domain.nullable else None
    if pa.types.is_boolean(t):
        return pa.array(numbers.astype(bool), t, mask=None if known is None else ~known)
    if not pa.types.is_dictionary(t):
        return stored(numbers, t, known)
    assert isinstance(node, Column)
    codes, texts = stored(numbers, t.index_type, known), bound.dictionaries[node.name]
    # They were found to be in the domain, which is the dictionary's.
    return pa.DictionaryArray.from_arrays(codes, texts, ordered=t.ordered, safe=False)


def dictionary_sizes(plan: CudaPass, dictionaries: Mapping[str, pa.Array]) -> dict[str, int]:
    """Give how many entries the dictionaries of keys have.

    Raises
    ------
    Refused
        If entries of one are null or equal: their codes are no keys.
    """
    assert isinstance(plan.step.sink, Groups)
    sizes = {}
    for node in plan.roots[: len(plan.step.sink.keys)]:
        if isinstance(node, Column) and pa.types.is_dictionary(type_of(node)):
            texts = dictionaries[node.name]
            if not are_codes(texts):
                text = f"{to_text(node)}: entries of its dictionary are null or equal"
                raise Refused("groups by codes cannot run on a CUDA device", (text,))
            sizes[node.name] = len(texts)
    return sizes
