"""What a movable may await: marked calls and pipelines over rows, shards and scans."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError, unknown_name
from wherry.flow.constants import constant_type
from wherry.flow.marks import Mark, mark_of
from wherry.flow.nodes import (
    Awaits,
    CallMovable,
    Chain,
    ChainCall,
    Constant,
    Gather,
    Get,
    Operand,
    Perform,
    Program,
    RespondWith,
    RouteTo,
    ScanOf,
    Sleep,
    TakeValue,
    Value,
    WaitFor,
)
from wherry.flow.outside import is_listed, resolved
from wherry.flow.parse_values import ValueParser
from wherry.flow.record import Impure, operands_in, recorded
from wherry.flow.source import MISSING
from wherry.flow.types import (
    BYTES,
    NONE,
    ROWS,
    SHARD,
    Fixed,
    WireType,
)

_ONE_OPERAND: Final[dict[str, tuple[str, Awaits, WireType]]] = {
    "respond": ("rows", RespondWith(), ROWS),
    "sleep": ("time", Sleep(), NONE),
    "event": ("name", WaitFor(), BYTES),
}
"""Marks with one argument: its name, what is awaited, and the type of what that gives."""
_NO_VALUES: Final = (
    *(ast.Lambda, ast.List, ast.Dict, ast.Set, ast.Starred),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


class Vocabulary(Struct, frozen=True):
    """What pipelines can do: the names of their methods."""

    methods: frozenset[str]


class Awaited(Struct, frozen=True):
    """An await, parsed: what it is, its operands, and the type of what it gives."""

    awaits: Awaits
    operands: tuple[Value, ...]
    type: WireType


class AwaitParser:
    """Makes awaits of the expressions behind `await`."""

    def __init__(self, values: ValueParser, vocabulary: Vocabulary) -> None:
        self.values = values
        self.source = values.source
        self.vocabulary = vocabulary
        self.callees: list[Program] = []

    def refuse(self, node: ast.AST, seen: str, instead: str) -> Any:
        """Note a reason; give None, which stands for what is refused."""
        self.source.refuse(node, seen, instead)
        return None

    def awaited(self, node: ast.expr, declared: WireType | None) -> Awaited | None:
        """Give what an expression behind `await` is; None if it was refused.

        Parameters
        ----------
        declared : WireType, optional
            What the annotation of the target promises.
        """
        mark = self._mark(node)
        if mark is not None and isinstance(node, ast.Call):
            return self._marked(node, mark, declared)
        match node:
            case ast.Call(ast.Attribute() as method) if self._found(method) is MISSING:
                chain = self._chain(node)
                return None if chain is None else Awaited(chain[0], chain[1], ROWS)
        self._not_awaited(node)
        return None

    def _not_awaited(self, node: ast.expr) -> None:
        text = ast.unparse(node)
        seen, instead = (
            f"{text:.60} cannot be awaited",
            "await a pipeline, route, respond, sleep, event, value, gather, an effect or a movable",
        )
        match node:
            case ast.Call(function) if (found := self._found(function)) is not MISSING:
                if not is_listed(found):
                    self.values.value(node)  # says what is wrong with calling it
                    return
                seen, instead = f"{text} is no await", "leave out `await`"
            case ast.Call(ast.Name(name) as function) if name not in self.values.variables:
                self.values.unknown(function)
                return
            case ast.Name(name) if name in self.values.variables:
                seen = f"{text} is a variable: what is awaited must be known when it is declared"
                instead = f"write the pipeline behind await: x = await {text}.select(...)"
        self.refuse(node, seen, instead)

    def _found(self, node: ast.expr) -> Any:
        """Give the object from outside that an expression names, or `MISSING`."""
        return resolved(self.source, node, self.values.variables)

    def _mark(self, node: ast.expr) -> Mark | None:
        found = self._found(node.func if isinstance(node, ast.Call) else node)
        return None if found is MISSING else mark_of(found)

    def _marked(self, node: ast.Call, mark: Mark, declared: WireType | None) -> Awaited | None:
        if any(isinstance(a, ast.Starred) for a in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            return self.refuse(node, "* in a call", "name the arguments one by one")
        if mark.kind in _ONE_OPERAND:
            name, awaits, t = _ONE_OPERAND[mark.kind]
            found = self._arguments(node, (name,))
            if mark.kind == "event" and declared is not None:
                t = declared
            return None if found is None else Awaited(awaits, found, t)
        match mark.kind:
            case "route":
                return self._route(node)
            case "value":
                return self._value(node, declared)
            case "gather":
                return self._gather(node)
            case "scan":
                return self.refuse(
                    node,
                    "scan is not awaited",
                    f"await a pipeline: {ast.unparse(node)}.select(...)",
                )
            case "movable":
                return self._movable(node, mark)
            case "effect":
                return self._effect(node, mark)
        raise TypeError(mark.kind)

    def _arguments(self, node: ast.Call, names: Sequence[str]) -> tuple[Value, ...] | None:
        """Give the arguments of a call in the order of `names`; all are needed."""
        bound = self._bound(node, names)
        return None if bound is None else tuple(self.values.value(bound[n]) for n in names)

    def _bound(self, node: ast.Call, names: Sequence[str]) -> dict[str, ast.expr] | None:
        function = ast.unparse(node.func)
        bound = dict(zip(names, node.args, strict=False))
        for keyword in node.keywords:
            assert keyword.arg is not None
            if keyword.arg not in names or keyword.arg in bound:
                problem = unknown_name("argument", keyword.arg, names)
                self.refuse(keyword, f"{function}: {problem}", f"give {', '.join(names)}")
                return None
            bound[keyword.arg] = keyword.value
        if len(node.args) > len(names) or len(bound) != len(names):
            given = len(node.args) + len(node.keywords)
            seen = f"{function} takes {len(names)} arguments; got {given}"
            self.refuse(node, seen, f"{function}({', '.join(names)})")
            return None
        return bound

    def _text(self, node: ast.expr, what: str) -> str | None:
        match self.values.value(node):
            case Constant(str(text)):
                return text
        self.refuse(node, f"{what} must be a constant text", "write it as a text, or name one")
        return None

    def _route(self, node: ast.Call) -> Awaited | None:
        given = len(node.args) + len(node.keywords)
        bound = self._bound(node, ("dataset", "key")[: max(1, given)])
        if bound is None:
            return None
        dataset = self._text(bound["dataset"], "the dataset")
        if dataset is None:
            return None
        key = (self.values.value(bound["key"]),) if "key" in bound else ()
        return Awaited(RouteTo(dataset, bool(key)), key, SHARD)

    def _value(self, node: ast.Call, declared: WireType | None) -> Awaited | None:
        bound = self._bound(node, ("rows", "column"))
        if bound is None:
            return None
        column = self._text(bound["column"], "the column")
        if declared is None:
            text = ast.unparse(node)
            return self.refuse(
                node, "a value whose type is not known", f"annotate it: x: int = await {text}"
            )
        rows = self.values.value(bound["rows"])
        return None if column is None else Awaited(TakeValue(column), (rows,), declared)

    def _gather(self, node: ast.Call) -> Awaited | None:
        if node.keywords or not node.args:
            return self.refuse(node, "gather without pipelines", "a, b = await gather(p, q)")
        chains: list[Chain] = []
        operands: list[Value] = []
        for argument in node.args:
            if not isinstance(argument, ast.Call) or self._mark(argument) is not None:
                self.refuse(
                    argument,
                    "gather takes pipelines only",
                    "write each pipeline within gather(...): rows.select(...)",
                )
                continue
            found = self._chain(argument)
            if found is not None:
                chains.append(found[0])
                operands += found[1]
        if len(chains) != len(node.args):
            return None
        return Awaited(Gather(tuple(chains)), tuple(operands), Fixed((ROWS,) * len(chains)))

    def _movable(self, node: ast.Call, mark: Mark) -> Awaited | None:
        assert mark.program is not None
        arguments = self._arguments(node, [slot.name for slot in mark.program.parameters])
        if arguments is None:
            return None
        # By identity: programs that are equal may differ, because 1 == True.
        found = [n for n, known in enumerate(self.callees) if known is mark.program]
        if not found:
            found = [len(self.callees)]
            self.callees.append(mark.program)
        return Awaited(CallMovable(found[0]), arguments, mark.program.result)

    def _effect(self, node: ast.Call, mark: Mark) -> Awaited | None:
        names = [slot.name for slot in mark.parameters]
        arguments = self._arguments(node, names)
        if arguments is None:
            return None
        key = names.index(mark.key) if mark.key else -1
        made = Perform(mark.name, mark.effect, key, mark.parameters)
        return Awaited(made, arguments, mark.result)

    def _chain(self, node: ast.expr) -> tuple[Chain, tuple[Value, ...]] | None:
        calls: list[tuple[ast.Call, str]] = []
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if self._mark(node) is not None:
                break
            calls.append((node, node.func.attr))
            node = node.func.value
        source = self._chain_source(node)
        operands: dict[str, Value] = {}
        if isinstance(source, Operand):
            operands[source.name] = self.values.put(Get(source.name), node)
        made = [self._chain_call(call, name, operands) for call, name in reversed(calls)]
        if source is None or any(call is None for call in made):
            return None
        chain = Chain(source, tuple(c for c in made if c is not None), tuple(operands))
        return chain, tuple(operands.values())

    def _chain_source(self, node: ast.expr) -> Operand | ScanOf | None:
        if isinstance(node, ast.Name) and node.id in self.values.variables - self.values.errors:
            return Operand(node.id)
        mark = self._mark(node)
        if mark is not None and mark.kind == "scan" and isinstance(node, ast.Call):
            bound = self._bound(node, ("dataset",))
            dataset = None if bound is None else self._text(bound["dataset"], "the dataset")
            return None if dataset is None else ScanOf(dataset)
        self.refuse(
            node,
            f"a pipeline cannot begin with {ast.unparse(node):.60}",
            "begin with a shard or rows of the movable, or scan(...); assign awaits first",
        )
        return None

    def _chain_call(
        self, node: ast.Call, method: str, operands: dict[str, Value]
    ) -> ChainCall | None:
        if method not in self.vocabulary.methods:
            problem = unknown_name("operator", method, sorted(self.vocabulary.methods))
            return self.refuse(node.func, str(problem), "use an operator of pipelines")
        arguments = [self._argument(a, operands) for a in node.args]
        named = [(k.arg or "**", self._argument(k.value, operands)) for k in node.keywords]
        if any(name == "**" for name, _ in named):
            return self.refuse(node, "** in a pipeline", "name the arguments one by one")
        if MISSING in arguments or any(value is MISSING for _, value in named):
            return None
        return ChainCall(method, tuple(arguments), tuple(named))

    def _argument(self, node: ast.expr, operands: dict[str, Value]) -> Any:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Await | ast.NamedExpr | ast.Yield | ast.YieldFrom):
                self.refuse(inner, "await or := within a pipeline", "assign it first, then use it")
                return MISSING
            if isinstance(inner, ast.Name) and inner.id in self.values.errors:
                self.refuse(inner, f"{inner.id!r} is an error", f"write x = str({inner.id}) before")
                return MISSING
        if isinstance(node, ast.Starred):
            self.refuse(node, "a * in a call", "name the arguments one by one")
            return MISSING
        if isinstance(node, ast.Name) and node.id in self.values.variables:
            return self._operand(node.id, node, operands)
        reasons = len(self.source.reasons)
        lifter = _Lifter(self, operands, node)
        lifted = lifter.visit(copy.deepcopy(node))
        if len(self.source.reasons) > reasons:
            return MISSING
        if isinstance(lifted, ast.Name) and lifted.id in lifter.made:
            return Operand(lifted.id)
        held = {name: name for name in self.values.variables} | lifter.made
        try:
            found = recorded(self.source, lifted, held)
        except Impure as problem:
            instead = "use only the row, columns, constants and variables of the movable"
            self.refuse(node, f"{ast.unparse(node):.60} is impure: {problem}", instead)
            return MISSING
        except InputError as problem:
            self._refuse_recording(node, str(problem))
            return MISSING
        for name in operands_in(found):
            if name not in operands:
                operands[name] = self.values.put(Get(name), node)
        return found

    def _refuse_recording(self, node: ast.expr, problem: str) -> None:
        seen, mark, instead = problem.partition("; ")
        self.refuse(node, seen, instead if mark else "use columns, constants and variables only")

    def ordinary(self, node: ast.expr, rows: frozenset[str]) -> bool:
        """Tell whether part of an argument is a value of the movable, not one over rows.

        Parameters
        ----------
        rows : frozenset of str
            The names of lambdas' parameters.
        """
        variables = self.values.variables
        names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        if not variables & {*names} or rows & {*names}:
            return False
        if any(isinstance(n, _NO_VALUES) for n in ast.walk(node)):
            return False
        return all(name in variables or self._is_plain(name) for name in names)

    def _is_plain(self, name: str) -> bool:
        found = self.source.outside(name)
        if found is MISSING:
            return False
        return constant_type(found) is not None or is_listed(found)

    def _operand(self, name: str, node: ast.expr, operands: dict[str, Value]) -> Operand:
        if name not in operands:
            operands[name] = self.values.value(node)
        return Operand(name)

    def lift(self, node: ast.expr, operands: dict[str, Value]) -> str:
        """Make an operand of a value within an argument; give its name."""
        return self._operand(f"{len(operands)}.operand", node, operands).name


class _Lifter(ast.NodeTransformer):
    """Takes out of an argument what is a value of the movable: Python computes it before.

    So `lambda r: r.day < lo + timedelta(days=3)` has the day as one operand, and nothing but
    expressions over rows is recorded.
    """

    def __init__(self, parser: AwaitParser, operands: dict[str, Value], whole: ast.expr) -> None:
        self.parser = parser
        self.operands = operands
        self.rows = frozenset(
            a.arg for n in ast.walk(whole) if isinstance(n, ast.Lambda) for a in n.args.args
        )
        self.made: dict[str, str] = {}

    def visit(self, node: ast.AST) -> Any:
        """Give the node, or the name of the operand that stands for it."""
        whole = not isinstance(node, ast.Name | ast.Tuple | ast.FormattedValue)
        plain = isinstance(node, ast.expr) and whole
        if plain and self.parser.ordinary(node, self.rows):  # type: ignore[arg-type]
            name = self.parser.lift(node, self.operands)  # type: ignore[arg-type]
            self.made[name] = ast.unparse(node)
            return ast.copy_location(ast.Name(name, ast.Load()), node)
        return self.generic_visit(node)
