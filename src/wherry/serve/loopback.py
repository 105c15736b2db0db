"""Which user of this host is at the other end of a TCP connection over loopback."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Final

from wherry.serve.peer import Forbidden

_PEER: Final = re.compile(r"ipv4:(?P<four>[0-9.]+):(?P<p4>\d+)|ipv6:\[(?P<six>[^]]+)\]:(?P<p6>\d+)")
_LOCAL, _UID = 1, 7
"""Columns of the kernel's tables of connections."""


def uid_of(peer: str, folder: Path = Path("/proc/net")) -> int:
    """Give the user whose socket has the address `peer`, as gRPC writes it: ipv4:127.0.0.1:52816.

    Raises
    ------
    Forbidden
        If it is no address, not of loopback, or the kernel does not know the connection.
    """
    found = _PEER.fullmatch(peer.replace("%5B", "[").replace("%5D", "]"))
    if found is None:
        raise Forbidden(f"{peer!r} is no address of a connection")
    port = int(found["p4"] or found["p6"])
    for name, address in _spelled(found["four"], found["six"]):
        uid = _listed(folder / name, f"{address}:{port:04X}")
        if uid is not None:
            return uid
    raise Forbidden(f"the kernel knows no connection of {peer}; over the network TLS is needed")


def _spelled(four: str | None, six: str | None) -> list[tuple[str, str]]:
    """Give the tables that may have an address, and how it is written there."""
    if four is not None:
        word = socket.inet_aton(four)[::-1].hex().upper()
        return [("tcp", word), ("tcp6", f"0000000000000000FFFF0000{word}")]
    assert six is not None
    packed = socket.inet_pton(socket.AF_INET6, six)
    words = (packed[n : n + 4][::-1].hex().upper() for n in range(0, 16, 4))
    return [("tcp6", "".join(words))]


def _listed(table: Path, address: str) -> int | None:
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return None
    for line in lines[1:]:
        fields = line.split()
        if fields[_LOCAL] == address:
            return int(fields[_UID])
    return None
