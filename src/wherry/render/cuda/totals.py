"""Rows that pass, aggregated into one row: a program around `kernels/cuda/totals.cu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from msgspec import Struct

from wherry.devices.accelerator import Block
from wherry.render.cuda.answers import read_cells
from wherry.render.cuda.bind import Bound, Piece
from wherry.render.cuda.program import CudaPass, CudaProgram, called, program_of, tests_text
from wherry.render.cuda.state import State, state_of
from wherry.render.cuda.values import Frame
from wherry.render.loop import Variant

BLOCK: Final = 256
"""Threads, as in totals.cu."""
SPAN: Final = 32_768
"""Rows of a partial state, of many rows."""
MANY_ROWS: Final = 1 << 22
"""Of fewer a partial state is of SPAN / 8, so that there are blocks enough for all cores."""
_SMALL: Final = 64
"""Bytes of a state that leaves room on a core for two blocks."""


class TotalsProgram(Struct, frozen=True):
    """A program that aggregates, and what its states hold."""

    program: CudaProgram
    state: State


def render_totals(plan: CudaPass, variant: Variant) -> TotalsProgram:
    """Give the program of a pass whose sink is Totals."""
    frame = Frame()
    frame.entry("rows", "", "i64")
    frame.entry("span", "", "i64")
    frame.entry("states", "", "State*")
    tests = tests_text(frame, variant, plan.predicate, "test_rows")
    state = state_of(frame, variant, called(plan))
    blocks = f"constexpr int BLOCKS = {2 if state.nbytes <= _SMALL else 1};"
    program = program_of(frame, [tests, state.text, blocks], ["reduce", "totals"])
    return TotalsProgram(program, state)


class Spans(Struct, frozen=True):
    """How many partial states there are, of how many rows each."""

    count: int
    rows: int

    def of(self, rows: int) -> int:
        """Give how many a piece has."""
        return -(-rows // self.rows)


def spans_of(runs: Sequence[int]) -> Spans:
    """Give the partial states of a share: by how many rows it has, not by its pieces."""
    rows = SPAN if sum(runs) >= MANY_ROWS else SPAN // 8
    return Spans(sum([-(-run // rows) for run in runs]), rows)


def totals_bytes(made: TotalsProgram, spans: int) -> int:
    """Give the bytes of partial states, and behind them of the state of all rows."""
    return (spans + 1) * made.state.nbytes


class TotalsWork:
    """Aggregates of the rows of a share that pass: one row, and two launches if it is one piece.

    Parameters
    ----------
    spans : Spans
        Partial states of all pieces.
    """

    def __init__(self, made: TotalsProgram, plan: CudaPass, bound: Bound, spans: Spans) -> None:
        self._made, self._plan, self._bound, self._spans = made, plan, bound, spans
        self._states = bound.device.room(totals_bytes(made, spans.count))
        self._done = 0
        self.selected = 0

    def add(self, piece: Piece) -> None:
        """Queue the partial states of a piece."""
        spans = self._spans.of(piece.rows)
        piece.put("span", self._spans.rows)
        piece.put("states", self._states.address + self._done * self._made.state.nbytes)
        self._done += spans
        if spans:
            self._bound.launch("total_pass", spans, BLOCK, piece.context)

    def finish(self) -> list[pa.RecordBatch]:
        """Give one row.

        Raises
        ------
        InputError
            If a sum of decimals needs more than 38 digits.
        """
        size, state = self._made.state.nbytes, self._made.state
        self._bound.launch("fold_pass", 1, BLOCK, whole(self._bound, self._spans, self._states))
        end = self._states.address + self._spans.count * size
        found = state.read(self._bound.device.get(end, size))
        self.selected = int(found["rows"][0])
        columns = read_cells(state.cells, found)
        return [pa.RecordBatch.from_arrays(columns, schema=self._plan.output)]


def whole(bound: Bound, spans: Spans, states: Block) -> bytes:
    """Give the context of a fold: as many partial states as that, all pieces' behind each other."""
    rows = spans.count * spans.rows
    piece = Piece(bound, rows, 0, [rows, *bound.words[1:]])
    piece.put("span", spans.rows)
    piece.put("states", states.address)
    return piece.context
