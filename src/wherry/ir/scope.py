"""What a check of a stranger's expressions knows, and how it says what is wrong.

`wherry.ir.typed` has the rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from msgspec import Struct, field

from wherry.base.errors import CorruptError, Refused
from wherry.data.types import value_type
from wherry.ir import types
from wherry.ir.expr import Parameter

NODES_MOST: Final = 1 << 17
"""Nodes of a query, those of fused passes counted wherever they are computed."""
COMPUTED_MOST: Final = 1 << 14
"""Of these, nodes that code is made of: all but columns as they are and constants of is_in. Code of
9,216 took 3 s to make (measured)."""
DEPTH_MOST: Final = 200
"""Nodes within nodes once passes are fused; what makes code of them recurses once a level."""
NAME_BYTES_MOST: Final = 4096
_WIDTH_MOST: Final = 4096
"""Bytes of a value of fixed width that no stored column has: one is written for every row."""
_ZONE: Final = re.compile(r"[A-Za-z0-9_+\-:]+(/[A-Za-z0-9_+\-]+){0,3}")


class Unfit(Exception):
    """What is wrong with a node; `way` leads to it from where the check began."""

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.way: list[str] = []
        self.refused = refused

    def error(self, where: str) -> CorruptError | Refused:
        """Give the error that callers see.

        Parameters
        ----------
        where : str
            The place where the check began.
        """
        why = str(self)
        message = f"{where}{''.join(self.way)}{'' if why[0] in ' .:' else ': '}{why}"
        return Refused(message) if self.refused else CorruptError(message)


class Given(Struct, frozen=True):
    """What a check knows of a column.

    Attributes
    ----------
    nodes, depth : int
        Of the expression that it becomes once passes are fused; 1 for what is stored.
    below : int
        It is an integer in [0, below), never null; 0: nobody knows.
    """

    type: pa.DataType
    nodes: int = 1
    depth: int = 1
    below: int = 0


class Scope(Struct):
    """What expressions may name, and what was seen of them.

    Attributes
    ----------
    columns : mapping
        Of the rows that come in.
    parameters : dict
        By index: all mentions of a constant must agree.
    keys : dict
        By index of a build: how many of its columns are keys.
    written : set of int
        Constants of text that may be written for every row.
    nodes, computed : int
        How many nodes were seen, fused passes counted as one, and how many of them are computed.
    depth, deepest : int
        Of the node at hand, and the greatest.
    """

    columns: Mapping[str, Given]
    parameters: dict[int, Parameter] = field(default_factory=dict)
    keys: dict[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    nodes: int = 0
    computed: int = 0
    depth: int = 0
    deepest: int = 0


class Within:
    """Says of what is found wrong inside that it is at `place`."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if isinstance(problem, Unfit):
            problem.way.insert(0, self.place)


def check_name(name: object) -> str:
    """Give a name of a column, or refuse it; programs call columns of their own by NUL and more."""
    if type(name) is not str or "\0" in name or len(name) > NAME_BYTES_MOST:
        raise Unfit(f"{shown(name)} is no name of a column")
    return name


def check_value_type(t: object, *, stored: bool = False) -> pa.DataType:
    """Give the type of a value, or refuse it.

    Parameters
    ----------
    stored : bool
        Rows of it are stored: however wide it is, memory holds it already.
    """
    if not isinstance(t, pa.DataType) or types.is_build(t):
        raise Unfit(f"{shown(t)} is no type of values")
    plain = value_type(t)
    zone = None if stored else getattr(plain, "tz", None)
    if zone is not None and _ZONE.fullmatch(zone) is None:
        raise Unfit(f"the time zone {zone!r:.60}")
    if pa.types.is_struct(t):
        for inner in t:
            check_name(inner.name)
            check_value_type(inner.type, stored=stored)
    if not stored and pa.types.is_fixed_size_binary(plain) and plain.byte_width > _WIDTH_MOST:
        raise Unfit(f"values of {plain.byte_width} bytes each; possible: {_WIDTH_MOST}")
    return t


def check_size(nodes: int, depth: int) -> None:
    """Refuse expressions that are too large once passes are fused."""
    if nodes > NODES_MOST or depth > DEPTH_MOST:
        raise Unfit(f"expressions of over {NODES_MOST} nodes or {DEPTH_MOST} levels, fused")


def shown(value: object) -> str:
    """Give a value as messages show it: its type and how it begins."""
    return f"{type(value).__name__} {value!r:.60}"
