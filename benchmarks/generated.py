"""TPC-H tables as a benchmark wants them: generated, laid out, statistics beside them, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from wherry.benchmarks import tpchgen
from wherry.benchmarks.kept import Made, keep
from wherry.data.source import column_bounds, open_source


def kept_tables(
    directory: Path,
    scale_factor: float,
    *,
    tables: Sequence[str],
    folders: Sequence[str],
    layout: int,
    lay_out: Callable[[Path, Path], None],
) -> dict[str, Path]:
    """Give folders of `directory`, made from generated tables now unless they are there already.

    Parameters
    ----------
    directory : Path
        Made if need be. Folders that an earlier call made in it for another scale factor or layout
        or by another generator are replaced.
    scale_factor : float
        Of TPC-H: 1 gives 6 001 215 rows of lineitem.
    tables : sequence of str
        Of the generator.
    layout : int
        Raised when `lay_out` changes.
    lay_out : callable
        Given the folder that holds each table as NAME.parquet, make all of `folders` in another.

    Raises
    ------
    InputError
        When the scale factor is not positive, `tpchgen-cli` is not installed, or the directory
        holds such folders of other origin.
    WherryError
        When the generator fails.
    """
    scale, program = tpchgen.checked(scale_factor), tpchgen.find()

    def make(into: Path) -> None:
        parquet = into / "parquet"
        tpchgen.make_parquet(program, tables, parquet, scale)
        lay_out(parquet, into)

    return keep(directory, folders, Made(scale, tpchgen.version(program), layout), make)


def leave_statistics(path: Path) -> None:
    """Compute the statistics of a file or folder, and so leave them beside it."""
    source = open_source(path)
    column_bounds(source, source.schema.names)
