"""What a program made of a chunk, or of many, with the bytes and the work that it took."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from wherry.data.decoding import Packed
from wherry.devices.work import Work
from wherry.render.gather import Piece, piece_bytes, several
from wherry.render.ledger import written
from wherry.render.sums import Sums, read_sums

PASSED: Final = "columns pass through by reference"


class ChunkOutput(Struct, frozen=True):
    """What a program made of a chunk, or of the chunks of a share.

    Parameters
    ----------
    batch : pyarrow.RecordBatch, Deferred, Several, or Sums for `together` to read
        The result.
    rows_in, rows_selected : int
        Rows given, and how many of them passed the first predicate.
    referenced_bytes, copied_bytes : int
        Bytes of `batch` that lie in the chunk's own buffers, and bytes newly written.
    why : str
        Why bytes were written, or why none were.
    work : Work
        Counted work, the same on every device.
    fallbacks : tuple of str
        Why the interpreter ran a chunk although a program was there: a residual failed on some
        row, which perhaps does not even pass. Empty as a rule.
    packed : tuple of Packed
        Of the bytes decoded for it, those that an engine of a device could decompress.
    """

    batch: Piece
    rows_in: int
    rows_selected: int
    referenced_bytes: int
    copied_bytes: int
    why: str
    work: Work
    fallbacks: tuple[str, ...] = ()
    packed: tuple[Packed, ...] = ()

    @property
    def nbytes(self) -> int:
        """The bytes of the rows made."""
        return piece_bytes(self.batch)


def passed_on(pieces: Sequence[Piece]) -> ChunkOutput:
    """Give pieces on which nothing is to be done as an output that refers to them."""
    whole = several(pieces)
    rows = whole.num_rows
    return ChunkOutput(whole, rows, rows, piece_bytes(whole), 0, PASSED, Work())


def together(outputs: Sequence[ChunkOutput]) -> ChunkOutput:
    """Give what a program made of chunks, one by one and in order, as one output.

    Raises
    ------
    InputError
        If a total needs more digits than there are.
    """
    outputs = _read(outputs)
    if len(outputs) == 1:
        return outputs[0]
    return ChunkOutput(
        batch=several([output.batch for output in outputs]),
        rows_in=sum(output.rows_in for output in outputs),
        rows_selected=sum(output.rows_selected for output in outputs),
        referenced_bytes=sum(output.referenced_bytes for output in outputs),
        copied_bytes=sum(output.copied_bytes for output in outputs),
        why=next((o.why for o in outputs if o.copied_bytes), outputs[0].why),
        work=sum((output.work for output in outputs), Work()),
        fallbacks=tuple(dict.fromkeys(why for output in outputs for why in output.fallbacks)),
        packed=tuple(part for output in outputs for part in output.packed),
    )


def _read(outputs: Sequence[ChunkOutput]) -> list[ChunkOutput]:
    """Give outputs with neighbours' totals read, those of one variant together."""
    found = list[ChunkOutput]()
    codes = groupby(outputs, lambda o: id(o.batch.code) if isinstance(o.batch, Sums) else None)
    for code, each in codes:
        alike = list(each)
        if code is None:
            found += alike
            continue
        made = read_sums([output.batch for output in alike])
        copied = written(made)
        whole = replace(
            alike[0],
            batch=made,
            rows_in=sum(output.rows_in for output in alike),
            rows_selected=sum(output.rows_selected for output in alike),
            copied_bytes=copied,
            work=sum((output.work for output in alike), Work(write_bytes=copied)),
        )
        found.append(whole)
    return found
