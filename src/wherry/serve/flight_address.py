"""Addresses of Flight listeners: `grpc+tls://HOST:PORT`, or `grpc://` on this machine."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from wherry.base.errors import InputError

_POSSIBLE: Final = "possible: grpc+tls://HOST:PORT, grpc://127.0.0.1:PORT"
_TLS: Final = {"grpc+tls": True, "grpc": False, "grpc+tcp": False}


class FlightAddress(Struct, frozen=True):
    """Where an agent listens; `str` of it is what pyarrow takes."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"grpc{'+tls' if self.tls else ''}://{host}:{self.port}"


def flight_address(text: str) -> FlightAddress:
    """Read an address.

    Raises
    ------
    InputError
        If it is none, or plain text would leave this machine.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise InputError(f"address {text!r}: {problem}; {_POSSIBLE}") from None
    extra = parts.path or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in _TLS or not host or port is None or extra:
        raise InputError(f"{text!r} is no address of an agent; {_POSSIBLE}")
    found = FlightAddress(host, port, _TLS[parts.scheme])
    if not found.tls and not is_loopback(host):
        raise InputError(
            f"{text!r} would send plain text to other machines; possible without TLS: "
            "127.0.0.1, ::1, localhost and Unix sockets"
        )
    return found


def secured_address(text: str, *, tls: bool) -> FlightAddress:
    """Read the address of a connection that is encrypted, or is not.

    Raises
    ------
    InputError
        If it is none, or says the other.
    """
    found = flight_address(text)
    if found.tls != tls:
        raise InputError(f"{text}: TLS needs a folder of keys, and grpc+tls:// in the address")
    return found


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine; names other than `localhost` are never taken for it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
