"""What TLS needs of a connection: whom to believe, and who one is."""

from __future__ import annotations

from msgspec import Struct


class Tls(Struct, frozen=True):
    """Certificates as PEM: whom to believe, and who one is.

    Attributes
    ----------
    roots : bytes
        Whose signature makes a certificate good; an agent's own certificate pins that agent.
    certificate, key : bytes
        Of this process, with the certificates between it and the root, if there are any.
    """

    roots: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Tls(...)"
