"""A SELECT answered by agents, fetched by clients that know nothing of Wherry."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support.clusters import store

import wherry as wh
from wherry.devices.profile import load_profile, profile_folder
from wherry.serve.agent import Agent, Asked
from wherry.statements.answering import SqlAnswers

pytest.importorskip("sqlglot")
PROFILES = {
    "csd0": "newport",
    "csd1": "newport",
    "dpu0": "bluefield-3",
    "host0": "sapphire-rapids",
}
SALES = pa.table(
    {
        "shop": [n % 7 for n in range(40_000)],
        "price": [n / 4 if n % 5 else None for n in range(40_000)],
        "what": [f"thing {n % 3}" for n in range(40_000)],
    }
)
QUERIES = (
    "SELECT * FROM sales WHERE price < 1000 AND shop IN (1, 3)",
    "SELECT shop, sum(price) AS total, count(*) AS n FROM sales GROUP BY shop ORDER BY total DESC",
    "SELECT what, price FROM sales WHERE shop = 5 ORDER BY price DESC LIMIT 9",
    "SELECT count(*) AS n FROM sales WHERE price IS NULL",
    "SELECT price FROM sales WHERE shop > 100",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give two drives that hold a dataset, a host, and a DPU that answers SQL for all of them."""
    folder = tmp_path_factory.mktemp("agents")
    store(folder, SALES, "sales", parts=4, rows=5000)
    for name in ("dpu0", "host0"):
        (folder / name).mkdir()
    found = {name: f"grpc://127.0.0.1:{free_port()}" for name in PROFILES}
    text = (profile_folder() / "systems" / "dpu-csd-host.toml").read_text().partition("[[dataset]]")
    system = folder / "rack.toml"
    written = text[0].replace('name = "dpu-csd-host"', 'name = "rack"')
    for name, address in found.items():
        written = written.replace(f'name = "{name}"\n', f'name = "{name}"\nagent = "{address}"\n')
    system.write_text(written)
    agents = []
    try:
        for name, profile in PROFILES.items():
            asked = Asked(name, load_profile(profile), (found[name],), folder / name, emulate=True)
            of_all = system if name == "dpu0" else None
            agents.append(Agent(asked, partial(SqlAnswers, system=of_all)))
        yield found
    finally:
        for agent in agents:
            agent.close()


@pytest.mark.parametrize("query", QUERIES)
def test_parts_come_from_where_they_were_made(addresses: dict[str, str], query: str) -> None:
    wanted = wh.sql(query, sales=SALES).collect()
    with closing(fl.connect(addresses["dpu0"])) as client:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(query))
        assert info.schema == wanted.schema
        assert client.get_schema(info.descriptor).schema == wanted.schema
    parts, owners = [info.schema.empty_table()], set()
    for endpoint in info.endpoints:
        where = [location.uri.decode() for location in endpoint.locations]
        owners |= set(where)
        with closing(fl.connect(where[0])) as other:
            parts.append(other.do_get(endpoint.ticket).read_all())
    seen = pa.concat_tables(parts)
    # The DPU says where rows are, and has none of them.
    assert owners <= set(addresses.values()) - {addresses["dpu0"]}
    assert owners or not wanted.num_rows
    assert info.total_records == seen.num_rows == wanted.num_rows
    if "ORDER BY" in query:
        assert seen.to_pylist() == wanted.to_pylist()
    else:
        assert sorted(map(repr, seen.to_pylist())) == sorted(map(repr, wanted.to_pylist()))


def test_each_agent_answers_for_its_own(addresses: dict[str, str]) -> None:
    with closing(fl.connect(addresses["csd0"])) as client:
        (listed,) = client.list_flights()
        assert (listed.descriptor.path, listed.total_records) == ([b"sales"], 20_000)
        info = client.get_flight_info(listed.descriptor)
        assert sum(client.do_get(e.ticket).read_all().num_rows for e in info.endpoints) == 20_000
        with pytest.raises(fl.FlightServerError, match="no table 'other'; tables: sales"):
            client.get_flight_info(fl.FlightDescriptor.for_command("SELECT x FROM other"))


def test_adbc_asks_all_of_them(addresses: dict[str, str]) -> None:
    dbapi = pytest.importorskip("adbc_driver_flightsql.dbapi")
    uri = addresses["dpu0"].replace("grpc", "grpc+tcp")
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for query in QUERIES[1:3]:
            cursor.execute(query)
            seen = cursor.fetch_arrow_table().to_pylist()
            assert seen == wh.sql(query, sales=SALES).collect().to_pylist()


def test_the_example(addresses: dict[str, str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "read_with_plain_flight.py"
    command = [sys.executable, "-I", str(example), addresses["dpu0"], "--sql", QUERIES[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "answer: 9 rows" in done.stdout
    first = wh.sql(QUERIES[2], sales=SALES).collect().to_pylist()[0]
    assert f"{first['what']}\t{first['price']}" in done.stdout
