"""The nodes of a schema: what Arrow IPC lists buffers by, depth first, fields of structs too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from wherry.data.types import layout_of

_VIEW_BITS = 128
_BUFFERS = {"struct": 1, "narrow": 3, "wide": 3}
_OFFSET_BITS = {"narrow": 32, "wide": 64}


class Nodes(Struct, frozen=True, eq=False):
    """What every node of a schema must have; arrays have one element a node.

    Attributes
    ----------
    types : tuple of pyarrow.DataType
    spans : tuple of (int, int)
        For every column its first node and the one behind its last.
    buffers : int64 array
        How many each has, at least: views have as many more as their batch says.
    views : int64 array
        The numbers of those that are views.
    bits : int64 array
        Of each of the elements in the second buffer; 0 if there is no second one.
    more : int64 array
        Elements in the second buffer beyond one a row: 1 for offsets, where there are rows.
    """

    types: tuple[pa.DataType, ...]
    spans: tuple[tuple[int, int], ...]
    buffers: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    bits: npt.NDArray[np.int64]
    more: npt.NDArray[np.int64]


def nodes_of(types: Sequence[pa.DataType]) -> Nodes:
    """Give the nodes of columns of these types, all of which Wherry reads."""
    columns = [list(_walk(t)) for t in types]
    ends = [0, *accumulate(map(len, columns))]
    nodes = [t for column in columns for t in column]
    layouts = [layout_of(t) for t in nodes]
    return Nodes(
        types=tuple(nodes),
        spans=tuple(pairwise(ends)),
        buffers=_array(_BUFFERS.get(layout, 2) for layout in layouts),
        views=_array(i for i, layout in enumerate(layouts) if layout == "views"),
        bits=_array(_bits(t, layout) for t, layout in zip(nodes, layouts, strict=True)),
        more=_array(int(layout in _OFFSET_BITS) for layout in layouts),
    )


def _walk(t: pa.DataType) -> Iterator[pa.DataType]:
    yield t
    if pa.types.is_struct(t):
        for i in range(t.num_fields):
            yield from _walk(t.field(i).type)


def _bits(t: pa.DataType, layout: str) -> int:
    if layout == "struct":
        return 0
    if layout == "views":
        return _VIEW_BITS
    return _OFFSET_BITS.get(layout) or int(
        (t.index_type if layout == "dictionary" else t).bit_width
    )


def _array(values: Iterator[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(values, np.int64)
