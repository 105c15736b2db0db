"""A restricted `async def` becomes a program, or is refused with every reason at once."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, get_type_hints

from msgspec.structs import replace

from wherry.base.errors import InputError
from wherry.flow.annotations import wire_type
from wherry.flow.blocks import Parsed, assigned_names
from wherry.flow.infer import Inferred, infer
from wherry.flow.liveness import live_slots, successors
from wherry.flow.nodes import (
    Await,
    Block,
    Branch,
    End,
    Handler,
    Jump,
    NextItem,
    NextNumber,
    Places,
    Position,
    Program,
    Slot,
)
from wherry.flow.parse import StatementParser
from wherry.flow.parse_awaits import Vocabulary
from wherry.flow.parse_values import ValueParser
from wherry.flow.source import Source, source_of
from wherry.flow.types import NONE, Local, WireType, fits, is_wire, type_name
from wherry.flow.value_types import is_unknown
from wherry.flow.verify import NESTED_MOST


def compile_function(function: Callable[..., Any], vocabulary: Vocabulary) -> Program:
    """Compile an `async def` to a program.

    Raises
    ------
    Rejected
        If it is none that can be; with all reasons, each with file, line, column, and the form to
        use instead.
    """
    source = source_of(function)
    parameters, result = _signature(source)
    values = ValueParser(source, frozenset(assigned_names(source.tree)))
    statements = StatementParser(values, vocabulary)
    parsed = statements.parse()
    for slot in parameters:
        if values.variables and slot.name in values.errors:
            source.refuse(source.tree, f"{slot.name!r} is also an error", "use another name")
    program = _pruned(values, parsed, parameters, tuple(statements.awaits.callees))

    def report(node: object, seen: str, instead: str) -> None:
        source.refuse(values.places.get(id(node), source.tree), seen, instead)

    inferred = infer(program, report)
    program = replace(program, result=_result(source, inferred, result))
    program = _with_slots(program, inferred, report)
    if nesting(program) > NESTED_MOST:
        source.refuse(
            source.tree,
            f"movables are nested {nesting(program)} deep",
            f"{NESTED_MOST} levels are possible: call fewer within each other",
        )
    source.give_up_if_refused()
    return program


def nesting(program: Program) -> int:
    """Give how deep movables call movables: 1 for one that calls none."""
    return 1 + max(map(nesting, program.callees), default=0)


def _signature(source: Source) -> tuple[tuple[Slot, ...], WireType | None]:
    arguments = source.tree.args
    for kind in (arguments.vararg, arguments.kwarg):
        if kind is not None:
            source.refuse(kind, f"*{kind.arg}", "name each parameter, or take a tuple")
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            source.refuse(default, "a default", "give every argument in the call")
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    slots = []
    for argument in every:
        if argument.annotation is None:
            source.refuse(
                argument, f"{argument.arg!r} has no annotation", f"annotate it: {argument.arg}: int"
            )
            continue
        t = _annotated(source, argument.annotation, argument.arg)
        if t is not None:
            slots.append(Slot(argument.arg, t))
    returns = source.tree.returns
    result = None if returns is None else _annotated(source, returns, "return")
    if isinstance(result, Local) and returns is not None:
        source.refuse(returns, "a result bound to its place", "return what is to be known of it")
    return tuple(slots), result


def _annotated(source: Source, node: ast.expr, name: str) -> WireType | None:
    try:
        found = get_type_hints(source.function, globalns=source.names, include_extras=True).get(
            name
        )
    except Exception:  # noqa: BLE001 - one broken annotation must not hide the others
        found = _alone(source, node)
    try:
        return wire_type(found)
    except InputError as problem:
        seen, _, instead = str(problem).partition("; ")
        source.refuse(node, seen, instead or "name a wire type")
    return None


def _alone(source: Source, node: ast.expr) -> Any:
    try:
        return source.evaluate(node, {})
    except Exception as problem:  # noqa: BLE001 - whatever evaluating an annotation may raise
        return f"{ast.unparse(node)} ({problem})"


def _result(source: Source, inferred: Inferred, declared: WireType | None) -> WireType:
    found = inferred.result if inferred.result is not None else NONE
    if declared is None or isinstance(declared, Local):
        return found
    if not is_unknown(found) and not fits(found, declared):
        seen = f"it returns {type_name(found)}, and is annotated {type_name(declared)}"
        source.refuse(source.tree.returns or source.tree, seen, f"-> {type_name(found)}")
    return declared


def _pruned(
    values: ValueParser,
    parsed: Parsed,
    parameters: tuple[Slot, ...],
    callees: tuple[Program, ...],
) -> Program:
    """Give the program of the blocks that can be reached, numbered anew in order."""
    source = values.source
    text = source.lines.get(source.tree.lineno, "").strip()
    entry = Position(0, None, NONE, None, (), parameters, source.tree.lineno, text)
    positions = (entry, *parsed.positions)
    reached = sorted(_reached(parsed.blocks, positions))
    blocks = {old: new for new, old in enumerate(reached)}
    ends = [parsed.blocks[old].end for old in reached]
    kept = [0, *sorted(end.position for end in ends if isinstance(end, Await))]
    numbers = {old: new for new, old in enumerate(kept)}
    places = Places(
        source.file,
        source.tree.lineno,
        tuple(line for old in reached for line in parsed.lines[old]),
    )
    return Program(
        source.function.__name__,
        parameters,
        parsed.variables,
        NONE,
        tuple(_renumbered(values, parsed.blocks[old], blocks, numbers) for old in reached),
        tuple(
            values.moved(
                replace(positions[old], block=blocks[positions[old].block]), positions[old]
            )
            for old in kept
        ),
        callees,
        places,
    )


def _reached(blocks: tuple[Block, ...], positions: tuple[Position, ...]) -> set[int]:
    found: set[int] = set()
    waiting = [0]
    while waiting:
        number = waiting.pop()
        if number in found:
            continue
        found.add(number)
        block = blocks[number]
        waiting += successors(block.end, positions)
        waiting += [handler.block for handler in block.handlers]
    return found


def _renumbered(
    values: ValueParser, block: Block, blocks: dict[int, int], numbers: dict[int, int]
) -> Block:
    handlers = tuple(Handler(h.errors, h.name, blocks[h.block]) for h in block.handlers)
    end = values.moved(_end(block.end, blocks, numbers), block.end)
    return Block(block.statements, end, handlers)


def _end(end: End, blocks: dict[int, int], numbers: dict[int, int]) -> End:
    match end:
        case Jump(block):
            return Jump(blocks[block])
        case Branch(test, then, otherwise):
            return Branch(test, blocks[then], blocks[otherwise])
        case NextNumber() | NextItem():
            return replace(end, body=blocks[end.body], done=blocks[end.done])
        case Await(position):
            return Await(numbers[position])
    return end


def _with_slots(
    program: Program, inferred: Inferred, report: Callable[[object, str, str], None]
) -> Program:
    """Give the program with the slots of every position; what cannot stand in one is reported."""
    live = live_slots(program)
    waits = {
        block.end.position: number
        for number, block in enumerate(program.blocks)
        if isinstance(block.end, Await)
    }
    positions = [program.positions[0]]
    for number, position in enumerate(program.positions[1:], 1):
        state = inferred.ends.get(waits[number], {})
        slots = []
        for name in sorted(live[number]):
            t = state.get(name)
            if t is None or is_unknown(t):
                continue  # reading it is reported where it is read
            if not is_wire(t):
                report(
                    position,
                    f"{name!r} is bound to its place, and is used after this await",
                    f"use {name!r} before it, or open it again within an effect",
                )
                continue
            slots.append(Slot(name, t))
        positions.append(replace(position, slots=tuple(slots)))
    return replace(program, positions=tuple(positions))
