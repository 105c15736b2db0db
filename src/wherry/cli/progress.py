"""A line on the terminal that says what takes long; nothing where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wherry.cli.output import console


@contextmanager
def progress(total: int | None = None) -> Iterator[Callable[[str], None]]:
    """Give what to call with the name of each step as it begins.

    Parameters
    ----------
    total : int, optional
        Number of steps, if known; the bar swings to and fro if not.
    """
    out = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), *_ends(total))
    with Progress(
        *columns, console=out, transient=True, disable=not out.is_terminal, auto_refresh=True
    ) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(step: str) -> None:
            nonlocal begun
            bar.update(task, description=step, completed=begun if total else None)
            begun += 1

        yield begin


def _ends(total: int | None) -> tuple[TaskProgressColumn | TimeElapsedColumn, ...]:
    return (TaskProgressColumn(), TimeElapsedColumn()) if total else (TimeElapsedColumn(),)
