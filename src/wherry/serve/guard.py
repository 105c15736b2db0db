"""The door of an agent: who a peer is, or a refusal that is logged.

Every listener asks it before anything else: `of_uid` once a connection (the kernel says who it is),
`of_certificate` on every call, so that what is revoked or has ended is refused on connections that
are open already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from wherry.serve.identity import Identity, Revoked, identity_of
from wherry.serve.log import Log
from wherry.serve.peer import AGENTS, Forbidden, Peer
from wherry.serve.private_files import FILE_BYTES_MAX
from wherry.serve.reread import Reread
from wherry.serve.tenants import FILE_BYTES_MAX as TENANTS_BYTES_MAX
from wherry.serve.tenants import Tenants, only_user, tenants_of

if TYPE_CHECKING:
    from wherry.serve.keys import Credentials


class Guard:
    """Tells who may come in; safe for threads.

    Parameters
    ----------
    tenants, revoked : callable
        Give what holds now, from nanoseconds of a steady clock (`wherry.serve.reread.Reread.get`).
    log : Log
        Where refusals go.
    wall_s, steady_ns : callable
        The Unix time, by which certificates end, and the steady clock.
    """

    def __init__(
        self,
        tenants: Callable[[int], Tenants],
        revoked: Callable[[int], Revoked],
        log: Log,
        wall_s: Callable[[], float] = time.time,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tenants = tenants
        self._revoked = revoked
        self.log = log
        self._wall_s = wall_s
        self._steady_ns = steady_ns

    def of_certificate(self, said: str | bytes, where: str) -> Peer:
        """Give the peer whose certificate TLS has checked.

        Parameters
        ----------
        said : str or bytes
            Its first subject alternative name: `ServerCallContext.peer_identity()`.
        where : str
            The other end's address, for the log.

        Raises
        ------
        Forbidden
            If the certificate is not of `wherry keys`, revoked, has ended, or is of no tenant.
        """
        try:
            return self._peer_of(identity_of(said))
        except Forbidden as problem:
            self.log.refused(None, "certificate", str(problem), where)
            raise

    def _peer_of(self, identity: Identity) -> Peer:
        now_s, now_ns = self._wall_s(), self._steady_ns()
        if identity.serial in self._revoked(now_ns).since_s:
            raise Forbidden(f"certificate {identity.serial:x} of {identity.name!r} is revoked")
        if identity.until_s <= now_s:
            ago = now_s - identity.until_s
            raise Forbidden(f"the certificate of {identity.name!r} ended {ago:.0f} s ago")
        how = f"tls {identity.role} {identity.name} {identity.serial:x}"
        if identity.role == "agent":
            return Peer(AGENTS, how)
        return Peer(self._tenants(now_ns).of_certificate(identity.name).name, how)

    def of_uid(self, uid: int, where: str = "") -> Peer:
        """Give the peer at the other end of a Unix socket, of whom the kernel knows the user.

        The agent's own user is, where no tenant has them, another agent that comes for a piece.

        Raises
        ------
        Forbidden
            If the user is of no tenant.
        """
        how = f"unix uid {uid}"
        try:
            tenant = self.tenants().of_uid(uid)
        except Forbidden as problem:
            if uid == os.geteuid():
                return Peer(AGENTS, how)
            self.log.refused(None, "uid", str(problem), where)
            raise
        return Peer(tenant.name, how)

    def tenants(self) -> Tenants:
        """Give all tenants, as the file says now."""
        return self._tenants(self._steady_ns())


class Door(Struct, frozen=True):
    """What an agent opens its listeners with.

    Attributes
    ----------
    guard : Guard
        Tells who may come in.
    credentials : Credentials, optional
        What it shows, and whom it believes, over TLS; without them it has no TLS.
    revoked : callable
        The revoked certificates that hold now, for connections to other agents.
    """

    guard: Guard
    credentials: Credentials | None
    revoked: Callable[[int], Revoked]


def door_of(log: Log, *, keys: Path | None = None, tenants: Path | None = None) -> Door:
    """Give the door of an agent: who may come in by its files, which are read again as it runs.

    Parameters
    ----------
    keys : Path, optional
        The folder that `wherry keys issue` made for it.
    tenants : Path, optional
        The tenants file; without one only the user of this process comes in, over a Unix socket.

    Raises
    ------
    WherryError
        If a file is absent, damaged or says what cannot be.
    """
    now_ns = time.monotonic_ns()
    who = _tenants(log, tenants)
    who(now_ns)
    if keys is None:
        return Door(Guard(who, _none_revoked, log), None, _none_revoked)
    # An extra that only TLS needs.
    from wherry.serve import keys as folder  # noqa: PLC0415

    credentials = folder.read_credentials(keys, int(time.time()))
    place = keys / folder.REVOKED
    revoked = Reread(
        place,
        folder.revocations(credentials.root, str(place)),
        lambda problem: log.event("unread", why=problem),
        FILE_BYTES_MAX,
    )
    return Door(Guard(who, revoked.get, log), credentials, revoked.get)


def _tenants(log: Log, path: Path | None) -> Callable[[int], Tenants]:
    if path is None:
        own = only_user(os.geteuid())
        return lambda _: own
    return Reread(
        path,
        lambda data, _: tenants_of(data, str(path)),
        lambda problem: log.event("unread", why=problem),
        TENANTS_BYTES_MAX,
    ).get


def _none_revoked(_: int) -> Revoked:
    return Revoked()
