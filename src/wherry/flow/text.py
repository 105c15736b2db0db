"""Programs as a person would read them: blocks, positions with their slots, values as Python."""

from __future__ import annotations

from collections.abc import Iterator

from wherry.flow.nodes import (
    Attribute,
    Await,
    BeginItems,
    BeginRange,
    Binary,
    Block,
    Branch,
    Chain,
    ChainCall,
    Choice,
    Comparison,
    Constant,
    Either,
    End,
    Evaluate,
    Formatted,
    FunctionCall,
    Gather,
    Get,
    Index,
    Jump,
    Let,
    MethodCall,
    NextItem,
    NextNumber,
    Operand,
    Position,
    Program,
    Raise,
    Return,
    ScanOf,
    Statement,
    Traced,
    TracedCall,
    TupleOf,
    Unary,
    Unpack,
    Value,
)
from wherry.flow.proof import awaits_text
from wherry.flow.types import type_name
from wherry.ir.text import call_text, to_text


def program_text(program: Program) -> str:
    """Give the whole program as text, those it calls first."""
    return "\n".join(_program(program))


def _program(program: Program) -> Iterator[str]:
    for callee in program.callees:
        yield from _program(callee)
        yield ""
    given = ", ".join(f"{s.name}: {type_name(s.type)}" for s in program.parameters)
    yield f"movable {program.name}({given}) -> {type_name(program.result)}"
    for number, block in enumerate(program.blocks):
        yield from _block(program, number, block)


def _block(program: Program, number: int, block: Block) -> Iterator[str]:
    caught = ", ".join(
        f"{' or '.join(h.errors)}{f' as {h.name}' if h.name else ''} -> {h.block}"
        for h in block.handlers
    )
    yield f"  {number}:" + (f"  except {caught}" if caught else "")
    for statement in block.statements:
        yield f"    {statement_text(statement)}"
    if isinstance(block.end, Await):
        yield from _await(program, block.end.position)
    else:
        yield f"    {_end(block.end)}"


def _await(program: Program, number: int) -> Iterator[str]:
    position: Position = program.positions[number]
    operands = ", ".join(map(value_text, position.operands))
    target = f"{position.target} = " if position.target else ""
    what = awaits_text(program, position.awaits)
    yield f"    position {number}: {target}await {what} ({operands}), go to {position.block}"
    held = ", ".join(f"{s.name}: {type_name(s.type)}" for s in position.slots)
    yield f"      holds {held or 'nothing'}"
    chains = position.awaits.chains if isinstance(position.awaits, Gather) else (position.awaits,)
    for chain in chains:
        if isinstance(chain, Chain):
            yield f"      {chain_text(chain)}"


def chain_text(chain: Chain) -> str:
    """Give a recorded pipeline as text."""
    source = chain.source
    begin = f"scan({source.dataset!r})" if isinstance(source, ScanOf) else source.name
    return ".".join((begin, *map(_call, chain.calls)))


def _call(call: ChainCall) -> str:
    arguments = [_argument(a) for a in call.arguments]
    arguments += [f"{name}={_argument(a)}" for name, a in call.named]
    return f"{call.method}({', '.join(arguments)})"


def _argument(value: object) -> str:
    match value:
        case Operand(name):
            return f"<{name}>"
        case Traced(node, name):
            said = to_text(node)
            return said if name in {None, said} else f"{said} as {name}"
        case TracedCall(call, name):
            return call_text(call) + (f" as {name}" if name else "")
        case tuple():
            return f"({', '.join(map(_argument, value))})"
    return repr(value)


def statement_text(statement: Statement) -> str:
    """Give a statement as Python would have it; counters of loops have names with a dot."""
    match statement:
        case Let(target, value):
            return f"{target} = {value_text(value)}"
        case Unpack(targets, value):
            return f"{', '.join(targets)} = {value_text(value)}"
        case Evaluate(value):
            return value_text(value)
        case BeginRange(loop, start, stop):
            return f"{loop}.i, {loop}.stop = {value_text(start)}, {value_text(stop)}"
        case BeginItems(loop, items):
            return f"{loop}.i, {loop}.items = 0, {value_text(items)}"


def _end(end: End) -> str:
    match end:
        case Jump(block):
            return f"go to {block}"
        case Branch(test, then, otherwise):
            return f"if {value_text(test)} go to {then} else {otherwise}"
        case Return(value):
            return f"return {value_text(value)}"
        case Raise(error, message):
            return f"raise {error}({value_text(message) if message is not None else ''})"
        case NextNumber(loop, stop, step, target, body, done):
            to = value_text(stop)
            return f"{target} = next of {loop}.i to {to} by {step}: go to {body}, at last {done}"
        case NextItem(loop, items, target, body, done):
            of = value_text(items)
            return f"{target} = next of {loop}.i in {of}: go to {body}, at last {done}"
        case Await(position):
            return f"await at position {position}"


def value_text(value: Value) -> str:
    """Give a value as Python would have it, inner operators in parentheses."""
    match value:
        case Constant(constant):
            return repr(constant)
        case Get(name):
            return name
        case Unary(op, inner):
            return f"{op} {_inner(inner)}" if op == "not" else f"{op}{_inner(inner)}"
        case Binary(op, left, right):
            return f"{_inner(left)} {op} {_inner(right)}"
        case Comparison(ops, (first, *rest)):
            pairs = zip(ops, rest, strict=True)
            return " ".join((_inner(first), *(f"{op} {_inner(v)}" for op, v in pairs)))
        case Either(op, values):
            return f" {op} ".join(map(_inner, values))
        case Choice(test, then, otherwise):
            return f"{_inner(then)} if {_inner(test)} else {_inner(otherwise)}"
    return _access(value)


def _access(value: Value) -> str:
    match value:
        case TupleOf(items):
            inner = ", ".join(map(value_text, items))
            return f"({inner},)" if len(items) == 1 else f"({inner})"
        case Index(inner, index):
            return f"{_inner(inner)}[{value_text(index)}]"
        case Attribute(inner, name):
            return f"{_inner(inner)}.{name}"
        case MethodCall(inner, name, arguments):
            return f"{_inner(inner)}.{name}({', '.join(map(value_text, arguments))})"
        case FunctionCall(name, arguments, names):
            by_place = len(arguments) - len(names)
            given = [value_text(a) for a in arguments[:by_place]]
            pairs = zip(names, arguments[by_place:], strict=True)
            given += [f"{n}={value_text(a)}" for n, a in pairs]
            return f"{name}({', '.join(given)})"
        case Formatted(parts):
            return (
                "text("
                + ", ".join(
                    repr(p)
                    if isinstance(p, str)
                    else value_text(p.value)
                    + (f"!{p.conversion}" if p.conversion else "")
                    + (f":{p.spec}" if p.spec else "")
                    for p in parts
                )
                + ")"
            )
    raise TypeError(f"not a value: {type(value).__name__}")


def _inner(value: Value) -> str:
    nested = isinstance(value, Unary | Binary | Comparison | Either | Choice)
    return f"({value_text(value)})" if nested else value_text(value)
