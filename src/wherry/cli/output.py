"""How everything is printed: aligned tables for people, JSON for programs, the same facts in both.

Text never passes through rich's markup: a file name with brackets is a file name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wherry.base.units import Measured, Modelled

_WIDTH = 120
"""Of what goes to a file, and of a terminal unless wider: rich's 80 would fold every placement."""

_TURNED_ROWS = 6
"""Answers of more rows stay upright, however wide."""
_CELL = 32
"""Characters shown of one value; JSON has all of it."""


def console(*, stderr: bool = False) -> Console:
    """Give a console on the stream as it is now; tests replace it."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def page_width() -> int:
    """Give the columns that tables may take."""
    return max(_WIDTH, console().width)


def say(text: str = "") -> None:
    """Print a line as it is; a terminal may wrap it, a pipe gets it whole."""
    console().print(Text(text), soft_wrap=True)


def heading(text: str) -> None:
    """Print a line that stands out on a terminal."""
    console().print(Text(text, style="bold"), soft_wrap=True)


def grid(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()
) -> None:
    """Print rows in aligned columns under their headers; columns in `right` are flush right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    flush = frozenset(right)
    for place, header in enumerate(headers):
        justify = "right" if place in flush else "left"
        table.add_column(Text(header), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out = console()
    out.width = page_width()
    with out.capture() as captured:
        out.print(table)
    lines = "\n".join(f"  {line.rstrip()}" for line in captured.get().splitlines())
    out.print(Text.from_ansi(lines), soft_wrap=True)


def show_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode())
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """Give a value as what JSON has; a time says how it was found, a decimal keeps its digits."""
    match value:
        case Modelled() | Measured():
            return {"ns": value.ns, "origin": value.origin}
        case None | bool() | int() | float() | str():
            return value
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case Decimal():
            return str(value)
        case pa.Table():
            return answer(value, value.num_rows)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return str(value)


def answer(table: pa.Table, limit: int) -> dict[str, Any]:
    """Give a table's schema, its number of rows, and the first `limit` of them."""
    columns = [_values(column) for column in table.slice(0, limit).columns]
    return {
        "schema": [{"name": f.name, "type": str(f.type)} for f in table.schema],
        "num_rows": table.num_rows,
        "rows": [[plain(value) for value in row] for row in zip(*columns, strict=True)],
    }


def show_answer(table: pa.Table, limit: int) -> None:
    """Print the first `limit` rows of an answer and how many there are.

    A few rows that are wider than the page are turned: each column is a line.
    """
    columns = [_values(column) for column in table.slice(0, limit).columns]
    cells = [[_cell(value) for value in column] for column in columns]
    names = table.schema.names
    if len(cells[0]) <= _TURNED_ROWS and _width(names, cells) > page_width():
        headers = ["", *(f"row {place}" for place in range(len(cells[0])))]
        turned = ([name, *column] for name, column in zip(names, cells, strict=True))
        grid(headers, turned, right=range(1, len(headers)))
    else:
        grid(names, zip(*cells, strict=True), right=_numeric(table.schema))
    more = f", the first {limit:,} shown" if table.num_rows > limit else ""
    say(f"  {counted(table.num_rows, 'row')}{more}")


def counted(count: int, noun: str) -> str:
    """Give a count with its noun.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short_placement(placement: str) -> str:
    """Give a placement with neighbours on one site together.

    >>> short_placement("routing@dpu0 near@home partial@home respond@host0")
    'routing@dpu0 near+partial@home respond@host0'
    >>> short_placement("routing@host0 near@host0 respond@host0")
    'all@host0'
    """
    pairs = [part.split("@") for part in placement.split()]
    sites = [(site, [kind for kind, _ in found]) for site, found in groupby(pairs, lambda p: p[1])]
    if len(sites) == 1:
        return f"all@{sites[0][0]}"
    return " ".join(f"{'+'.join(kinds)}@{site}" for site, kinds in sites)


def _values(column: pa.ChunkedArray) -> list[Any]:
    # Python has no nanoseconds: what counts them is shown as Arrow writes it.
    t = column.type
    if pa.types.is_struct(t):
        rows = zip(*map(_values, column.flatten()), strict=True)
        known = column.is_valid().to_pylist()
        names = [field.name for field in t]
        pairs = zip(rows, known, strict=True)
        return [dict(zip(names, row, strict=True)) if valid else None for row, valid in pairs]
    if pa.types.is_duration(t) and t.unit == "ns":
        return [None if v is None else f"{v} ns" for v in column.cast(pa.int64()).to_pylist()]
    written = pa.types.is_timestamp(t) or pa.types.is_time(t)
    return (column.cast(pa.string()) if written else column).to_pylist()


def _width(names: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    columns = zip(names, cells, strict=True)
    return sum(2 + max(map(len, (name, *column))) for name, column in columns)


def _cell(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _numeric(schema: pa.Schema) -> list[int]:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return [
        i for i, field in enumerate(schema) if any(is_number(field.type) for is_number in tests)
    ]
