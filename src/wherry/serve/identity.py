"""Who a certificate belongs to, as text that stands in the certificate itself.

gRPC tells a handler of a call nothing of its peer's certificate but the first subject alternative
name. So `wherry keys` puts there all that has to be known on every call, and the authority signs it
with the rest:

    wherry:1:client:alice:5f2c90ab:1795388471

version, role, name, serial number of the certificate (hexadecimal), when it ends (Unix seconds).
A call on a connection that is already open is refused once the serial is revoked or the end is
past; TLS looks at neither after the handshake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

from msgspec import Struct

from wherry.base.errors import InputError
from wherry.serve.peer import Forbidden

Role = Literal["agent", "client"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
NAME_CHARACTERS_MAX: Final = 48

_NAME: Final = re.compile(r"[a-z](?:[a-z0-9_-]|\.(?=[a-z0-9]))*")
_TEXT: Final = re.compile(
    rf"wherry:1:({'|'.join(ROLES)}):({_NAME.pattern}):([1-9a-f][0-9a-f]{{0,39}}):([1-9][0-9]{{0,11}})"
)
_SHOWN: Final = 80


class Identity(Struct, frozen=True):
    """Who a certificate belongs to.

    Attributes
    ----------
    role : str
        agent: it serves, and asks other agents; client: it only asks.
    name : str
        Of the device or the person; unique among what one authority issues.
    serial : int
        Of the certificate: a certificate is revoked by it.
    until_s : int
        When it ends, Unix seconds.
    """

    role: Role
    name: str
    serial: int
    until_s: int

    def text(self) -> str:
        """Give what stands in the certificate."""
        return f"wherry:1:{self.role}:{self.name}:{self.serial:x}:{self.until_s}"


class Revoked(Struct, frozen=True):
    """What an authority revoked, as of its list number `number`: Unix seconds by serial number."""

    number: int = 0
    since_s: Mapping[int, int] = {}


def identity_of(text: str | bytes) -> Identity:
    """Read what stands in a certificate.

    >>> identity_of("wherry:1:client:alice:5f2c:1795388471").name
    'alice'

    Raises
    ------
    Forbidden
        If it is anything else: a certificate that `wherry keys` did not issue.
    """
    try:
        said = text if isinstance(text, str) else text.decode("ascii")
    except UnicodeDecodeError:
        said = ""
    found = _TEXT.fullmatch(said)
    if found is None or len(found[2]) > NAME_CHARACTERS_MAX:
        raise Forbidden(
            f"the certificate's first name is {text[:_SHOWN]!r}, not one of those that "
            "`wherry keys issue` writes"
        )
    role, name, serial, until = found.groups()
    return Identity(cast("Role", role), name, int(serial, 16), int(until))


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in a certificate.

    Raises
    ------
    InputError
        If it is too long, or holds something else than lower-case letters, digits, `.`, `-`, `_`.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
        raise InputError(
            f"{name!r} cannot be a name in a certificate; possible: up to {NAME_CHARACTERS_MAX} "
            "lower-case letters, digits, '.', '-' and '_', a letter first"
        )
