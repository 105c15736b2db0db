"""Who answers SQL at an agent: an interface, because pipelines stand above agents.

An answer stays where it was made, in pieces, and whoever asked fetches each piece by its ticket
from the agent that has it.
"""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa
from msgspec import Struct


class Answered(Struct, frozen=True):
    """Where an answer is.

    Attributes
    ----------
    schema : pyarrow.Schema
    endpoints : tuple of (str, bytes)
        Address and ticket of each part, in the order of the rows; "" is the agent that was asked.
    rows, nbytes : int
        Of all parts; -1 if unknown.
    """

    schema: pa.Schema
    endpoints: tuple[tuple[str, bytes], ...]
    rows: int = -1
    nbytes: int = -1


class Answers(Protocol):
    """What answers SQL. Both raise InputError for what is no query, and may be called at once."""

    def schema(self, sql: str, peer: Any) -> pa.Schema:
        """Give the columns of an answer without making it."""

    def answer(self, sql: str, peer: Any) -> Answered:
        """Make an answer, and give where it is."""
