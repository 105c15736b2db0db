"""Which Python a user's function may hold: numbers only, and loops that end.

What is refused is refused with file, line, the line itself with a mark, and what to write instead.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final, NoReturn

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.kernels.layout import MATH

BUILTINS: Final = frozenset({"abs", "min", "max", "int", "float", "bool"})
MOST_OPERATIONS: Final = 100_000
"""A row may cost so many operations, loops counted by their rounds."""

_STATEMENTS: Final = (
    *(ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.If, ast.For),
    *(ast.Pass, ast.Break, ast.Continue),
)
_PLAIN: Final = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.operator, ast.unaryop),
    *(ast.boolop, ast.cmpop, ast.Load, ast.Store, ast.expr_context),
)
_INSTEAD: Final = {
    ast.While: "a loop must end: write `for i in range(CONSTANT)` with `break`",
    ast.Try: "nothing is raised here: test with `if`",
    ast.Raise: "nothing can be raised: give a value such as math.nan",
    ast.Lambda: "declare another @wherry.kernel and call it",
    ast.FunctionDef: "declare another @wherry.kernel and call it",
    ast.Subscript: "there are no lists or arrays: numbers only",
    ast.List: "there are no lists: numbers only",
    ast.Tuple: "assign names one by one",
    ast.Dict: "there are no dictionaries: numbers only",
    ast.JoinedStr: "there is no text: numbers only",
    ast.Import: "import outside the function; only `math` can be used",
    ast.ImportFrom: "import outside the function; only `math` can be used",
    ast.Global: "results leave by `return` only",
    ast.Nonlocal: "results leave by `return` only",
}


class _Body(Struct, frozen=True):
    """The function at hand and what it may name."""

    lines: tuple[str, ...]
    where: str
    first: int
    name: str
    constants: Mapping[str, object]
    costs: Mapping[str, int]
    uses_math: bool
    local: frozenset[str]

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        raise InputError(
            f"{self.where}:{self.first + line - 1}: in {self.name}: {why}\n"
            f"    {text}\n    {' ' * column}^"
        )


def check_body(
    source: str,
    where: str,
    first: int,
    constants: Mapping[str, object],
    costs: Mapping[str, int],
    *,
    uses_math: bool,
) -> int:
    """Refuse a function that is not made of numbers and loops that end.

    Parameters
    ----------
    source, where, first : str, str, int
        The text, its file, and the number of its first line.
    constants, costs : mapping
        What the function names from outside: numbers, and the operations of kernels it calls.

    Returns
    -------
    int
        At most so many operations make one value.
    """
    function = ast.parse(source).body[0]
    lines = tuple(source.splitlines())
    if not isinstance(function, ast.FunctionDef):
        raise InputError(f"{where}:{first}: only a `def` can be a kernel: no lambda, no async def")
    arguments = {a.arg for a in function.args.args}
    stored = {n.id for n in ast.walk(function) if _is_stored(n)}  # type: ignore[attr-defined]
    local = frozenset(arguments | stored)
    body = _Body(lines, where, first, function.name, constants, costs, uses_math, local)
    statements = function.body
    if isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant):
        statements = statements[1:]
    total = sum(_statement(body, s) for s in statements)
    if not _returns(statements):
        body.refuse(function, "some way through it ends without `return`")
    _assigned(body, statements, frozenset(arguments), [])
    if total > MOST_OPERATIONS:
        body.refuse(function, f"may take {total} operations a row; at most {MOST_OPERATIONS}")
    return max(1, total)


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _returns(statements: list[ast.stmt]) -> bool:
    """Tell whether every way through `statements` ends in a return."""
    if not statements:
        return False
    last = statements[-1]
    if isinstance(last, ast.If):
        return _returns(last.body) and _returns(last.orelse)
    return isinstance(last, ast.Return) and last.value is not None


def _statement(body: _Body, node: ast.stmt) -> int:
    if not isinstance(node, _STATEMENTS):
        kind = type(node).__name__
        body.refuse(node, _INSTEAD.get(type(node), f"a {kind} statement has no place here"))
    match node:
        case ast.If(test, then, otherwise):
            ways = [sum(_statement(body, s) for s in way) for way in (then, otherwise)]
            return _cost(body, test) + max(ways)
        case ast.For(target, loop, inner, otherwise):
            if otherwise or not isinstance(target, ast.Name):
                body.refuse(node, "write `for name in range(CONSTANT)`, without else")
            rounds = _rounds(body, loop)
            return rounds * (1 + sum(_statement(body, s) for s in inner))
        case (
            ast.Assign(targets=[ast.Name()], value=value)
            | ast.AugAssign(target=ast.Name(), value=value)
        ):
            return 1 + _cost(body, value)
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            return 1 + _cost(body, value)
        case ast.Return(value=ast.expr() as value):
            return _cost(body, value)
        case ast.Pass() | ast.Break() | ast.Continue():
            return 0
    return body.refuse(node, "assign one name a value, and return one")


def _rounds(body: _Body, loop: ast.expr) -> int:
    """Give how many rounds a loop has at most."""
    if (
        not isinstance(loop, ast.Call)
        or not isinstance(loop.func, ast.Name)
        or loop.func.id != "range"
        or loop.keywords
    ):
        body.refuse(loop, "a loop must end: write `for i in range(CONSTANT)`")
    numbers = [_integer(body, argument) for argument in loop.args]
    try:
        return len(range(*numbers))
    except (TypeError, ValueError) as problem:
        body.refuse(loop, str(problem))


def _assigned(
    body: _Body,
    statements: list[ast.stmt],
    known: frozenset[str],
    leaving: list[frozenset[str]],
) -> frozenset[str] | None:
    """Refuse names that are read before they have a value: machine code would read anything.

    Returns
    -------
    frozenset of str or None
        Names that have a value behind `statements`; None if nothing gets there. What leaves the
        round of a loop at hand goes into `leaving`.
    """
    for node in statements:
        match node:
            case ast.If(test, then, otherwise):
                _check_reads(body, test, known)
                ways = [_assigned(body, way, known, leaving) for way in (then, otherwise)]
                going = [way for way in ways if way is not None]
            case ast.For(ast.Name(name), loop, inner):
                rounds: list[frozenset[str]] = []
                ended = _assigned(body, inner, known | {name}, rounds)
                going = rounds if ended is None else [*rounds, ended]
                if not _rounds(body, loop):
                    going = [known]
            case ast.Break() | ast.Continue():
                leaving.append(known)
                return None
            case _:
                _check_reads(body, node, known)
                stored = {n.id for n in ast.walk(node) if _is_stored(n)}  # type: ignore[attr-defined]
                going = [] if isinstance(node, ast.Return) else [known | stored]
        if not going:
            return None
        known = frozenset.intersection(*going)
    return known


def _check_reads(body: _Body, node: ast.AST, known: frozenset[str]) -> None:
    for name in ast.walk(node):
        if not isinstance(name, ast.Name) or name.id not in body.local - known:
            continue
        if isinstance(name.ctx, ast.Load) or isinstance(node, ast.AugAssign):
            body.refuse(name, f"{name.id!r} may have no value yet here: assign it on every way")


def _integer(body: _Body, node: ast.expr) -> int:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if negative else node  # type: ignore[attr-defined]
    value: object = None
    if isinstance(inner, ast.Constant):
        value = inner.value
    elif isinstance(inner, ast.Name) and inner.id not in body.local:
        value = body.constants.get(inner.id)
    if type(value) is not int:
        body.refuse(node, "the bounds of a loop must be whole constants, so that it surely ends")
    return -value if negative else value


def _cost(body: _Body, node: ast.AST) -> int:
    """Give the operations of an expression, refusing what is no number."""
    match node:
        case ast.Constant(value):
            if type(value) not in (int, float, bool):
                body.refuse(node, f"{value!r} is no number")
            return 0
        case ast.Name(name):
            if name not in body.local and name not in body.constants:
                body.refuse(node, f"{name!r} is neither an argument nor a number of the module")
            return 0
        case ast.Attribute():
            return _math(body, node)
        case ast.Call():
            return _call(body, node)
    if not isinstance(node, _PLAIN):
        kind = type(node).__name__
        body.refuse(node, _INSTEAD.get(type(node), f"{kind} has no place here: numbers only"))
    own = isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp)
    return int(own) + sum(_cost(body, child) for child in ast.iter_child_nodes(node))


def _math(body: _Body, node: ast.Attribute) -> int:
    known = isinstance(node.value, ast.Name) and node.value.id == "math" and body.uses_math
    if not known or node.attr not in MATH:
        body.refuse(node, f"only these of `math` are known: {', '.join(sorted(MATH))}")
    return 0


def _call(body: _Body, node: ast.Call) -> int:
    if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
        body.refuse(node, "give arguments by place")
    inner = sum(_cost(body, argument) for argument in node.args)
    match node.func:
        case ast.Attribute() as function:
            return 10 + _math(body, function) + inner
        case ast.Name(name) if name in body.costs:
            return body.costs[name] + inner
        case ast.Name(name) if name in BUILTINS and name not in body.local:
            return 1 + inner
    possible = ", ".join(sorted({*BUILTINS, *body.costs}))
    return body.refuse(node, f"can call {possible}, functions of `math` and other kernels")
