"""Programs by digest: those that this process declared, and those that journals name."""

from __future__ import annotations

from typing import Final

from wherry.base.errors import CorruptError
from wherry.flow.nodes import Program, identity
from wherry.flow.verify import decode_program
from wherry.ir.codec import encode
from wherry.run.records import Code

KIND: Final = "program"

METHODS: Final = frozenset(
    (
        *("filter", "select", "with_columns", "agg", "group_by", "distinct"),
        *("sort", "top_k", "limit"),
    )
)
"""What chains may do: pipelines whose other inputs are scalars, which a frame can hold."""

_KNOWN: Final[dict[bytes, Program]] = {}


def register(program: Program) -> Code:
    """Let a program be found by its digest; give it as journals and devices keep it."""
    found = identity(program)
    _KNOWN[found] = program
    return Code(found, KIND, encode(program))


def known(digest: bytes) -> Program | None:
    """Give the program of a digest, if this process has seen it."""
    return _KNOWN.get(digest)


def received(code: Code) -> Program:
    """Give the program of bytes that came from a journal or another node.

    Raises
    ------
    CorruptError
        If they are no program, or not the one of their digest.
    """
    found = _KNOWN.get(code.digest)
    if found is None:
        found = decode_program(code.body, METHODS)
        if identity(found) != code.digest:
            raise CorruptError(f"a program is not the one of its digest {code.digest.hex()}")
        _KNOWN[code.digest] = found
    return found
