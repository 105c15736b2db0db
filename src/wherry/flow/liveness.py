"""Which variables are still read behind each place: only those stand in a frame."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from wherry.flow.nodes import (
    Await,
    BeginItems,
    BeginRange,
    Block,
    Branch,
    End,
    Get,
    Jump,
    Let,
    NextItem,
    NextNumber,
    Position,
    Program,
    Statement,
    Unpack,
)

Names = frozenset[str]


def used(value: object) -> Iterator[str]:
    """Give the names of the variables that a value, or a statement's values, read."""
    if isinstance(value, Get):
        yield value.name
    elif isinstance(value, tuple):
        for item in value:
            yield from used(item)
    elif isinstance(value, Struct):
        for f in value.__struct_fields__:
            yield from used(getattr(value, f))


def assigned(statement: Statement) -> Names:
    """Give the names that a statement gives values."""
    match statement:
        case Let(target):
            return frozenset({target})
        case Unpack(targets):
            return frozenset(targets)
        case BeginRange(loop):
            return frozenset({f"{loop}.i", f"{loop}.stop"})
        case BeginItems(loop):
            return frozenset({f"{loop}.i", f"{loop}.items"})
    return frozenset()


def successors(end: End, positions: tuple[Position, ...]) -> tuple[int, ...]:
    """Give the blocks that may follow an end."""
    match end:
        case Jump(block):
            return (block,)
        case Branch(_, then, otherwise):
            return (then, otherwise)
        case NextNumber(body=body, done=done) | NextItem(body=body, done=done):
            return (body, done)
        case Await(number):
            return (positions[number].block,)
    return ()


def live_slots(program: Program) -> tuple[Names, ...]:
    """Give, by position, the names that are read after the result is there: those of its frame."""
    entries = _settled(program)
    found: list[Names] = [frozenset()] * len(program.positions)
    for block in program.blocks:
        if isinstance(block.end, Await):
            number = block.end.position
            found[number] = _waiting(program.positions[number], block, entries)
    return tuple(found)


def _settled(program: Program) -> list[Names]:
    """Give the names live where each block begins."""
    entries: list[Names] = [frozenset()] * len(program.blocks)
    changed = True
    while changed:
        changed = False
        for number in range(len(program.blocks) - 1, -1, -1):
            live = _entry(program, program.blocks[number], entries)
            if live != entries[number]:
                entries[number] = live
                changed = True
    return entries


def _caught(block: Block, entries: list[Names]) -> Names:
    """Give what an except-clause around the block reads: an error may come at any statement."""
    found: Names = frozenset()
    for handler in block.handlers:
        found |= entries[handler.block] - {handler.name or ""}
    return found


def _waiting(position: Position, block: Block, entries: list[Names]) -> Names:
    after = entries[position.block] - {position.target or ""}
    return after | _caught(block, entries)


def _entry(program: Program, block: Block, entries: list[Names]) -> Names:
    caught = _caught(block, entries)
    live = _end(program, block, entries) | caught
    for statement in reversed(block.statements):
        live = (live - assigned(statement)) | frozenset(used(statement)) | caught
    return live


def _end(program: Program, block: Block, entries: list[Names]) -> Names:
    end = block.end
    match end:
        case NextNumber(loop, stop, _, target, body, done):
            counter = frozenset({f"{loop}.i", *used(stop)})
            return counter | (entries[body] - {target}) | entries[done]
        case NextItem(loop, items, target, body, done):
            counter = frozenset({f"{loop}.i", *used(items)})
            return counter | (entries[body] - {target}) | entries[done]
        case Await(number):
            position = program.positions[number]
            return frozenset(used(position.operands)) | _waiting(position, block, entries)
    found = frozenset(used(end))
    for block_number in successors(end, program.positions):
        found |= entries[block_number]
    return found
