"""Elements of a page as text, escaped once, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from wherry.base.units import format_ns


def tag(name: str, *inner: str, **attributes: object) -> str:
    """Give an element around markup; `class_` is class, `x_1` is x-1.

    >>> tag("p", text("a < b"), class_="note")
    '<p class="note">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(inner)}</{name}>"


def text(value: object) -> str:
    """Give text as markup."""
    return escape(str(value), quote=False)


def table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table of markup that scrolls by itself; the first cell of a row names it."""
    head = tag("tr", *(tag("th", text(name), scope="col") for name in headers))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(_cell(cell) for cell in row[1:]))
        for row in rows
    ]
    whole = tag("table", tag("thead", head), tag("tbody", *body), aria_label=caption)
    said = tag("p", text(caption), class_="caption")
    return tag("div", said, tag("div", whole, class_="wide"))


def drawing(width: int, height: int, label: str, caption: str, *drawn: str) -> str:
    """Give a drawing with its caption; on a narrow page it scrolls by itself."""
    box = f"0 0 {width} {height}"
    picture = tag("svg", *drawn, viewBox=box, role="img", aria_label=label)
    said = tag("figcaption", text(caption))
    return tag("figure", tag("div", picture, class_="wide"), said)


def _cell(markup: str) -> str:
    return markup if markup.startswith("<td") else tag("td", markup)


def details(summary: str, *inner: str) -> str:
    """Give what opens when it is asked for."""
    return tag("details", tag("summary", text(summary)), *inner)


def seconds(value: float) -> str:
    """Give a time in the unit a person would use."""
    return format_ns(round(value * 1e9))


def percent(value: float) -> str:
    """Give a share as a person would write it.

    >>> percent(0.0123), percent(3.5)
    ('1.2 %', '350 %')
    """
    return f"{100 * value:.1f} %" if value < 1 else f"{100 * value:.0f} %"
