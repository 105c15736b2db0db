"""Rows that pass, written in their order, which stay on the device for whoever reads them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import WherryError
from wherry.devices.accelerator import Block
from wherry.ir.expr import Column, Literal
from wherry.render.cuda.bind import Bound, Constants, Piece
from wherry.render.cuda.columns import ColumnFacts, DeviceColumn
from wherry.render.cuda.filter import FilterProgram, Placed, write_rows, written_sizes
from wherry.render.cuda.program import CudaPass
from wherry.render.cuda.share import Share, ready


class Left(Struct, frozen=True, eq=False):
    """Rows of a piece on a device, one at least, all in one block.

    Attributes
    ----------
    columns : tuple of DeviceColumn
        Of the pass's outputs; their first rows begin where bytes do.
    """

    rows: int
    columns: tuple[DeviceColumn, ...]
    block: Block


class _LeavingWork:
    """The rows of a share that pass, as `wherry.render.cuda.filter.FilterWork` writes them."""

    def __init__(self, made: FilterProgram, plan: CudaPass, bound: Bound) -> None:
        self._made, self._plan, self._bound = made, plan, bound
        self._left: list[Left] = []
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Queue writing what passes of a piece; how many rows do is waited for if they are tested.

        What is loaded from then on where the piece lies comes after that.
        """
        schema = self._plan.output
        rows, placed = write_rows(
            self._made, piece, lambda rows: written_sizes(self._made, schema, rows)
        )
        if placed is not None:
            self._left.append(Left(rows, self._columns(rows, placed), placed.block))
        self.selected += rows

    def _columns(self, rows: int, placed: Placed) -> tuple[DeviceColumn, ...]:
        """Give where each output lies."""
        block, found = placed.block, list[DeviceColumn]()
        outputs = zip(self._plan.output.types, self._plan.roots, self._made.outputs, strict=True)
        for number, (t, root, (bits, valid)) in enumerate(outputs):
            values = ("out", str(number)) if bits is None else ("bitmap", str(bits))
            places = {"values": block.address + placed.begins[values]}
            if valid is not None:
                places["valid"] = block.address + placed.begins["bitmap", str(valid)]
            texts = None
            if pa.types.is_dictionary(t):
                assert isinstance(root, Column)
                texts = self._bound.dictionaries[root.name]
            column = DeviceColumn(
                t, rows, valid is not None, **places, dictionary=texts, blocks=(block,)
            )
            found.append(column)
        return tuple(found)

    def finish(self) -> list[Left]:
        """Give the rows of each piece of which some passed, in order."""
        return self._left


def begin_leaving(
    plan: CudaPass,
    facts: Mapping[str, ColumnFacts],
    literals: tuple[Literal, ...],
    constants: Constants,
    runs: Sequence[int],
) -> Share[Left]:
    """Give a pass as `wherry.render.cuda.share.begin` does, whose rows stay on the device.

    Raises
    ------
    WherryError
        If its sink is not Rows.
    Refused
        As `begin` does.
    """
    made, bound = ready(plan, facts, literals, constants)
    if not isinstance(made, FilterProgram):
        raise WherryError(f"what a {type(made).__name__} makes leaves the device")
    return Share(bound, _LeavingWork(made, plan, bound), facts, runs)
