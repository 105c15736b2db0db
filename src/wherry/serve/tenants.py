"""Whose work it is, what they may read and how much they may use: the tenants file of an agent.

    [bounds]                         # of tenants that say nothing else
    time_s = 60

    [[tenant]]
    name = "sales"
    who = ["certificate alice", "uid 1000"]
    datasets = ["orders", "lineitem"]      # or ["*"]: all that the agent has

    [tenant.bounds]
    memory_bytes = 4_000_000_000

Who is in no tenant gets nothing. docs/reference/tenants.md has every key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from wherry.base.errors import InputError, unknown_name
from wherry.devices.figures import refuse, struct_of
from wherry.devices.parts import Table
from wherry.serve.identity import NAME_CHARACTERS_MAX
from wherry.serve.peer import AGENTS, Forbidden

LOCAL: Final = "local"
"""The tenant of the user whose process the agent is, if no file says otherwise."""
ALL: Final = "*"
FILE_BYTES_MAX: Final = 1 << 20

_WHO: Final = re.compile(r"(certificate) ([a-z][a-z0-9._-]*)|(uid) (0|[1-9][0-9]{0,9})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_MOST: Final = 1 << 62

T = TypeVar("T")


class Bounds(Struct, frozen=True):
    """What a tenant may use of one agent at a time.

    Attributes
    ----------
    memory_bytes : int
        Of the pieces that are kept for it.
    time_s : int
        One request may run so long, its waiting not counted.
    rows : int
        One request may make so many.
    open_hops : int
        Continuations of it that are open.
    message_bytes : int
        Of one request.
    weight : int
        Its share among tenants that wait, relative to theirs.
    running, waiting : int
        Requests of it that run at once, and that wait for their turn to begin something.
    wait_s : int
        How long one may wait; it is refused when it comes if it would have to wait longer.
    """

    memory_bytes: int = 8 << 30
    time_s: int = 300
    rows: int = 1 << 32
    open_hops: int = 256
    message_bytes: int = 65 << 20
    weight: int = 1
    running: int = 1 << 16
    waiting: int = 32
    wait_s: int = 1


class Tenant(Struct, frozen=True):
    """Who pays, what they may read, what they may use."""

    name: str
    datasets: tuple[str, ...]
    bounds: Bounds = Bounds()

    def may_read(self, dataset: str) -> bool:
        """Tell whether it may read a dataset."""
        return ALL in self.datasets or dataset in self.datasets

    def dataset(self, name: str, catalogue: Mapping[str, T]) -> T:
        """Give what a catalogue has of a name, as far as the tenant may read it.

        Raises
        ------
        InputError
            If there is none; one that it may not read looks exactly like one that is not there.
        """
        if name in catalogue and self.may_read(name):
            return catalogue[name]
        raise unknown_name("dataset", name, self.readable(catalogue))

    def readable(self, names: Iterable[str]) -> list[str]:
        """Give those of the names that it may read."""
        return [name for name in names if self.may_read(name)]


class Tenants(Struct, frozen=True):
    """All tenants, and who belongs to which.

    Attributes
    ----------
    named : dict
        Tenants by name.
    certificates : dict
        Names of tenants by the name in a client's certificate.
    uids : dict
        Names of tenants by the user's number.
    """

    named: dict[str, Tenant]
    certificates: dict[str, str] = {}
    uids: dict[int, str] = {}

    def of_certificate(self, name: str) -> Tenant:
        """Give the tenant of a certificate's name.

        Raises
        ------
        Forbidden
            If it has none.
        """
        tenant = self.certificates.get(name)
        if tenant is None:
            raise Forbidden(f"the certificate of {name!r} belongs to no tenant of this agent")
        return self.named[tenant]

    def of_uid(self, uid: int) -> Tenant:
        """Give the tenant of a user of this host.

        Raises
        ------
        Forbidden
            If they have none.
        """
        tenant = self.uids.get(uid)
        if tenant is None:
            raise Forbidden(f"user {uid} belongs to no tenant of this agent")
        return self.named[tenant]

    def tenant(self, name: str) -> Tenant:
        """Give a tenant by name.

        Raises
        ------
        Forbidden
            If there is none (any more: the file is read again).
        """
        found = self.named.get(name)
        if found is None:
            raise Forbidden(f"there is no tenant {name!r} at this agent")
        return found


def only_user(uid: int) -> Tenants:
    """Give the tenants of an agent without a file: one user of this host, who may read all."""
    local = Tenant(LOCAL, (ALL,))
    return Tenants({LOCAL: local, AGENTS: Tenant(AGENTS, ())}, {}, {uid: LOCAL})


class _Bounds(Table, frozen=True):
    memory_bytes: int | None = None
    time_s: int | None = None
    rows: int | None = None
    open_hops: int | None = None
    message_bytes: int | None = None
    weight: int | None = None
    running: int | None = None
    waiting: int | None = None
    wait_s: int | None = None


class _Tenant(Table, frozen=True):
    name: str
    who: tuple[str, ...]
    datasets: tuple[str, ...]
    bounds: _Bounds = _Bounds()


class _File(Table, frozen=True):
    tenant: tuple[_Tenant, ...]
    bounds: _Bounds = _Bounds()


def tenants_of(data: bytes, label: str) -> Tenants:
    """Read a tenants file.

    Raises
    ------
    InputError
        If it is too long, not UTF-8 or not TOML.
    Refused
        With one reason for every problem, each beginning with `label`.
    """
    file = struct_of(_tables(data, label), _File, label)
    refuse(label, _problems(file))
    general = _bounds(file.bounds, Bounds())
    named = {t.name: Tenant(t.name, t.datasets, _bounds(t.bounds, general)) for t in file.tenant}
    named[AGENTS] = Tenant(AGENTS, (), general)
    certificates: dict[str, str] = {}
    uids: dict[int, str] = {}
    for tenant in file.tenant:
        for one in tenant.who:
            kind, _, value = one.partition(" ")
            if kind == "uid":
                uids[int(value)] = tenant.name
            else:
                certificates[value] = tenant.name
    return Tenants(named, certificates, uids)


def _tables(data: bytes, label: str) -> dict[str, Any]:
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"{label}: {len(data)} bytes; possible: {FILE_BYTES_MAX}")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as problem:
        raise InputError(f"{label}: not UTF-8 text at byte {problem.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as problem:
        raise InputError(f"{label}: not TOML: {problem}") from None


def _problems(file: _File) -> list[str]:
    found: list[str] = []
    names: set[str] = set()
    owners: dict[str, str] = {}
    for tenant in file.tenant:
        name = tenant.name
        if not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS_MAX:
            found.append(
                f"name {name!r} of a [[tenant]]; possible: up to {NAME_CHARACTERS_MAX} letters, "
                "digits, spaces, '.', '-' and '_'"
            )
        if name in names or name == AGENTS:
            found.append(f"tenant {name!r} is there twice, or reserved")
        names.add(name)
        for one in tenant.who:
            if not _WHO.fullmatch(one):
                found.append(f"who {one!r} of {name!r}; possible: 'certificate NAME', 'uid NUMBER'")
            elif one in owners:
                found.append(f"{one!r} is both of {owners[one]!r} and of {name!r}")
            owners[one] = name
    for bounds in (file.bounds, *(tenant.bounds for tenant in file.tenant)):
        for key, value in structs.asdict(bounds).items():
            if value is not None and value > _MOST:
                found.append(f"{key} is {value}; possible: {_MOST}")
    return found


def _bounds(said: _Bounds, general: Bounds) -> Bounds:
    given = {key: value for key, value in structs.asdict(said).items() if value is not None}
    return structs.replace(general, **given)
