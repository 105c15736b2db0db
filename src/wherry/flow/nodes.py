"""The grammar of programs: what a movable function is once it is compiled. Data, never code.

    Program   = Program(name, parameters, variables, result, blocks, positions, callees, places)
    Block     = Block(statements, end, handlers)         handlers: innermost first
    Handler   = Handler(errors, name, block)             name: what the error's text is bound to
    Statement = Let(target, value) | Unpack(targets, value) | Evaluate(value)
              | BeginRange(loop, start, stop)            counter `loop.i`, end `loop.stop`
              | BeginItems(loop, items)                  counter `loop.i`, tuple `loop.items`
    End       = Jump(block) | Branch(test, then, otherwise) | Return(value) | Raise(error, message)
              | NextNumber(loop, stop, step, target, body, done)
              | NextItem(loop, items, target, body, done)
              | Await(position)
    Position  = Position(block, target, type, awaits, operands, slots)
                block: where it goes on; slots: what is live meanwhile; position 0 is the entry
    Awaits    = RouteTo(dataset, has_key) | Chain(source, calls, inputs) | TakeValue(column)
              | RespondWith() | Sleep() | WaitFor() | Gather(chains) | CallMovable(callee)
              | Perform(name, effect, key)               effect in pure idempotent once
    Value     = Constant(value) | Get(name) | Unary(op, value) | Binary(op, left, right)
              | Comparison(ops, values) | Either(op, values)      op in and or
              | Choice(test, then, otherwise) | Formatted(parts) | TupleOf(items)
              | Index(value, index) | Attribute(value, name)
              | MethodCall(value, name, arguments) | FunctionCall(name, arguments, names)

Names of variables are Python's; those with a dot are the compiler's own. `places` says where in
which file everything stood, for tracebacks; it is no part of a program's identity.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from wherry.base.ids import digest
from wherry.flow.types import WireType
from wherry.ir.codec import encode, register
from wherry.ir.expr import Call, Node


@register
class Constant(Struct, frozen=True):
    """A value that never changes; it is part of the program's identity."""

    value: object


@register
class Get(Struct, frozen=True):
    """The value of a variable."""

    name: str


@register
class Unary(Struct, frozen=True):
    """`op` in - + ~ not."""

    op: str
    value: Value


@register
class Binary(Struct, frozen=True):
    """`op` in + - * / // % ** & | ^ << >>."""

    op: str
    left: Value
    right: Value


@register
class Comparison(Struct, frozen=True):
    """A chain of comparisons: each value is evaluated once, and none after the first false."""

    ops: tuple[str, ...]
    values: tuple[Value, ...]


@register
class Either(Struct, frozen=True):
    """`and` or `or` of values, which gives one of them as Python does."""

    op: str
    values: tuple[Value, ...]


@register
class Choice(Struct, frozen=True):
    """`then if test else otherwise`."""

    test: Value
    then: Value
    otherwise: Value


@register
class Format(Struct, frozen=True):
    """A value within an f-string: `conversion` in "" s r, and the text after the colon."""

    value: Value
    conversion: str
    spec: str


@register
class Formatted(Struct, frozen=True):
    """An f-string: texts and formats."""

    parts: tuple[str | Format, ...]


@register
class TupleOf(Struct, frozen=True):
    """A tuple of values."""

    items: tuple[Value, ...]


@register
class Index(Struct, frozen=True):
    """An item of a tuple, or a character of a text."""

    value: Value
    index: Value


@register
class Attribute(Struct, frozen=True):
    """A listed attribute: of dates and times, of rows."""

    value: Value
    name: str


@register
class MethodCall(Struct, frozen=True):
    """A listed method of a scalar."""

    value: Value
    name: str
    arguments: tuple[Value, ...]


@register
class FunctionCall(Struct, frozen=True):
    """A listed function; the last arguments are given by `names`."""

    name: str
    arguments: tuple[Value, ...]
    names: tuple[str, ...] = ()


Value = (
    Constant
    | Get
    | Unary
    | Binary
    | Comparison
    | Either
    | Choice
    | Formatted
    | TupleOf
    | Index
    | Attribute
    | MethodCall
    | FunctionCall
)


@register
class Let(Struct, frozen=True):
    """Give a variable a value."""

    target: str
    value: Value


@register
class Unpack(Struct, frozen=True):
    """Give several variables the items of a tuple."""

    targets: tuple[str, ...]
    value: Value


@register
class Evaluate(Struct, frozen=True):
    """Evaluate and forget: what it raises counts."""

    value: Value


@register
class BeginRange(Struct, frozen=True):
    """Begin a loop over numbers."""

    loop: int
    start: Value
    stop: Value


@register
class BeginItems(Struct, frozen=True):
    """Begin a loop over the items of a tuple."""

    loop: int
    items: Value


Statement = Let | Unpack | Evaluate | BeginRange | BeginItems


@register
class Jump(Struct, frozen=True):
    """Go on at a block."""

    block: int


@register
class Branch(Struct, frozen=True):
    """Go on at one of two blocks."""

    test: Value
    then: int
    otherwise: int


@register
class Return(Struct, frozen=True):
    """End with a value."""

    value: Value


@register
class Raise(Struct, frozen=True):
    """Raise a declared error."""

    error: str
    message: Value | None


@register
class NextNumber(Struct, frozen=True):
    """The next number of a loop: it becomes `target`, and `body` runs; after the last, `done`."""

    loop: int
    stop: Value
    step: int
    target: str
    body: int
    done: int


@register
class NextItem(Struct, frozen=True):
    """The next item of a loop's tuple."""

    loop: int
    items: Value
    target: str
    body: int
    done: int


@register
class Await(Struct, frozen=True):
    """Stop at a position, until the result of what it awaits is there."""

    position: int


End = Jump | Branch | Return | Raise | NextNumber | NextItem | Await


@register
class Handler(Struct, frozen=True):
    """An except-clause: for these errors go on at a block, their text bound to `name`."""

    errors: tuple[str, ...]
    name: str | None
    block: int


@register
class Block(Struct, frozen=True):
    """Statements without a way in but their first, or out but the end, or an error."""

    statements: tuple[Statement, ...]
    end: End
    handlers: tuple[Handler, ...] = ()


@register
class Operand(Struct, frozen=True):
    """In a chain's arguments: an operand of the await, by its name in `Chain.inputs`."""

    name: str

    def __str__(self) -> str:
        return f"<{self.name}>"


@register
class Traced(Struct, frozen=True):
    """An expression over rows as an argument; operands in it are literals with an `Operand`."""

    node: Node
    name: str | None


@register
class TracedCall(Struct, frozen=True):
    """An aggregate as an argument."""

    call: Call
    name: str | None


@register
class ChainCall(Struct, frozen=True):
    """A method of a chain; arguments: Traced, TracedCall, Operand, constants, tuples of them."""

    method: str
    arguments: tuple[object, ...]
    named: tuple[tuple[str, object], ...]


@register
class ScanOf(Struct, frozen=True):
    """All rows of a dataset, as the source of a chain."""

    dataset: str


@register
class Chain(Struct, frozen=True):
    """A pipeline: its source (`Operand` for rows or a shard), its calls, the names of operands."""

    source: Operand | ScanOf
    calls: tuple[ChainCall, ...]
    inputs: tuple[str, ...]


@register
class RouteTo(Struct, frozen=True):
    """Find the shard of a dataset that has a key: one operand, or none for all shards."""

    dataset: str
    has_key: bool


@register
class TakeValue(Struct, frozen=True):
    """The value of a column in the one row that the operand has."""

    column: str


@register
class RespondWith(Struct, frozen=True):
    """Answer with the operand's rows."""


@register
class Sleep(Struct, frozen=True):
    """Wait for the operand: seconds, or a timedelta."""


@register
class WaitFor(Struct, frozen=True):
    """Wait for the event that the operand names."""


@register
class Gather(Struct, frozen=True):
    """Several chains at once; operands are those of the chains, one after the other."""

    chains: tuple[Chain, ...]


@register
class CallMovable(Struct, frozen=True):
    """Run another program, by its place in `callees`; operands are its parameters."""

    callee: int


@register
class Slot(Struct, frozen=True):
    """A variable in a frame."""

    name: str
    type: WireType


@register
class Perform(Struct, frozen=True):
    """Call a registered effect; `key` is the operand that tells repetitions, or -1."""

    name: str
    effect: str
    key: int
    parameters: tuple[Slot, ...]


Awaits = (
    RouteTo | Chain | TakeValue | RespondWith | Sleep | WaitFor | Gather | CallMovable | Perform
)


@register
class Position(Struct, frozen=True):
    """Where a program can be frozen; `awaits` is None at the entry.

    Attributes
    ----------
    block : int
        Where it goes on.
    target : str or None
        The variable that takes the result.
    type : WireType
        Of the result.
    operands : tuple of Value
        What the await is given, evaluated in order.
    slots : tuple of Slot
        What is live until the result is there, by name.
    line, text : int, str
        Where it stands; no part of the identity.
    """

    block: int
    target: str | None
    type: WireType
    awaits: Awaits | None
    operands: tuple[Value, ...]
    slots: tuple[Slot, ...]
    line: int = 0
    text: str = ""


@register
class Places(Struct, frozen=True):
    """Where a program stood: its file, the lines of all statements and ends, block by block."""

    file: str
    line: int
    lines: tuple[int, ...]


@register
class Program(Struct, frozen=True):
    """A movable as data; `variables` are those with annotations, `result` what it gives."""

    name: str
    parameters: tuple[Slot, ...]
    variables: tuple[Slot, ...]
    result: WireType
    blocks: tuple[Block, ...]
    positions: tuple[Position, ...]
    callees: tuple[Program, ...]
    places: Places


NOWHERE: Final = Places("", 0, ())


def bare(program: Program) -> Program:
    """Give the program without what comments and formatting change."""
    positions = tuple(replace(p, line=0, text="") for p in program.positions)
    callees = tuple(map(bare, program.callees))
    return replace(program, positions=positions, callees=callees, places=NOWHERE)


def identity(program: Program) -> bytes:
    """Give the 16-byte digest of all that a program's runs depend on."""
    return digest(encode(bare(program)))
