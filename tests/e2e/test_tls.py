"""Certificates of `wherry keys` in real handshakes: gRPC's, by pyarrow's Flight, and Python's."""

import json
import threading
import time

import pytest
from pyarrow import flight

from wherry.serve.flight_way import flight_way
from wherry.serve.guard import door_of
from wherry.serve.identity import Revoked
from wherry.serve.keys import init, issue, read_credentials, revoke
from wherry.serve.log import Log
from wherry.serve.peer import Forbidden
from wherry.serve.pinning import context_of, pinned
from wherry.serve.received import Unreached
from wherry.serve.reread import EVERY_NS

NOW = int(time.time())
TENANTS = '[[tenant]]\nname = "sales"\nwho = ["certificate alice"]\ndatasets = []\n'
SECONDS = 10


class Agent(flight.FlightServerBase):
    """Answers an action with who asks."""

    def __init__(self, folder, keys, tenants, root):
        self.lines = []
        log = Log("csd0", self.lines.append, time.time_ns)
        self.door = door_of(log, keys=keys / folder, tenants=tenants)
        own = read_credentials(keys / folder, NOW)
        super().__init__(
            "grpc+tls://127.0.0.1:0",
            tls_certificates=[(own.certificate, own.key)],
            verify_client=True,
            root_certificates=root,
        )
        threading.Thread(target=self.serve, daemon=True).start()

    def do_action(self, context, action):
        peer = self.door.guard.of_certificate(context.peer_identity(), context.peer())
        said = [peer.tenant.encode(), peer.how.encode()]
        return said[:1] if action.type == "wherry" else said


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "keys"
    init(folder, NOW)
    issue(folder, "csd0", "agent", NOW, addresses=["127.0.0.1"])
    for name in ("alice", "bob", "carol"):
        issue(folder, name, "client", NOW)
    issue(folder, "csd1", "agent", NOW)
    return folder


@pytest.fixture(scope="module")
def agent(keys):
    tenants = keys.parent / "tenants.toml"
    tenants.write_text(TENANTS.replace("alice", 'alice", "certificate carol'))
    with Agent("csd0", keys, tenants, (keys / "csd0" / "ca.pem").read_bytes()) as found:
        yield found


def client(keys, name, port, root=None, server="csd0"):
    own = read_credentials(keys / name, NOW)
    return flight.FlightClient(
        f"grpc+tls://127.0.0.1:{port}",
        tls_root_certs=root or own.root,
        cert_chain=own.certificate,
        private_key=own.key,
        override_hostname=server,
    )


def ask(asker):
    options = flight.FlightCallOptions(timeout=SECONDS)
    return [one.body.to_pybytes().decode() for one in asker.do_action(b"who", options)]


def test_an_agent_knows_who_asks(keys, agent):
    with client(keys, "alice", agent.port) as asker:
        tenant, how = ask(asker)
    assert (tenant, how.rpartition(" ")[0]) == ("sales", "tls client alice")
    with client(keys, "csd1", agent.port) as asker:
        assert ask(asker)[0] == "agents"


def test_who_has_no_tenant_is_refused_and_logged(keys, agent):
    with client(keys, "bob", agent.port) as asker, pytest.raises(Exception, match="no tenant"):
        ask(asker)
    said = json.loads(agent.lines[-1])
    assert (said["what"], said["where"][:15]) == ("certificate", "ipv4:127.0.0.1:")


def test_a_revoked_certificate_is_refused_on_an_open_connection(keys, agent):
    with client(keys, "carol", agent.port) as asker:
        assert ask(asker)[0] == "sales"
        revoke(keys, "carol", NOW)
        time.sleep(EVERY_NS / 1e9 + 0.1)
        with pytest.raises(Exception, match="is revoked"):
            ask(asker)


def test_other_certificates_do_not_reach_the_agent(keys, agent, tmp_path):
    other = tmp_path / "other"
    init(other, NOW)
    issue(other, "alice", "client", NOW)
    issue(keys, "old", "client", NOW - 10 * 86_400, days=1)
    calls = [
        lambda: client(other, "alice", agent.port, root=(keys / "csd0" / "ca.pem").read_bytes()),
        lambda: client(other, "alice", agent.port),
        lambda: client(keys, "alice", agent.port, server="csd1"),
        lambda: flight.FlightClient(
            f"grpc+tls://127.0.0.1:{agent.port}",
            tls_root_certs=(keys / "csd0" / "ca.pem").read_bytes(),
        ),
    ]
    before = len(agent.lines)
    for make in calls:
        with make() as asker, pytest.raises(flight.FlightUnavailableError):
            ask(asker)
    assert len(agent.lines) == before


def test_a_client_cannot_be_an_agent(keys):
    tenants = keys.parent / "tenants.toml"
    with Agent("alice", keys, tenants, (keys / "alice" / "ca.pem").read_bytes()) as false:
        for name in ("alice", "csd0"):
            with (
                client(keys, "alice", false.port, server=name) as asker,
                pytest.raises(flight.FlightUnavailableError),
            ):
                ask(asker)
        context = context_of(read_credentials(keys / "csd1", NOW))
        address = ("127.0.0.1", false.port)
        with pytest.raises(Forbidden, match="purpose"):
            pinned(address, "alice", context, Revoked(), now_s=NOW, timeout_s=SECONDS)


def test_a_pinned_certificate_is_the_only_one_believed(keys, agent):
    address = ("127.0.0.1", agent.port)
    own = read_credentials(keys / "alice", NOW)
    context = context_of(own)
    pem = pinned(address, "csd0", context, Revoked(), now_s=NOW, timeout_s=SECONDS)
    with client(keys, "alice", agent.port, root=pem) as asker:
        assert ask(asker)[0] == "sales"
    another = read_credentials(keys / "csd1", NOW).certificate
    with (
        client(keys, "alice", agent.port, root=another) as asker,
        pytest.raises(flight.FlightUnavailableError),
    ):
        ask(asker)


def test_what_pinning_refuses(keys, agent):
    address = ("127.0.0.1", agent.port)
    context = context_of(read_credentials(keys / "alice", NOW))
    own = read_credentials(keys / "csd0", NOW).identity
    for name, revoked, now, why in (
        ("csd1", Revoked(), NOW, "mismatch"),
        ("csd0", Revoked(1, {own.serial: 1}), NOW, "revoked"),
        ("csd0", Revoked(), own.until_s, "ended"),
    ):
        with pytest.raises(Forbidden, match=why):
            pinned(address, name, context, revoked, now_s=now, timeout_s=SECONDS)
    with pytest.raises(Unreached, match="no TLS connection"):
        pinned(("127.0.0.1", 1), "csd0", context, Revoked(), now_s=NOW, timeout_s=SECONDS)


def test_callers_do_not_believe_a_revoked_agent(keys, tmp_path):
    issue(keys, "csd2", "agent", NOW, addresses=["127.0.0.1"])
    with Agent(
        "csd2", keys, keys.parent / "tenants.toml", (keys / "csd2" / "ca.pem").read_bytes()
    ) as agent:
        address, alice = f"grpc+tls://127.0.0.1:{agent.port}", str(keys / "alice")
        for name in ("csd2", ""):  # by its name, or by where it is
            way = flight_way(address, name, alice)
            assert way.ask(b"who", SECONDS) == b"sales"
            way.close()
        with pytest.raises(Forbidden, match="csd1"):
            flight_way(address, "csd1", alice)
        revoke(keys, "csd2", NOW)
        for name in ("csd2", ""):
            with pytest.raises(Forbidden, match="revoked"):
                flight_way(address, name, alice)
    with pytest.raises(Unreached):
        flight_way(address, "csd2", alice)


def test_the_command_line(tmp_path, wherry):
    keys = ("--keys", tmp_path / "keys")
    assert wherry("keys", "init", tmp_path / "keys").code == 0
    assert wherry("keys", "issue", "csd0", *keys, "--agent", "--address", "10.0.0.7").code == 0
    assert wherry("keys", "issue", "alice", *keys, "--days", "30").code == 0
    said = wherry("keys", "issue", "alice", *keys)
    assert (said.code, "is there already" in said.err) == (2, True)
    (serial,) = wherry("keys", "revoke", "alice", *keys, "--json").json["revoked"]
    alice, csd0 = wherry("keys", "list", *keys, "--json").json["certificates"]
    assert (alice["state"], alice["serial"], csd0["state"]) == ("revoked", serial, "valid")
    assert "alice  client  revoked" in wherry("keys", "list", *keys).out
    said = wherry("keys", "revoke", "nobody", *keys)
    assert (said.code, "names: alice, csd0" in said.err) == (2, True)
    said = wherry("keys", "list", "--keys", tmp_path)
    assert (said.code, "keys init" in said.err) == (2, True)
