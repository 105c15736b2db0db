"""Show how busy a modelled run kept each resource, and its energy and money as far as known."""

from __future__ import annotations

from wherry.base.units import format_ns
from wherry.cli.output import grid, heading, say
from wherry.trace.usage import Usage


def show_usage(usage: Usage) -> None:
    """Print a run's usage; what is not known is named."""
    say()
    heading(f"busy share of {format_ns(usage.time_ns)}, modelled")
    rows = sorted(usage.busy.items(), key=lambda item: -item[1])
    grid(("resource", "busy"), [(name, f"{share:.1%}") for name, share in rows], right=(1,))
    say()
    heading("energy and money")
    for line in usage.expense.lines():
        say(f"  {line}")
