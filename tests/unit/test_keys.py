"""The folder of keys: what is issued and revoked, what a kill or a full disk leaves."""

import errno
import itertools
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from wherry.base.errors import CorruptError, InputError
from wherry.serve import private_files
from wherry.serve.certificates import DAY_S, read_certificate
from wherry.serve.keys import (
    Credentials,
    entries,
    init,
    issue,
    read_credentials,
    revocations,
    revoke,
)

NOW = 1_795_000_000


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    init(folder, NOW)
    return folder


def states(folder, now=NOW):
    return [(one.name, one.state) for one in entries(folder, now)]


def serial(folder: Path) -> int:
    return read_certificate((folder / "cert.pem").read_bytes(), "cert").identity.serial


def test_what_is_issued_is_listed_and_can_be_used(keys):
    place = issue(keys, "csd0", "agent", NOW, addresses=["10.0.0.7", "::1", "csd0.example.com"])
    issue(keys, "alice", "client", NOW, days=30)
    agent, client = entries(keys, NOW)[::-1]
    assert agent.addresses == ("csd0", "10.0.0.7", "::1", "csd0.example.com")
    assert (client.role, client.until_s, client.addresses) == ("client", NOW + 30 * DAY_S, ())
    found = read_credentials(place, NOW)
    assert isinstance(found, Credentials)
    assert (found.identity.role, found.identity.name) == ("agent", "csd0")
    assert f"{found.identity.serial:x}" == agent.serial
    assert found.identity.until_s == agent.until_s
    assert found.root == (keys / "authority" / "cert.pem").read_bytes()


def test_only_the_user_can_read(keys):
    before = os.umask(0)
    try:
        issue(keys, "alice", "client", NOW)
        revoke(keys, "alice", NOW)
    finally:
        os.umask(before)
    for path in (keys, *keys.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_written_over(keys):
    issue(keys, "alice", "client", NOW)
    before = {path: path.read_bytes() for path in keys.rglob("*.pem")}
    for again in (lambda: init(keys, NOW), lambda: issue(keys, "alice", "client", NOW)):
        with pytest.raises(InputError, match="is there already"):
            again()
    assert {path: path.read_bytes() for path in keys.rglob("*.pem")} == before


def test_a_name_is_renewed(keys):
    place = issue(keys, "alice", "client", NOW)
    old = serial(place)
    issue(keys, "alice", "client", NOW + 5, again=True)
    assert serial(place) != old
    assert serial(keys / f"alice.{old:x}") == old
    assert states(keys) == [("alice", "valid"), ("alice", "valid")]
    assert revoke(keys, f"{old:x}", NOW)[0] == [f"{old:x}"]
    assert sorted(states(keys)) == [("alice", "revoked"), ("alice", "valid")]
    revoke(keys, "alice", NOW)
    assert states(keys) == [("alice", "revoked"), ("alice", "revoked")]


@pytest.mark.parametrize("name", ["authority", "issued", "revoked.pem", "../x", "a/b", ""])
def test_names_that_are_files_here_are_refused(keys, name):
    with pytest.raises(InputError, match="cannot be"):
        issue(keys, name, "client", NOW)


@pytest.mark.parametrize("address", ["", "a b", "http://x", "10.0.0.7:80", "*", "a..b", "x" * 300])
def test_what_is_no_address_is_refused(keys, address):
    with pytest.raises(InputError, match="no address"):
        issue(keys, "csd0", "agent", NOW, addresses=[address])
    assert not (keys / "csd0").exists()


def test_certificates_do_not_outlive_their_authority(keys):
    with pytest.raises(InputError, match="authority's own end"):
        issue(keys, "alice", "client", NOW, days=3651)
    with pytest.raises(InputError, match="serves at no address"):
        issue(keys, "alice", "client", NOW, addresses=["10.0.0.7"])
    with pytest.raises(InputError, match="1 to"):
        issue(keys, "alice", "client", NOW, days=0)


def test_revoking_reaches_every_folder_that_is_there(keys):
    place = issue(keys, "csd0", "agent", NOW)
    alice = issue(keys, "alice", "client", NOW)
    read = revocations(read_credentials(place, NOW).root, "revoked.pem")
    assert read((place / "revoked.pem").read_bytes(), None).since_s == {}
    old = (place / "revoked.pem").read_bytes()
    serials, written = revoke(keys, "alice", NOW + 5)
    assert serials == [f"{serial(alice):x}"]
    assert written == [keys / "revoked.pem", alice / "revoked.pem", place / "revoked.pem"]
    new = read((place / "revoked.pem").read_bytes(), None)
    assert new.since_s == {serial(alice): NOW + 5}
    with pytest.raises(CorruptError, match="before"):
        read(old, new)
    with pytest.raises(InputError, match="revoked already"):
        revoke(keys, "alice", NOW)
    (place / "revoked.pem").write_bytes(old)  # as after a kill
    assert revoke(keys, "alice", NOW) == ([], [place / "revoked.pem"])
    with pytest.raises(InputError, match="csd0"):
        revoke(keys, "csd9", NOW)


def test_lists_of_other_authorities_are_refused(keys, tmp_path):
    other = tmp_path / "other"
    init(other, NOW)
    issue(other, "eve", "client", NOW)
    revoke(other, "eve", NOW)
    root = (keys / "authority" / "cert.pem").read_bytes()
    read = revocations(root, "revoked.pem")
    sound = (keys / "revoked.pem").read_bytes()
    for bad in ((other / "revoked.pem").read_bytes(), b"", root, sound[: len(sound) // 2]):
        with pytest.raises(CorruptError, match=r"revoked\.pem"):
            read(bad, None)


def test_credentials_that_cannot_be_used_are_refused(keys, tmp_path):
    alice = issue(keys, "alice", "client", NOW, days=1)
    bob = issue(keys, "bob", "client", NOW, days=1)
    with pytest.raises(InputError, match="clock"):
        read_credentials(alice, NOW + DAY_S)
    with pytest.raises(InputError, match="clock"):
        read_credentials(alice, NOW - DAY_S)
    (alice / "key.pem").chmod(0o640)
    with pytest.raises(InputError, match="by others"):
        read_credentials(alice, NOW)
    (alice / "key.pem").unlink()
    with pytest.raises(InputError, match=r"no key\.pem"):
        read_credentials(alice, NOW)
    (bob / "key.pem").rename(alice / "key.pem")
    with pytest.raises(CorruptError, match="does not belong"):
        read_credentials(alice, NOW)
    other = tmp_path / "other"
    init(other, NOW)
    eve = issue(other, "eve", "client", NOW)
    (keys / "authority" / "cert.pem").rename(eve / "ca.pem")
    with pytest.raises(CorruptError, match="not issued by"):
        read_credentials(eve, NOW)


def test_certificates_of_an_authority_follow_their_times(keys):
    issue(keys, "alice", "client", NOW, days=1)
    assert states(keys, NOW + DAY_S) == [("alice", "expired")]
    assert states(keys, NOW - DAY_S) == [("alice", "not yet valid")]


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it is done."""


class Disturbed:
    """Makes one call of the operating system fail, or be the last of the process."""

    def __init__(self, monkeypatch, at, problem):
        self.left, self.problem, self.dead = at, problem, False
        for place, name in ((os, "open"), (os, "fsync"), (Path, "rename"), (Path, "mkdir")):
            monkeypatch.setattr(place, name, self.around(getattr(place, name)))
        removed = private_files._remove
        monkeypatch.setattr(
            private_files, "_remove", lambda path: None if self.dead else removed(path)
        )

    def around(self, function):
        def call(*args, **named):
            self.left -= 1
            if self.left == 0:
                self.dead = self.problem is Killed
                raise self.problem
            return function(*args, **named)

        return call


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("problem", [FULL, Killed], ids=["full", "killed"])
@pytest.mark.parametrize("again", [False, True])
def test_a_name_is_whole_or_absent(tmp_path, monkeypatch, problem, again):
    for at in itertools.count(1):
        folder = tmp_path / f"keys{at}"
        init(folder, NOW)
        if again:
            issue(folder, "alice", "client", NOW)
        with monkeypatch.context() as patch:
            disturbed = Disturbed(patch, at, problem)
            with suppress(InputError, Killed):
                issue(folder, "alice", "client", NOW, again=again)
        if disturbed.left > 0:
            break
        known = {one.serial for one in entries(folder, NOW)}
        place = folder / "alice"
        assert place.exists() or not again or problem is Killed
        if place.exists():
            read_credentials(place, NOW)
            assert f"{serial(place):x}" in known
        issue(folder, "alice", "client", NOW, again=place.exists())
        read_credentials(place, NOW)
        assert not list(folder.rglob(".*.part"))
    assert at > 8


@pytest.mark.parametrize("problem", [FULL, Killed], ids=["full", "killed"])
def test_an_authority_is_whole_or_absent(tmp_path, monkeypatch, problem):
    for at in itertools.count(1):
        folder = tmp_path / f"keys{at}"
        with monkeypatch.context() as patch:
            disturbed = Disturbed(patch, at, problem)
            with suppress(InputError, Killed):
                init(folder, NOW)
        if disturbed.left > 0:
            break
        if not (folder / "authority").exists():
            init(folder, NOW)
        issue(folder, "alice", "client", NOW)
        assert states(folder) == [("alice", "valid")]
    assert at > 6


@pytest.mark.parametrize("problem", [FULL, Killed], ids=["full", "killed"])
def test_a_list_of_revoked_is_old_or_new(tmp_path, monkeypatch, problem):
    for at in itertools.count(1):
        folder = tmp_path / f"keys{at}"
        init(folder, NOW)
        place = issue(folder, "csd0", "agent", NOW)
        with monkeypatch.context() as patch:
            disturbed = Disturbed(patch, at, problem)
            with suppress(InputError, Killed):
                revoke(folder, "csd0", NOW)
        read = revocations(read_credentials(place, NOW).root, "revoked.pem")
        for path in (folder, place):
            assert read((path / "revoked.pem").read_bytes(), None).number in {1, 2}
        if disturbed.left > 0:
            break
        if read((place / "revoked.pem").read_bytes(), None).number == 1:
            revoke(folder, "csd0", NOW)
        assert read((place / "revoked.pem").read_bytes(), None).number == 2
        assert states(folder) == [("csd0", "revoked")]
    assert at > 4


def test_two_at_a_time_do_not_meet(keys):
    with private_files.alone_in(keys), pytest.raises(InputError, match="another process"):
        issue(keys, "alice", "client", NOW)
