"""What an agent refuses over its socket stands in its log, and tells nothing of what is there."""

import json
import os
import time

import pyarrow as pa
import pytest
from msgspec.structs import replace
from pyarrow import flight, ipc

from wherry.base.errors import WherryError
from wherry.devices.profile import load_profile
from wherry.serve import requests
from wherry.serve.agent import Agent, Asked
from wherry.serve.connection import Connection
from wherry.serve.requests import reply_of, to_bytes
from wherry.statements.answering import SqlAnswers

ROWS = pa.record_batch({"x": [1, 2, 3]})
TENANTS = '[[tenant]]\nname = "sales"\nwho = ["uid {}"]\ndatasets = ["orders", "gone"]\n'


@pytest.fixture
def asked(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("orders", "salaries"):
        with ipc.new_file(data / f"{name}.arrow", ROWS.schema) as writer:
            writer.write_batch(ROWS)
    return Asked(
        name="csd0",
        profile=load_profile("smartssd"),
        listen=(f"unix:{tmp_path}/csd0.sock",),
        data=data,
        emulate=True,
        tenants=tmp_path / "tenants.toml",
        log=tmp_path / "log",
    )


def said(asked, *messages):
    path = asked.listen[0].removeprefix("unix:")
    with Connection(path, deadline=time.monotonic() + 5) as connection:
        return [
            reply_of(connection.ask(to_bytes(m), deadline=time.monotonic() + 5)) for m in messages
        ]


def logged(asked):
    return [json.loads(line) for line in asked.log.read_text().splitlines()]


def test_a_dataset_that_may_not_be_read_is_refused_and_logged(asked):
    asked.tenants.write_text(TENANTS.format(os.geteuid()))
    agent = Agent(asked)
    try:
        names = ("orders", "salaries", "gone", "../data/salaries")
        found = said(asked, requests.List(), *(requests.Measure(name, "x") for name in names))
    finally:
        agent.close()
    assert [one.name for one in found[0].datasets] == ["orders"]
    assert isinstance(found[1], requests.Bounds)
    for reply in found[2:]:
        assert isinstance(reply, requests.Failed)
        assert reply.text.endswith("datasets: orders")
    lines = logged(asked)
    assert [line["why"] for line in lines] == [reply.text for reply in found[2:]]
    assert {(line["agent"], line["event"], line["tenant"], line["peer"]) for line in lines} == {
        ("csd0", "refused", "sales", f"unix uid {os.geteuid()}")
    }


def test_a_user_without_a_tenant_is_refused_and_logged(asked, monkeypatch):
    asked.tenants.write_text(TENANTS.format(os.geteuid() + 1))
    agent = Agent(asked)
    # The agent's own user is another one: strangers are let in nowhere.
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 2)
    try:
        with (
            Connection(
                str(asked.listen[0].removeprefix("unix:")),
                deadline=time.monotonic() + 5,
                trusted=[os.getuid()],
            ) as connection,
            pytest.raises(WherryError, match="no tenant"),
        ):
            connection.ask(to_bytes(requests.Hello()), deadline=time.monotonic() + 5)
    finally:
        agent.close()
    (line,) = logged(asked)
    assert (line["what"], line["where"]) == ("uid", asked.listen[0])


def test_an_agent_of_the_same_user_may_come_for_pieces_alone(asked):
    asked.tenants.write_text(TENANTS.format(os.geteuid() + 1))
    agent = Agent(asked)
    try:
        (reply,) = said(asked, requests.Hello())
    finally:
        agent.close()
    assert "agents take pieces by ticket" in reply.text
    (line,) = logged(asked)
    assert (line["what"], line["tenant"]) == ("request", "agents")


def test_what_flight_clients_are_refused_is_logged(asked):
    asked.tenants.write_text(TENANTS.format(os.geteuid()))
    agent = Agent(replace(asked, listen=("grpc://127.0.0.1:0",)), SqlAnswers)
    (listener,) = agent.listeners
    options = flight.FlightCallOptions(timeout=5)
    try:
        with flight.FlightClient(str(listener.address)) as client:
            for asks in (
                lambda: client.get_flight_info(
                    flight.FlightDescriptor.for_command(b"SELECT x FROM salaries"), options
                ),
                lambda: client.get_schema(flight.FlightDescriptor.for_path("salaries"), options),
                lambda: client.do_get(flight.Ticket(b"no ticket"), options).read_all(),
            ):
                with pytest.raises(Exception, match=r"salaries|ticket"):
                    asks()
    finally:
        agent.close()
    lines = logged(asked)
    assert [line["what"] for line in lines] == ["call"] * 3
    assert all("tables: orders" in line["why"] for line in lines[:1])


def test_who_may_what_is_read_again(asked):
    asked.tenants.write_text(TENANTS.format(os.geteuid()))
    agent = Agent(asked)
    try:
        assert isinstance(said(asked, requests.Measure("salaries", "x"))[0], requests.Failed)
        part = asked.tenants.with_suffix(".new")
        part.write_text(TENANTS.format(os.geteuid()).replace("gone", "salaries"))
        part.rename(asked.tenants)
        time.sleep(1.1)
        assert isinstance(said(asked, requests.Measure("salaries", "x"))[0], requests.Bounds)
    finally:
        agent.close()


def test_a_file_that_is_not_there_is_an_error_at_once(asked):
    with pytest.raises(WherryError, match=r"tenants\.toml: cannot be read"):
        Agent(asked)
