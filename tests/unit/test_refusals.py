"""Who comes in, who does not, and what is written of it."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.base.errors import CorruptError, InputError
from wherry.serve.guard import Guard
from wherry.serve.identity import Identity, Revoked, check_name, identity_of
from wherry.serve.log import TEXT_CHARACTERS_MAX, Log
from wherry.serve.peer import AGENTS, Forbidden, Peer
from wherry.serve.reread import EVERY_NS, Reread
from wherry.serve.tenants import Tenant, Tenants

NS = 1_000_000_000
ALICE = Identity("client", "alice", 0x5F2C, 2_000)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,40}", fullmatch=True)


class Clock:
    now = 1_000 * NS

    def __call__(self):
        return self.now


def logged(a_second=100):
    clock, lines = Clock(), []
    return Log("csd0", lines.append, clock, a_second), clock, lines


def guard(revoked=(), now=1_000):
    tenants = Tenants(
        {"sales": Tenant("sales", ()), AGENTS: Tenant(AGENTS, ())}, {"alice": "sales"}, {7: "sales"}
    )
    log, _, lines = logged()
    gone = Revoked(1, dict.fromkeys(revoked, 1))
    return Guard(lambda _: tenants, lambda _: gone, log, lambda: now, lambda: 0), lines


@given(
    st.builds(
        Identity,
        st.sampled_from(("agent", "client")),
        names,
        st.integers(1, (1 << 160) - 1),
        st.integers(1, 10**11),
    )
)
def test_an_identity_is_read_as_it_was_written(identity):
    assert identity_of(identity.text()) == identity_of(identity.text().encode()) == identity


@given(st.text("wherry:1agentcli05f-. \n\0é", max_size=60))
def test_other_names_are_no_identity(text):
    for said in (text, text.encode()):
        with pytest.raises(Forbidden, match="wherry keys issue"):
            identity_of(said)


def test_nearly_identities_are_none():
    sound = ALICE.text()
    for bad in (
        sound + "\n", sound.upper(), sound.replace("5f2c", "05f2c"), sound.replace(":1:", ":2:"),
        sound.replace("alice", "a" * 49), sound.replace("alice", ""), sound[:-4], b"\xff", b"",
        sound.replace("alice", "alice:5"), sound.replace("client", "root"),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            identity_of(bad)


@pytest.mark.parametrize("name", ["", "Alice", "a b", "../a", "a/b", "a..b", ".a", "1a", "a" * 49])
def test_names_that_cannot_be(name):
    with pytest.raises(InputError, match="possible"):
        check_name(name)


def test_who_comes_in():
    door, lines = guard()
    assert door.of_certificate(ALICE.text(), "x") == Peer("sales", "tls client alice 5f2c")
    agent = Identity("agent", "csd1", 1, 2_000).text().encode()
    assert door.of_certificate(agent, "x") == Peer(AGENTS, "tls agent csd1 1")
    assert door.of_uid(7, "x") == Peer("sales", "unix uid 7")
    own = os.geteuid()
    assert door.of_uid(own, "x") == Peer(AGENTS, f"unix uid {own}")
    assert lines == []


@pytest.mark.parametrize(
    ("said", "revoked", "now", "why"),
    [
        (ALICE.text(), (0x5F2C,), 1_000, "revoked"),
        (ALICE.text(), (), 2_000, "ended 0 s ago"),
        (Identity("client", "bob", 3, 2_000).text(), (), 1_000, "no tenant"),
        (Identity("agent", "csd1", 4, 2_000).text(), (4,), 1_000, "revoked"),
        ("localhost", (), 1_000, "wherry keys issue"),
        ("", (), 1_000, "wherry keys issue"),
    ],
)
def test_who_does_not_come_in_is_logged(said, revoked, now, why):
    door, lines = guard(revoked, now)
    with pytest.raises(Forbidden, match=why):
        door.of_certificate(said, "ipv4:10.0.0.9:5")
    (line,) = map(json.loads, lines)
    assert (line["event"], line["what"], line["where"]) == (
        "refused", "certificate", "ipv4:10.0.0.9:5",
    )  # fmt: skip
    assert why in line["why"]


def test_strangers_of_this_host_are_logged():
    door, lines = guard()
    with pytest.raises(Forbidden):
        door.of_uid(8, "pid 5")
    assert [json.loads(line)["what"] for line in lines] == ["uid"]


@given(st.text(), st.text())
def test_no_text_leaves_its_line(why, where):
    log, _, lines = logged()
    log.refused(Peer("sales", why), "request", why, where)
    (line,) = lines
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    said = json.loads(line).get("why", "")
    if len(why) <= TEXT_CHARACTERS_MAX:
        assert said == why


def test_long_text_is_cut():
    log, _, lines = logged()
    log.refused(None, "request", "x" * 1_000_000)
    assert len(lines[0]) < 1_000
    assert json.loads(lines[0])["why"].endswith("(1000000 characters)")


@given(st.lists(st.integers(0, NS), min_size=1, max_size=300))
def test_counts_are_right_however_fast_refusals_come(waits):
    log, clock, lines = logged(5)
    for wait in waits:
        clock.now += wait
        log.refused(None, "request", "no")
    clock.now += NS
    log.event("end")
    said = [json.loads(line) for line in lines]
    assert len(said) <= 6 + 5 * (sum(waits) + NS) / NS
    assert sum(line.get("omitted", 0) for line in said) + len(said) == len(waits) + 1
    assert log.counts() == {"refused": len(waits), "end": 1}


def test_a_log_that_is_full_fails_nothing():
    full, lines = [True], []

    def write(line):
        if full[0]:
            raise OSError(28, "No space left on device")
        lines.append(line)

    log = Log("csd0", write, Clock())
    for _ in range(3):
        log.refused(None, "request", "no")
    full[0] = False
    log.refused(None, "request", "no")
    assert json.loads(lines[0])["omitted"] == 3


def numbered(data, before):
    if not data.isdigit():
        raise CorruptError(f"{data!r} is no number")
    return int(data)


def test_a_file_is_read_again(tmp_path):
    path, said = tmp_path / "n", []
    path.write_bytes(b"1")
    file = Reread(path, numbered, said.append, 8)
    assert file.get(0) == 1

    def put(data):
        part = tmp_path / "part"
        part.write_bytes(data)
        part.rename(path)

    put(b"2")
    assert file.get(EVERY_NS - 1) == 1
    assert file.get(EVERY_NS) == 2
    put(b"bad")
    assert [file.get(n * EVERY_NS) for n in (2, 3)] == [2, 2]
    put(b"9" * 9)
    assert file.get(4 * EVERY_NS) == 2
    path.unlink()
    assert [file.get(n * EVERY_NS) for n in (5, 6)] == [2, 2]
    put(b"3")
    assert file.get(7 * EVERY_NS) == 3
    assert ["number" in said[0], "more than 8" in said[1], "No such file" in said[2]] == [True] * 3
    assert len(said) == 3


def test_a_file_that_is_not_there_at_first_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Reread(tmp_path / "n", numbered, print, 8)
