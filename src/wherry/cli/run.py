"""`wherry run`: run one query and show its answer with the account of how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.base.errors import InputError
from wherry.base.units import format_bytes, format_ns
from wherry.cli.busy import show_usage
from wherry.cli.journals import Datasets, JournalName
from wherry.cli.options import (
    Cold,
    Data,
    DeadlineS,
    Json,
    LoadText,
    ObjectiveText,
    PlacementText,
    ScaleFactor,
    SystemName,
    Target,
    load_of,
    objective_of,
    pins_of,
)
from wherry.cli.output import (
    answer,
    counted,
    grid,
    heading,
    plain,
    say,
    short_placement,
    show_answer,
    show_json,
)
from wherry.cli.progress import progress
from wherry.cli.run_movable import Moves, refuse_options, run_movable
from wherry.cli.target import load_target
from wherry.data.arrow_write import Written
from wherry.devices.system import load_system
from wherry.devices.this_machine import THIS_MACHINE
from wherry.movables.declare import Movable
from wherry.session import Options, Result, write

EXAMPLES = """\b
Examples:
  wherry run q6
  wherry run q6 --system dpu-csd-host --sf 0.1
  wherry run q1 --system dpu-csd-host --placement host-only
  wherry run q6 --system dpu-csd-host --trace q6.json
  wherry run q6 --placement near=gpu0,partial=gpu0 --reader gds --strict
  wherry run my_query.py:late_orders --strict --json
  wherry run top_orders.py --arg customer=370 --dataset orders=data/orders.arrow
"""


def command(
    target: Target,
    *,
    system: SystemName = THIS_MACHINE,
    data: Data = None,
    sf: ScaleFactor = 0.1,
    placement: PlacementText = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what has no native program.")
    ] = False,
    cold: Cold = False,
    objective: ObjectiveText = "time",
    load: LoadText = None,
    deadline: DeadlineS = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="pinned|kvikio|gds",
            help="What brings stored bytes onto a card; wherry doctor says which there are.",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the timeline there, for ui.perfetto.dev or chrome://tracing.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows of the answer to show.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the answer there, as an Arrow IPC file, instead of showing it.",
        ),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(metavar="lz4|zstd", help="Of the file of --output.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --output.")
    ] = False,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="An argument of a movable; repeat it."),
    ] = None,
    datasets: Datasets = None,
    journal: JournalName = None,
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Who pays for a movable's continuation.")
    ] = "",
    budget: Annotated[
        str | None,
        typer.Option(metavar="LIMITS", help="What it may use: rows=1000,time_ns=5000000."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(metavar="S", help="Seconds to wait while it sleeps; else until it wakes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a query or a movable; show its answer, where it ran, and what that took.

    A movable that comes to wait for an event stays in the journal: `wherry resume` goes on.
    """
    pins, chosen_by, busy = pins_of(placement), objective_of(objective), load_of(load)
    found = load_system(system)
    if output is None and (compression is not None or overwrite):
        raise InputError("--compression and --overwrite are of the file of --output, not given")
    if output is not None and trace is not None:
        raise InputError("--trace is not written when the answer goes to a file; possible: one")
    pipeline = load_target(target, sf, data, found)
    moves = Moves(arguments or (), datasets or (), journal, tenant, budget, wait)
    if isinstance(pipeline, Movable):
        others = {
            "--placement": placement, "--strict": strict, "--cold": cold, "--load": load,
            "--output": output, "--data": data, "--deadline": deadline, "--reader": reader,
        }  # fmt: skip
        refuse_options(others, f"{target} is a movable, which takes no")
        run_movable(pipeline, system, moves, trace=trace, rows=rows, as_json=as_json)
        return
    refuse_options(moves.options(), f"{target} is a pipeline, which takes no")
    if output is not None:
        options = Options(pins or {}, strict, cold, chosen_by, busy, deadline, reader)
        with progress() as begin:
            begin(f"{target} on {found.name}")
            written = write(
                pipeline, output, found, options, compression=compression, overwrite=overwrite
            )
        _show_written(target, found.name, written, as_json=as_json)
        return
    with progress() as begin:
        begin(f"{target} on {found.name}")
        result = pipeline.run(
            found,
            placement=pins,
            strict=strict,
            cold=cold,
            objective=chosen_by,
            load=busy,
            deadline_s=deadline,
            reader=reader,
        )
    if trace is not None:
        trace.write_bytes(result.trace)
    if as_json:
        show_json(_as_json(target, found.name, result, rows))
    else:
        _show(target, found.name, result, rows, cold=cold)


def _show_written(target: str, system: str, written: Written, *, as_json: bool) -> None:
    if as_json:
        show_json({"target": target, "system": system, "output": written})
    else:
        rows, size = counted(written.rows, "row"), format_bytes(written.nbytes)
        say(f"{target} on {system}: {rows}, {size} written to {written.path}")


def _as_json(target: str, system: str, result: Result, rows: int) -> dict[str, Any]:
    origin = result.timeline.origin
    return {
        "target": target,
        "system": system,
        "placement": result.placement,
        "revisions": result.revisions,
        "time": result.time,
        "answer": answer(result.table, rows),
        "link_bytes": result.timeline.link_bytes(),
        "ledger": result.ledger,
        "receipts": [{"origin": origin, **plain(receipt)} for receipt in result.receipts],
        "usage": None if result.usage is None else {"origin": origin, **plain(result.usage)},
        "through_pyarrow": _residuals(result),
    }


def _show(target: str, system: str, result: Result, rows: int, *, cold: bool) -> None:
    emulated = ", programs installed on the way" if cold else ", programs installed before"
    heading(f"{target} on {system}: {short_placement(result.placement)}")
    say(f"{result.time}{emulated if result.timeline.origin == 'modelled' else ''}")
    for revision in result.revisions:
        say(revision.line())
    say()
    show_answer(result.table, rows)
    _show_ledger(result)
    _show_receipts(result)
    if result.usage is not None:
        show_usage(result.usage)
    residuals = _residuals(result)
    if residuals:
        say()
        heading("through pyarrow, not native")
        grid(("stage", "reason"), [(str(r["stage"]), r["reason"]) for r in residuals])


def _show_ledger(result: Result) -> None:
    say()
    heading("ledger: bytes of each stage's output")
    grid(
        ("stage", "device", "referenced", "copied", "why"),
        [
            (
                str(entry.stage),
                entry.device,
                format_bytes(entry.referenced_bytes),
                format_bytes(entry.copied_bytes),
                entry.why,
            )
            for entry in result.ledger.entries
        ],
        right=(2, 3),
    )


def _show_receipts(result: Result) -> None:
    origin = result.timeline.origin
    say()
    heading(f"receipts: what each stage used, {origin}")
    grid(
        ("stage", "device", "cores", "reads", "memory", "NIC buffer", "bytes sent"),
        [
            (
                "routing" if receipt.stage < 0 else str(receipt.stage),
                receipt.device,
                format_ns(receipt.core_ns),
                f"{receipt.iops:,}",
                _byte_seconds(receipt.ram_byte_ns),
                _byte_seconds(receipt.nic_buffer_byte_ns),
                _links(receipt.link_bytes.items()),
            )
            for receipt in result.receipts
        ],
        right=(2, 3, 4, 5),
    )


def _byte_seconds(byte_ns: int) -> str:
    amount = byte_ns / 1_000_000_000
    return f"{format_bytes(int(amount)) if amount >= 1 else f'{amount:.2g} B'} s"


def _links(sent: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {format_bytes(nbytes)}" for name, nbytes in sent) or "none"


def _residuals(result: Result) -> list[dict[str, Any]]:
    found = dict.fromkeys(
        (evidence.stage, reason) for evidence in result.evidence for reason in evidence.residuals
    )
    return [{"stage": stage, "reason": reason} for stage, reason in sorted(found)]
