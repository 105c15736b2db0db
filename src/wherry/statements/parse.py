"""Text to one SELECT, as sqlglot's tree; and the errors for what no pipeline does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Final

from wherry.base.errors import InputError

if TYPE_CHECKING:
    from sqlglot import exp

TEXT_MAX: Final = 1 << 18
"""Characters; sqlglot reads about half a million a second."""
NODES_MAX: Final = 4000
"""Of sqlglot's tree, the values of IN (...) aside: some passes take time by its square."""
VALUES_MAX: Final = 10_000
"""Of all IN (...) together; each takes 50 us to read."""
_SHOWN: Final = 60
CLAUSES: Final = (
    "SELECT [DISTINCT], FROM, JOIN (inner, left, semi, anti), WHERE, GROUP BY, HAVING, ORDER BY, "
    "LIMIT, WITH"
)


def sqlglot() -> ModuleType:
    """Give sqlglot, which is imported when the first query is read.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import sqlglot as found  # noqa: PLC0415
    except ModuleNotFoundError:
        raise InputError("SQL needs sqlglot: pip install 'wherry[sql]'") from None
    return found


def parsed(text: str) -> exp.Select:
    """Read one SELECT.

    Raises
    ------
    InputError
        If the text is something else, saying where.
    """
    if len(text) > TEXT_MAX:
        raise InputError(f"a query of {len(text)} characters; possible: {TEXT_MAX}")
    glot = sqlglot()
    try:
        with _quiet():
            found = [tree for tree in glot.parse(text, read="duckdb") if tree is not None]
    except glot.errors.SqlglotError as problem:
        raise InputError(f"the query is not SQL: {_first_line(problem)}") from None
    except RecursionError:
        raise InputError("the query is nested too deeply") from None
    if len(found) != 1:
        raise InputError(f"{len(found)} statements; one SELECT is possible")
    tree = found[0]
    while isinstance(tree, glot.exp.Subquery) and set(_given(tree)) == {"this"}:
        tree = tree.this
    if not isinstance(tree, glot.exp.Select):
        raise InputError(f"{_kind(tree)} is no SELECT; possible: {CLAUSES}")
    of_lists = [isinstance(node.parent, glot.exp.In) for node in tree.walk()]
    values, nodes = sum(of_lists), len(of_lists) - sum(of_lists)
    if nodes > NODES_MAX or values > VALUES_MAX:
        raise InputError(
            f"a query of {nodes} parts and {values} values in lists of IN; possible: {NODES_MAX} "
            f"and {VALUES_MAX}; more rows to look for are a table to join"
        )
    return tree


def only(node: exp.Expr, *allowed: str) -> None:
    """Refuse a node that says more than `allowed`: what is not looked at must not be there."""
    extra = [name for name in _given(node) if name not in allowed]
    if extra:
        raise refused(node, ", ".join(name.strip("_").replace("_", " ") for name in extra))


def refused(node: exp.Expr, what: str = "", possible: str = "") -> InputError:
    """Give the error for a part of a query that no pipeline does."""
    hint = f"; possible: {possible}" if possible else ""
    return InputError(f"SQL: {what or _kind(node)} is not done, in {shown(node)}{hint}")


def shown(node: exp.Expr) -> str:
    """Give a node as SQL, cut short."""
    text = text_of(node)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def text_of(node: exp.Expr) -> str:
    """Give a node as SQL: equal for equal nodes."""
    with _quiet():
        return node.sql(dialect="duckdb", comments=False)


class _Quiet(logging.Filter):
    """Keeps sqlglot's warnings out of logs: they quote whatever a stranger has sent."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - logging's signature
        return not getattr(_here, "quiet", False)


_here: Final = threading.local()
logging.getLogger("sqlglot").addFilter(_Quiet())


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing meanwhile, in this thread; others may use sqlglot for themselves."""
    _here.quiet = True
    try:
        yield
    finally:
        _here.quiet = False


def _given(node: exp.Expr) -> Sequence[str]:
    return [name for name, value in node.args.items() if value]


def _kind(node: exp.Expr) -> str:
    name = type(node).__name__
    words = "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(name))
    if name in {"Anonymous", "Func"}:
        return f"the function {str(node.this).lower()}()"
    return words.upper()


def _first_line(problem: Exception) -> str:
    errors = getattr(problem, "errors", None)
    if errors:
        one = errors[0]
        near = one.get("highlight") or ""
        return f"{one['description']} at line {one['line']}, column {one['col']}: {near!r}"
    return str(problem).splitlines()[0]
