"""Who asks: what a listener found out about the other end before it reads a request."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from wherry.base.errors import InputError

AGENTS: Final = "agents"
"""The tenant of other agents: they take pieces by ticket, and read no dataset."""


class Forbidden(InputError):
    """Who asked may not have it; asking again, or elsewhere, does not help."""


class Peer(Struct, frozen=True):
    """The other end of a connection.

    Attributes
    ----------
    tenant : str
        Whose work it is (`wherry.serve.tenants`); `AGENTS` for another agent.
    how : str
        How that is known, for logs: `unix uid 1000`, `tls client alice 5f2c`. Two peers with the
        same tenant and the same `how` are the same one.
    """

    tenant: str
    how: str
