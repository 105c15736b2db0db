"""Clients that know nothing of Wherry ask an agent in SQL: pyarrow's own, and ADBC's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support.certificates import Authority, tls_of
from support.stations import Answering, Station, served

import wherry as wh
from wherry.serve.flight import FlightListener

dbapi = pytest.importorskip("adbc_driver_flightsql.dbapi")
options = pytest.importorskip("adbc_driver_flightsql").DatabaseOptions

SALES = pa.table(
    {
        "shop": [n % 3 for n in range(5000)],
        "price": [n / 4 for n in range(5000)],
        "what": pa.array([None if n % 7 == 0 else f"thing {n % 5}" for n in range(5000)]),
    }
)
BY_SHOP = "SELECT shop, sum(price) AS total FROM sales GROUP BY shop ORDER BY shop"


def answer(sql: str) -> pa.Table:
    return wh.sql(sql, sales=SALES).collect()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, authority = tmp_path_factory.mktemp("keys"), Authority()
    return {name: authority.issue(root / name, name) for name in ("csd0", "alice")}


@pytest.fixture
def station() -> Station:
    return Station({"sales": SALES})


@pytest.fixture
def listener(station: Station) -> Iterator[FlightListener]:
    made = FlightListener("grpc://127.0.0.1:0", served(station), answers=Answering(station, answer))
    yield made
    assert made.stop(2)


@pytest.fixture
def secure(station: Station, folders: dict[str, Path]) -> Iterator[FlightListener]:
    made = FlightListener(
        "grpc+tls://127.0.0.1:0",
        served(station),
        tls=tls_of(folders["csd0"]),
        answers=Answering(station, answer),
    )
    yield made
    assert made.stop(2)
    assert set(station.peers) <= {"alice"}


def test_pyarrow_fetches_each_part_of_an_answer(listener: FlightListener) -> None:
    with closing(fl.connect(str(listener.address))) as client:
        sql = "SELECT * FROM sales WHERE price < 1000"
        info = client.get_flight_info(fl.FlightDescriptor.for_command(sql))
        parts = [client.do_get(e.ticket).read_all() for e in info.endpoints]
        assert [p.num_rows for p in parts] == [1000, 1000, 1000, 1000]
        assert info.total_records == 4000
        assert info.ordered
        assert pa.concat_tables(parts).to_pylist() == SALES.slice(0, 4000).to_pylist()
        assert client.get_schema(info.descriptor).schema == info.schema == parts[0].schema
        whole = client.get_flight_info(fl.FlightDescriptor.for_path("sales"))
        assert sum(client.do_get(e.ticket).read_all().num_rows for e in whole.endpoints) == 5000


def test_adbc_runs_a_select(listener: FlightListener) -> None:
    uri = str(listener.address).replace("grpc", "grpc+tcp")
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(BY_SHOP)
        assert cursor.fetch_arrow_table().to_pylist() == answer(BY_SHOP).to_pylist()
        cursor.execute("SELECT what, count(*) AS n FROM sales GROUP BY what ORDER BY what")
        assert cursor.fetchone() == ("thing 0", 857)
        with pytest.raises(dbapi.Error, match="nosuch"):
            cursor.execute("SELECT nosuch FROM sales")


def test_adbc_reads_the_catalogue(listener: FlightListener) -> None:
    uri = str(listener.address).replace("grpc", "grpc+tcp")
    with dbapi.connect(uri, autocommit=True) as connection:
        assert connection.adbc_get_info()["vendor_name"] == "wherry"
        assert connection.adbc_get_table_types() == ["TABLE"]
        assert connection.adbc_get_table_schema("sales") == SALES.schema
        (catalogue,) = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        (schema,) = catalogue["catalog_db_schemas"]
        (table,) = schema["db_schema_tables"]
        assert (table["table_name"], table["table_type"]) == ("sales", "TABLE")
        (none,) = connection.adbc_get_objects(table_name_filter="x%").read_all().to_pylist()
        assert not none["catalog_db_schemas"][0]["db_schema_tables"]


def test_adbc_with_certificates(secure: FlightListener, folders: dict[str, Path]) -> None:
    mine = tls_of(folders["alice"])
    settings = {
        options.TLS_ROOT_CERTS.value: mine.roots.decode(),
        options.MTLS_CERT_CHAIN.value: mine.certificate.decode(),
        options.MTLS_PRIVATE_KEY.value: mine.key.decode(),
    }
    opened = dbapi.connect(str(secure.address), settings, autocommit=True)
    with opened as connection, connection.cursor() as cursor:
        cursor.execute(BY_SHOP)
        assert len(cursor.fetchall()) == 3


@pytest.mark.parametrize("how", ["plain", "secure"])
def test_the_example_knows_pyarrow_only(
    how: str, request: pytest.FixtureRequest, folders: dict[str, Path]
) -> None:
    listener = request.getfixturevalue("listener" if how == "plain" else "secure")
    example = Path(__file__).parents[2] / "examples" / "read_with_plain_flight.py"
    imports = [line for line in example.read_text().splitlines() if "import " in line]
    assert not any("wherry" in line.lower().replace("wherry is", "") for line in imports)
    # -I: neither this checkout nor an installed Wherry is looked for.
    command = [sys.executable, "-I", str(example), str(listener.address), "--sql", BY_SHOP]
    command += ["--keys", str(folders["alice"])] * (how == "secure")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"sales: 5000 rows, {SALES.nbytes} bytes" in done.stdout
    for row in answer(BY_SHOP).to_pylist():
        assert f"{row['shop']}\t{row['total']}" in done.stdout
