"""The folder of keys that `wherry keys` keeps: one authority, and a folder for each name.

    KEYS/
      authority/cert.pem key.pem    signs; stays where it is, best on a machine that serves nothing
      issued/<serial>.pem           every certificate that was issued, by serial number
      revoked.pem                   the signed list of what was revoked
      NAME/cert.pem key.pem ca.pem revoked.pem      to be copied to where NAME runs

Everything is written under another name, synced and then renamed: a full disk or a kill leaves a
whole folder or none. A certificate is on record in `issued` before its key has its name, so that
none exists that could not be revoked. Files are the user's only (0600), folders too (0700).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from wherry.base.errors import CorruptError, InputError, unknown_name
from wherry.serve.certificates import (
    Authority,
    Issued,
    Made,
    check_issued,
    new_authority,
    new_certificate,
    new_revocations,
    read_certificate,
    read_pair,
    read_revocations,
)
from wherry.serve.identity import Identity, Revoked, Role, check_name
from wherry.serve.private_files import alone_in, read_file, write_file, write_folder

CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
ROOT: Final = "ca.pem"
REVOKED: Final = "revoked.pem"
AUTHORITY: Final = "authority"
ISSUED: Final = "issued"
AUTHORITY_DAYS: Final = 3650
DAYS: Final = 90
"""Short enough that a key which leaks unnoticed does not open for ever."""
DAYS_MAX: Final = 36_500

_RESERVED: Final = (AUTHORITY, ISSUED, REVOKED)

State = Literal["valid", "expired", "revoked", "not yet valid"]


class Entry(Struct, frozen=True):
    """A certificate that was issued, as `wherry keys list` shows it; times are Unix seconds."""

    name: str
    role: Role
    serial: str
    state: State
    since_s: int
    until_s: int
    revoked_s: int
    addresses: tuple[str, ...]


class Credentials(Struct, frozen=True):
    """What a process shows and believes: its certificate and key, and the authority's certificate.

    Attributes
    ----------
    folder : Path
        Where they were read; `revoked.pem` there is read again.
    certificate, key, root : bytes
        PEM.
    identity : Identity
        What the certificate says.
    """

    folder: Path
    certificate: bytes
    key: bytes
    root: bytes
    identity: Identity


def init(folder: Path, now_s: int, days: int = AUTHORITY_DAYS) -> None:
    """Make an authority in a folder.

    Raises
    ------
    InputError
        If there is one already, or it cannot be written.
    """
    _check_days(days)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / ISSUED).mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise InputError(f"{folder}: {problem.strerror}") from problem
    with alone_in(folder):
        place = folder / AUTHORITY
        if place.exists():
            raise InputError(f"{place} is there already; an authority is never written over")
        made = new_authority(now_s, days)
        authority = read_pair(made, AUTHORITY)
        write_file(folder / REVOKED, new_revocations(authority, Revoked(1, {})))
        write_folder(place, {CERTIFICATE: made.certificate, KEY: made.key})


def issue(
    folder: Path,
    name: str,
    role: Role,
    now_s: int,
    *,
    addresses: Sequence[str] = (),
    days: int = DAYS,
    again: bool = False,
) -> Path:
    """Make a key and a certificate, and give the folder that is to be copied to where they serve.

    Parameters
    ----------
    addresses : sequence of str
        DNS names and IP addresses at which an agent serves, besides its name.
    again : bool
        The name has a folder; it is kept as NAME.<its serial>, and its certificate goes on being
        believed until it ends or is revoked.

    Raises
    ------
    InputError
        If the name has a folder already, cannot be one, or something cannot be written.
    """
    check_name(name)
    _check_days(days)
    if name in _RESERVED:
        raise InputError(f"{name!r} cannot be a name; these are files here: {', '.join(_RESERVED)}")
    _needed(folder)
    with alone_in(folder):
        place = folder / name
        if place.exists() and not again:
            raise InputError(f"{place} is there already; `wherry keys issue --again` renews it")
        authority = _authority(folder)
        made = new_certificate(authority, role, name, addresses, now_s=now_s, days=days)
        serial = read_certificate(made.certificate, name).identity.serial
        write_file(folder / ISSUED / f"{serial:x}.pem", made.certificate)
        files = {
            CERTIFICATE: made.certificate,
            KEY: made.key,
            ROOT: read_file(folder / AUTHORITY / CERTIFICATE),
            REVOKED: read_file(folder / REVOKED),
        }
        write_folder(place, files, _aside(place) if place.exists() else None)
    return place


def revoke(folder: Path, name: str, now_s: int) -> tuple[list[str], list[Path]]:
    """Revoke what a name has, or the certificate of a serial number.

    The list is written to the folder and to the folder of every name in it; agents that read it
    there refuse what is on it within a second or so. On other hosts it has to be copied.

    Returns
    -------
    serials : list of str
        What is revoked now and was not before.
    written : list of Path
        Where the list was written.

    Raises
    ------
    InputError
        If there is nothing of that name that could be revoked.
    """
    _needed(folder)
    with alone_in(folder):
        issued = _issued(folder)
        chosen = [one.identity for one in issued if name in (one.identity.name, _serial(one))]
        if not chosen:
            raise unknown_name("name", name, sorted({one.identity.name for one in issued}))
        before = _revoked(folder)
        fresh = {
            one.serial: now_s
            for one in chosen
            if one.until_s > now_s and one.serial not in before.since_s
        }
        pem = read_file(folder / REVOKED)
        if fresh:
            after = Revoked(before.number + 1, {**before.since_s, **fresh})
            pem = new_revocations(_authority(folder), after)
        # The folder's own is the truth and comes first; after a kill, asking again does the rest.
        places = [folder / REVOKED, *sorted(folder.glob(f"*/{REVOKED}"))]
        written = [path for path in places if read_file(path) != pem]
        if not written:
            raise InputError(f"every certificate of {name!r} is revoked already, or has ended")
        for path in written:
            write_file(path, pem)
    return [f"{serial:x}" for serial in fresh], written


def entries(folder: Path, now_s: int) -> list[Entry]:
    """Give every certificate that was issued, by name and then by time.

    Raises
    ------
    InputError
        If the folder has no authority.
    CorruptError
        If a file of it is damaged.
    """
    _needed(folder)
    revoked = _revoked(folder)
    found = [_entry(one, revoked, now_s) for one in _issued(folder)]
    return sorted(found, key=lambda one: (one.name, one.since_s, one.serial))


def read_credentials(folder: Path, now_s: int) -> Credentials:
    """Read the folder of a name, as a process does that serves or asks with it.

    Raises
    ------
    InputError
        If a file is absent, readable by others, or the certificate does not hold now.
    CorruptError
        If a file is damaged, or key and certificate do not belong together.
    """
    for file in (CERTIFICATE, KEY, ROOT):
        if not (folder / file).is_file():
            raise InputError(f"{folder} has no {file}; `wherry keys issue` makes such a folder")
    if (folder / KEY).stat().st_mode & 0o077:
        raise InputError(f"{folder / KEY} can be read by others; chmod 600 it")
    made = Made(read_file(folder / CERTIFICATE), read_file(folder / KEY))
    read_pair(made, str(folder))
    said = read_certificate(made.certificate, str(folder / CERTIFICATE))
    identity = said.identity
    if not said.since_s <= now_s < identity.until_s:
        raise InputError(
            f"{folder / CERTIFICATE} holds from {said.since_s} to {identity.until_s} (Unix s); "
            f"this host's clock says {now_s}"
        )
    root = read_file(folder / ROOT)
    check_issued(made.certificate, root, str(folder))
    return Credentials(folder, made.certificate, made.key, root, identity)


def revoked_at(shown: Credentials) -> Revoked:
    """Give what is revoked by the list in the folder of credentials.

    Raises
    ------
    InputError
        If there is no list.
    CorruptError
        If it is damaged, or another authority's.
    """
    path = shown.folder / REVOKED
    return read_revocations(read_file(path), shown.root, str(path))


def revocations(root: bytes, label: str) -> Callable[[bytes, Revoked | None], Revoked]:
    """Give what reads a list of revoked certificates, for `wherry.serve.reread.Reread`.

    A list with a lower number than one that was read before is refused: whoever can put an old
    list in its place would give revoked keys their use back.
    """

    def read(data: bytes, before: Revoked | None) -> Revoked:
        found = read_revocations(data, root, label)
        if before is not None and found.number < before.number:
            raise CorruptError(f"{label}: number {found.number}; it was {before.number} before")
        return found

    return read


def _needed(folder: Path) -> None:
    if not (folder / AUTHORITY).is_dir():
        raise InputError(f"{folder} has no authority; `wherry keys init` makes one")


def _authority(folder: Path) -> Authority:
    place = folder / AUTHORITY
    return read_pair(Made(read_file(place / CERTIFICATE), read_file(place / KEY)), str(place))


def _issued(folder: Path) -> list[Issued]:
    paths = sorted((folder / ISSUED).glob("*.pem"))
    return [read_certificate(read_file(path), str(path)) for path in paths]


def _revoked(folder: Path) -> Revoked:
    root = read_file(folder / AUTHORITY / CERTIFICATE)
    return read_revocations(read_file(folder / REVOKED), root, str(folder / REVOKED))


def _entry(one: Issued, revoked: Revoked, now_s: int) -> Entry:
    identity = one.identity
    since = revoked.since_s.get(identity.serial)
    state: State = "valid"
    if since is not None:
        state = "revoked"
    elif identity.until_s <= now_s:
        state = "expired"
    elif one.since_s > now_s:
        state = "not yet valid"
    return Entry(
        identity.name, identity.role, _serial(one), state, one.since_s, identity.until_s,
        since or 0, one.addresses,
    )  # fmt: skip


def _serial(one: Issued) -> str:
    return f"{one.identity.serial:x}"


def _check_days(days: int) -> None:
    if not 0 < days <= DAYS_MAX:
        raise InputError(f"a certificate holds 1 to {DAYS_MAX} days, not {days}")


def _aside(place: Path) -> Path:
    said = read_certificate(read_file(place / CERTIFICATE), str(place / CERTIFICATE))
    return place.with_name(f"{place.name}.{_serial(said)}")
