"""A function's syntax tree with its file and lines, and the reasons why it is refused."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final

from msgspec import Struct

from wherry.base.errors import InputError

MOST_REASONS: Final = 20
"""More reasons than this help nobody; the rest are counted."""
MISSING: Final = object()


class Reason(Struct, frozen=True):
    """One thing that a movable cannot hold.

    Attributes
    ----------
    file : str
    line, column : int
        From 1.
    text : str
        The source line.
    seen, instead : str
        What stands there, and the form to use.
    """

    file: str
    line: int
    column: int
    text: str
    seen: str
    instead: str

    def __str__(self) -> str:
        mark = " " * (self.column - 1) + "^"
        return (
            f"{self.file}:{self.line}:{self.column}: {self.seen}\n"
            f"    {self.text}\n    {mark}\n    instead: {self.instead}"
        )


class Rejected(InputError):
    """A function cannot become a movable; `reasons` has every one found, in the order of lines."""

    def __init__(self, name: str, reasons: tuple[Reason, ...]) -> None:
        super().__init__(name, reasons)
        self.name = name
        self.reasons = reasons

    def __str__(self) -> str:
        shown = "\n".join(map(str, self.reasons[:MOST_REASONS]))
        left = len(self.reasons) - MOST_REASONS
        more = f"\n... and {left} more" if left > 0 else ""
        return f"{self.name} cannot be a movable:\n{shown}{more}"


class Source(Struct):
    """A function being compiled.

    Attributes
    ----------
    tree : ast.AsyncFunctionDef
        Its lines and columns are those of the file.
    names : mapping
        What names from outside mean: closure, globals, builtins.
    reasons : list of Reason
        Why it is refused, so far.
    """

    function: FunctionType
    file: str
    lines: Mapping[int, str]
    tree: ast.AsyncFunctionDef
    names: dict[str, Any]
    unset: frozenset[str]
    reasons: list[Reason] = []

    def refuse(self, node: ast.AST, seen: str, instead: str) -> None:
        """Note a reason; compiling goes on, so that all are found at once."""
        line = getattr(node, "lineno", self.tree.lineno)
        text = self.lines.get(line, "")
        offset = getattr(node, "col_offset", self.tree.col_offset)  # in bytes of UTF-8
        column = len(text.encode()[:offset].decode(errors="ignore")) + 1
        reason = Reason(self.file, line, column, text, seen, instead)
        if reason not in self.reasons:
            self.reasons.append(reason)

    def outside(self, name: str) -> Any:
        """Give what a name from outside means, or `MISSING`."""
        return self.names.get(name, MISSING)

    def evaluate(self, node: ast.expr, given: Mapping[str, Any]) -> Any:
        """Give the value of an expression of the function, with these local names."""
        whole = ast.Expression(node)
        code = compile(whole, self.file, "eval")
        return eval(code, {**self.names, **given})  # noqa: S307 - the caller's own source

    def give_up_if_refused(self) -> None:
        """Raise if there is any reason.

        Raises
        ------
        Rejected
            With all of them.
        """
        if self.reasons:
            found = sorted(self.reasons, key=lambda r: (r.line, r.column))
            raise Rejected(self.function.__qualname__, tuple(found))


_FILES: set[str] = set()


def compiled_files() -> frozenset[str]:
    """Give the files of which this process has compiled functions."""
    return frozenset(_FILES)


def source_of(function: Callable[..., Any]) -> Source:
    """Read the source of an `async def`.

    Raises
    ------
    Rejected
        If it is no plain `async def`, or its source is not kept in a file.
    """
    if not isinstance(function, FunctionType):
        seen = f"this is a {type(function).__name__}"
        raise _unread(function, seen, "decorate an `async def` of a module")
    file = function.__code__.co_filename
    try:
        lines, first = inspect.getsourcelines(function)
        tree = _parsed(lines)
    except (OSError, TypeError, SyntaxError):
        seen = "its source cannot be read: it was typed at a prompt, or the file changed"
        raise _unread(function, seen, "write it in a file, and import that") from None
    if not isinstance(tree, ast.AsyncFunctionDef):
        raise _unread(function, "it is not an `async def`", f"async def {function.__name__}(...)")
    _move(tree, first - 1)
    numbered = {first + n: line.rstrip("\n") for n, line in enumerate(lines)}
    names, unset = _names(function)
    _FILES.add(file)
    return Source(function, file, numbered, tree, names, unset)


def _parsed(lines: list[str]) -> ast.stmt:
    """Parse a function's lines; an indented one as it stands, for dedenting would change texts."""
    text = "".join(lines)
    if not lines[0][:1].isspace():
        return ast.parse(text).body[0]
    outer = ast.parse("if True:\n" + text).body[0]
    assert isinstance(outer, ast.If)
    _move(outer.body[0], -1)
    return outer.body[0]


def _move(tree: ast.AST, lines: int) -> None:
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno += lines
            node.end_lineno += lines  # type: ignore[attr-defined]


def _names(function: FunctionType) -> tuple[dict[str, Any], frozenset[str]]:
    """Give what the function's free names mean, and those closed over that have no value yet."""
    found = {**vars(builtins), **function.__globals__}
    unset = set()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            unset.add(name)
            found.pop(name, None)
    return found, frozenset(unset)


def _unread(function: Callable[..., Any], seen: str, instead: str) -> Rejected:
    name = getattr(function, "__qualname__", repr(function))
    code = getattr(function, "__code__", None)
    file = code.co_filename if code else "?"
    line = code.co_firstlineno if code else 0
    text = f"async def {getattr(function, '__name__', '?')}(...)"
    return Rejected(name, (Reason(file, line, 1, text, seen, instead),))
