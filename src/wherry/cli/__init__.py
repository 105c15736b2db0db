"""The command line: one module per command.

`main` is the only place that turns errors into words and exit codes: 2 for what was asked wrongly,
1 for what failed, 130 for Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from wherry.base.errors import Refused, WherryError
from wherry.cli import (
    agent,
    bench,
    calibrate,
    cancel,
    demo,
    doctor,
    explain,
    keys,
    migrate,
    profiles,
    ps,
    resume,
    run,
    show,
    trace,
    usage,
    validate,
    warm,
)
from wherry.cli.output import say, show_json
from wherry.cli.version import wherry_version

_FAILED: Final = 1
_INTERRUPTED: Final = 130
_CLOSED_PIPE: Final = 1
"""As rich and Typer have it where they notice it first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows `wherry` on the command line; the process's own if not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        code = app()(words, prog_name="wherry", standalone_mode=False) or 0
        sys.stdout.flush()
    except WherryError as error:
        _complain(error, as_json=as_json)
        return error.exit_code
    except typer.TyperException as error:
        _report(error.format_message(), (), as_json=as_json)
        return error.exit_code
    except BrokenPipeError:  # `wherry ... | head` has seen enough
        sys.stdout = None  # or exit would flush to it again
        return _CLOSED_PIPE
    except OSError as error:  # a full disk, a folder that is not there: the system's own words
        where = "" if error.filename is None else f"{error.filename}: "
        _report(f"{where}{error.strerror or error}", (), as_json=as_json)
        _drop_unwritten()
        return _FAILED
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        print("wherry: interrupted", file=sys.stderr)
    return int(code)


def app() -> typer.Typer:
    """Give the application with all its commands."""
    found = typer.Typer(
        name="wherry",
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    found.callback(invoke_without_command=True, epilog=_EXAMPLES)(_root)
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[2]
        found.command(name, epilog=module.EXAMPLES)(module.command)
    found.add_typer(bench.app(), name="bench")
    found.add_typer(profiles.app(), name="profiles")
    found.add_typer(keys.app(), name="keys")
    return found


_COMMANDS = (
    *(demo, run, explain, ps, show, resume, cancel, migrate, trace, usage),
    *(agent, validate, calibrate, doctor, warm),
)
_EXAMPLES = """\b
Examples:
  wherry demo
  wherry run q6 --system dpu-csd-host
  wherry explain my_query.py --system dpu-csd-host
  wherry ps
  wherry resume --all
  wherry validate
  wherry calibrate
  wherry bench kernels
  wherry COMMAND --help
"""


def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Carry a query to its data."""
    if show_version:
        say(f"wherry {wherry_version()}")
    elif context.invoked_subcommand is None:
        say(context.get_help())


def _complain(error: WherryError, *, as_json: bool) -> None:
    reasons = error.reasons if isinstance(error, Refused) else ()
    message = error.message if isinstance(error, Refused) else str(error)
    notes = getattr(error, "__notes__", [])
    _report("".join((message, *(f" ({note})" for note in notes))), reasons, as_json=as_json)


def _report(message: str, reasons: Sequence[str], *, as_json: bool) -> None:
    if as_json and _written({"error": message, "reasons": reasons}):
        return
    if len(reasons) == 1:
        message, reasons = f"{message}: {reasons[0]}", ()
    lines = (f"wherry: error: {message}", *(f"  {reason}" for reason in reasons))
    print("\n".join(lines), file=sys.stderr)


def _written(value: object) -> bool:
    """Print a value as JSON; tell whether the output took it, which a full disk does not."""
    try:
        show_json(value)
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _drop_unwritten() -> None:
    """Forget what the output does not take: the interpreter would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None
