"""What TLS needs of a folder: `ca.pem`, `cert.pem` and `key.pem`."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from wherry.base.errors import InputError


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


def tls_of(folder: str | Path) -> Tls:
    """Read a folder.

    Raises
    ------
    InputError
        If a file is not there or cannot be read, naming it.
    """
    try:
        return Tls(*(Path(folder, n).read_bytes() for n in ("ca.pem", "cert.pem", "key.pem")))
    except OSError as problem:
        raise InputError(
            f"cannot read {problem.filename}: {problem.strerror}; a folder of keys has ca.pem, "
            "cert.pem and key.pem"
        ) from None
