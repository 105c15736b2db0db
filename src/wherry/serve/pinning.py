"""Which certificate an agent shows, checked once, so that no other is believed afterwards.

gRPC's client tells its caller nothing of the certificate at the other end, so it could not see that
an agent's was revoked. Here one TLS handshake by Python's ssl checks everything; given what comes
back as the only root (`tls_root_certs`), gRPC takes this very certificate and no other.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

from wherry.serve.identity import Revoked, identity_of
from wherry.serve.keys import CERTIFICATE, KEY, Credentials
from wherry.serve.peer import Forbidden
from wherry.serve.received import Unreached


def context_of(credentials: Credentials) -> ssl.SSLContext:
    """Give what Python's ssl needs to show a certificate and to believe one authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=credentials.root.decode())
    context.load_cert_chain(credentials.folder / CERTIFICATE, credentials.folder / KEY)
    context.set_alpn_protocols(["h2"])
    return context


def pinned(
    address: tuple[str, int],
    name: str,
    context: ssl.SSLContext,
    revoked: Revoked,
    *,
    now_s: float,
    timeout_s: float,
) -> bytes:
    """Give the certificate (PEM) of the agent that serves at an address.

    Parameters
    ----------
    address : (str, int)
        Host and port.
    name : str
        Of the agent; if it is empty, any agent will do whose certificate says the host.
    context : ssl.SSLContext
        See `context_of`.

    Raises
    ------
    Forbidden
        If it shows another authority's or agent's certificate, a client's, or one that is revoked.
    Unreached
        If nobody answers there in time.
    """
    where = f"{name or 'the agent'} at {address[0]}:{address[1]}"
    end = time.monotonic() + timeout_s
    try:
        with socket.create_connection(address, timeout_s) as plain:
            plain.settimeout(max(0.001, end - time.monotonic()))
            with context.wrap_socket(plain, server_hostname=name or address[0]) as secured:
                said: dict[str, Any] = secured.getpeercert() or {}
                whole = secured.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as problem:
        raise Forbidden(f"{where}: its certificate is refused: {problem.verify_message}") from None
    except OSError as problem:
        raise Unreached(f"{where}: no TLS connection: {problem}") from None
    names = [value for _, value in said.get("subjectAltName", ())]
    identity = identity_of(names[0] if names else "")
    if identity.role != "agent" or name not in {"", identity.name}:
        raise Forbidden(f"{where}: the certificate is of {identity.role} {identity.name!r}")
    if identity.serial in revoked.since_s:
        raise Forbidden(f"{where}: certificate {identity.serial:x} is revoked")
    if identity.until_s <= now_s:
        raise Forbidden(f"{where}: the certificate has ended")
    return ssl.DER_cert_to_PEM_cert(whole).encode()
