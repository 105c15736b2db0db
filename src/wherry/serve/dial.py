"""Connect to an agent, wherever its address says that it listens."""

from __future__ import annotations

from wherry.base.errors import InputError
from wherry.devices.system import UNIX
from wherry.serve.links import Connection


def dial(address: str, device: str, keys: str = "") -> Connection:
    """Give a connection to the agent at an address.

    Parameters
    ----------
    address : str
        `unix:PATH`, or `grpc+tls://HOST:PORT`.
    device : str
        The agent's name; what its certificate must say.
    keys : str
        Folder of the caller's certificate.

    Raises
    ------
    InputError
        If it is no address.
    """
    del device, keys
    if address.startswith(UNIX):
        raise InputError("unix")
    raise InputError(
        f"{address!r} is no address of an agent; possible: unix:PATH, grpc+tls://HOST:PORT"
    )
