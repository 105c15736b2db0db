"""A decoded program is checked completely, so that no hostile bytes reach the making of code.

Shapes of all nodes, names, numbers of blocks and positions, listed operators, functions, methods
and attributes, types wherever values meet, slots of every position: what passes is what the
compiler could have made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import CorruptError
from wherry.flow import rules
from wherry.flow.constants import constant_type
from wherry.flow.infer import Inferred, infer
from wherry.flow.liveness import live_slots, successors
from wherry.flow.nodes import (
    Await,
    Binary,
    Choice,
    Comparison,
    Constant,
    Either,
    Format,
    Get,
    Handler,
    Program,
    Raise,
    Slot,
    Unary,
)
from wherry.flow.outside import error_class
from wherry.flow.parse_values import SPEC
from wherry.flow.shape import check_shape
from wherry.flow.types import (
    NONE,
    fits,
    is_wire,
    type_name,
)
from wherry.flow.verify_awaits import await_problems, chains_of, is_name, type_problems
from wherry.ir.codec import decode
from wherry.ir.expr import Node

BYTES_MOST: Final = 1 << 20
"""Bytes of an encoded program; longer ones are refused unread."""
BLOCKS_MOST: Final = 4096
NESTED_MOST: Final = 8
"""Movables that call movables: a frame holds the frames of all that are waiting."""
LINE_MOST: Final = 10_000_000


def decode_program(data: bytes, methods: frozenset[str]) -> Program:
    """Read a program that strangers may have written.

    Parameters
    ----------
    methods : frozenset of str
        What its pipelines may call.

    Raises
    ------
    CorruptError
        If it is not one that the compiler could have made.
    """
    if len(data) > BYTES_MOST:
        raise CorruptError(f"a program of {len(data)} bytes; at most {BYTES_MOST}")
    program = decode(data)
    verify(program)
    for name in _methods(program):
        if name not in methods:
            raise CorruptError(f"program {program.name}: no operator {name!r}")
    return program


def verify(program: Program) -> Inferred:
    """Check a program as if strangers had written it; give the types of its variables.

    Raises
    ------
    CorruptError
        If the compiler could not have made it.
    """
    check_shape(program, Program)
    _check_depth(program, 1)
    return _verified(program)


def _check_depth(program: Program, depth: int) -> None:
    if depth > NESTED_MOST:
        raise CorruptError(f"movables are nested over {NESTED_MOST} deep")
    for callee in program.callees:
        _check_depth(callee, depth + 1)


def _verified(program: Program) -> Inferred:
    for callee in program.callees:
        _verified(callee)

    def report(_: object, seen: str, __: str) -> None:
        raise CorruptError(f"program {program.name}: {seen}")

    for problem in _problems(program):
        report(None, problem, "")
    inferred = infer(program, report)
    for problem in _slot_problems(program, inferred):
        report(None, problem, "")
    return inferred


def _methods(program: Program) -> Iterator[str]:
    for callee in program.callees:
        yield from _methods(callee)
    for position in program.positions:
        for chain in chains_of(position.awaits):
            yield from (call.method for call in chain.calls)


def _problems(program: Program) -> Iterator[str]:
    """Give what is wrong with a program's parts, each for itself."""
    if not is_name(program.name):
        yield f"the name {program.name!r:.60}"
    if not 1 <= len(program.blocks) <= BLOCKS_MOST or not program.positions:
        yield f"{len(program.blocks)} blocks, {len(program.positions)} positions"
        return
    yield from _slot_lists(program)
    yield from _control(program)
    for position in program.positions:
        yield from type_problems((position.type, *(slot.type for slot in position.slots)))
        yield from await_problems(program, position.awaits, position.type)
        if position.target is not None and not is_name(position.target):
            yield f"the name {position.target!r:.60}"
        if not 0 <= position.line <= LINE_MOST or len(position.text) > 1000:
            yield "the place of a position"
    for node in _walk((program.blocks, tuple(p.operands for p in program.positions))):
        yield from _node_problems(node)
    if any(not 0 <= n <= LINE_MOST for n in (program.places.line, *program.places.lines)):
        yield "the number of a line"


def _slot_lists(program: Program) -> Iterator[str]:
    yield from type_problems((program.result,))
    if not is_wire(program.result):
        yield "a result bound to its place"
    named = (*program.parameters, *program.variables)
    yield from type_problems(slot.type for slot in named)
    names = [slot.name for slot in named]
    if len(set(names)) != len(names):
        yield "a variable is declared twice"
    if not all(is_name(n) and "." not in n for n in names):
        yield "the name of a declared variable"
    entry = program.positions[0]
    if entry.awaits is not None or entry.slots != program.parameters or entry.operands:
        yield "position 0 is not the entry"
    if entry.target is not None or entry.type != NONE:
        yield "the entry awaits something"


def _control(program: Program) -> Iterator[str]:
    """Give what is wrong with the ways between blocks: each is reached, each await is one's own."""
    blocks, count = program.blocks, len(program.blocks)
    awaits = [b.end.position for b in blocks if isinstance(b.end, Await)]
    if sorted(awaits) != list(range(1, len(program.positions))):
        yield "an await without a position of its own"
        return
    to = [p.block for p in program.positions]
    for block in blocks:
        to += [h.block for h in block.handlers]
        if not isinstance(block.end, Await):
            to += successors(block.end, ())
    if not all(0 <= n < count for n in to):
        yield "a block that does not exist"


def _walk(value: Any) -> Iterator[Any]:
    """Give every node of statements, ends and values."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting += node
        elif isinstance(node, Struct) and not isinstance(node, Node):
            yield node
            waiting += [getattr(node, f) for f in node.__struct_fields__]


def _node_problems(node: Any) -> Iterator[str]:
    match node:
        case Constant(value) if constant_type(value) is None:
            yield f"the constant {value!r:.60}"
        case Get(name) if not is_name(name):
            yield f"the name {name!r:.60}"
        case Unary(op) if op not in rules.UNARY:
            yield f"the operator {op!r:.20}"
        case Binary(op) if op not in rules.OPERATORS:
            yield f"the operator {op!r:.20}"
        case Comparison(ops, values):
            if not {*ops} <= rules.COMPARISONS or len(values) != len(ops) + 1 or not ops:
                yield "a comparison"
            for op, value in zip(ops, values[1:], strict=False):
                if op in rules.IDENTITY and not (
                    isinstance(value, Constant) and value.value in (None, True, False)
                ):
                    yield "a comparison of identities"
        case Either(op, values) if op not in {"and", "or"} or len(values) < 2:
            yield "and, or"
        case Choice():
            return
        case Format(_, conversion, spec):
            if conversion not in {"", "s", "r"} or SPEC.fullmatch(spec) is None:
                yield f"the format {spec!r:.20}"
        case Handler(errors, name):
            if not errors or not all(map(error_class, errors)):
                yield f"the errors {errors!r:.80}, of which this process knows not all"
            if name is not None and not is_name(name):
                yield f"the name {name!r:.60}"
        case Raise(error) if error_class(error) is None:
            yield f"the error {error!r:.40}, which this process does not know"
    yield from _statement_problems(node)


def _statement_problems(node: Any) -> Iterator[str]:
    for attribute in ("target", "targets"):
        found = getattr(node, attribute, ())
        for name in (found,) if isinstance(found, str) else found:
            if not is_name(name):
                yield f"the name {name!r:.60}"
    loop = getattr(node, "loop", 0)
    step = getattr(node, "step", 1)
    if not 0 <= loop < 10_000 or step == 0 or abs(step) > 1 << 62:
        yield "the numbers of a loop"


def _slot_problems(program: Program, inferred: Inferred) -> Iterator[str]:
    """Give what is wrong with slots and result, by what was inferred."""
    if len(inferred.entries) != len(program.blocks):
        yield "a block that nothing reaches"
        return
    found = inferred.result if inferred.result is not None else NONE
    if not fits(found, program.result):
        yield f"it returns {type_name(found)}, and declares {type_name(program.result)}"
    live = live_slots(program)
    for number, block in enumerate(program.blocks):
        if isinstance(block.end, Await):
            position = program.positions[block.end.position]
            state = inferred.ends[number]
            names = sorted(live[block.end.position])
            slots = tuple(Slot(name, state[name]) for name in names if name in state)
            if position.slots != slots or not all(is_wire(s.type) for s in slots):
                yield f"the slots of position {block.end.position}"
