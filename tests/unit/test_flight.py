"""The Flight listener and its client: who may call, what comes through, and what ends a wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support.certificates import Authority, tls_of
from support.stations import Station, served

from wherry.base.errors import CorruptError, InputError, Refused, Retryable, WherryError
from wherry.serve.flight import FlightBounds, FlightListener
from wherry.serve.flight_client import FlightConnection
from wherry.serve.flight_error import flight_error

S = 20.0


@pytest.fixture
def station() -> Station:
    return Station({"small": pa.table({"n": [1, 2, 3]})})


@pytest.fixture
def listen(station: Station) -> Iterator[Callable[..., FlightListener]]:
    made = []

    def start(address: str = "grpc://127.0.0.1:0", **more: object) -> FlightListener:
        made.append(FlightListener(address, served(station), **more))
        return made[-1]

    yield start
    assert [listener.stop(2) for listener in made] == [True] * len(made)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def folders(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("keys")
    made = {name: authority.issue(root / name, name) for name in ("csd0", "alice", "mallory")}
    made["late"] = authority.issue(root / "late", "late", timedelta(hours=-1))
    made["stranger"] = Authority("other").issue(root / "stranger", "stranger")
    # A stranger believes our agents, and is not believed.
    (made["stranger"] / "ca.pem").write_bytes(authority.pem)
    return made


def wait_for(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_and_replies_pass(listen: Callable[..., FlightListener]) -> None:
    with FlightConnection(str(listen().address)) as connection:
        assert connection.ask(b"!abc", S) == b"cba!"
        long = b"!" + os.urandom(3 << 20)
        assert connection.ask(long, S) == long[::-1]


def batches_of_all_kinds() -> list[list[pa.RecordBatch]]:
    numbers = pa.record_batch(
        {
            "i": pa.array([1, None, -(1 << 63)] * 7, pa.int64()),
            "f": pa.array([0.0, -0.0, float("nan")] * 7),
            "b": pa.array([True, None, False] * 7),
            "d": pa.array([None, 1, 2] * 7, pa.decimal128(38, 2)),
        }
    )
    texts = pa.record_batch(
        {
            "t": pa.array(["", None, "ä" * 40] * 5),
            "v": pa.array(["", None, "ö" * 40] * 5, pa.string_view()),
            "w": pa.array([b"\0", None, b""] * 5, pa.large_binary()),
            "s": pa.array([{"x": 1, "y": "z"}, None, {"x": None, "y": ""}] * 5),
        }
    )
    several = [
        pa.record_batch({"k": pa.array(words).dictionary_encode()})
        for words in (["a", "b", None], ["c", "a", "a"])
    ]
    nothing = pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([])))
    return [
        [numbers, numbers.slice(3, 5), numbers.slice(2, 0)],
        [texts, texts.slice(1, 7)],
        [*several, several[0].slice(1)],
        [nothing, nothing],
    ]


@pytest.mark.parametrize("batches", batches_of_all_kinds(), ids=["numbers", "text", "dict", "none"])
def test_pieces_arrive_as_they_were(
    listen: Callable[..., FlightListener], station: Station, batches: list[pa.RecordBatch]
) -> None:
    station.keep(b"piece", batches)
    with FlightConnection(str(listen().address)) as connection:
        seen = connection.take(b"piece", S)
    assert seen.schema == batches[0].schema
    assert [b.num_rows for b in seen.batches] == [b.num_rows for b in batches]
    for one, other in zip(seen.batches, batches, strict=True):
        assert repr(one.to_pylist()) == repr(other.to_pylist())


def test_a_piece_without_batches_has_its_columns(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    schema = pa.schema([("x", pa.int8())])
    station.keep(b"none", schema.empty_table())
    with FlightConnection(str(listen().address)) as connection:
        seen = connection.take(b"none", S)
    assert (seen.schema, seen.batches) == (schema, [])


def test_large_batches_are_cut_and_aligned(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    values = np.arange(3_000_001)
    nulls = pa.array(values, mask=values % 3 == 0)
    words = pa.array(values % 1000).cast(pa.utf8())
    station.keep(b"large", pa.table({"v": values, "n": nulls, "t": words}))
    with FlightConnection(str(listen().address)) as connection:
        seen = connection.take(b"large", S)
        with pytest.raises(InputError, match="more than 1000000 bytes came"):
            connection.take(b"large", S, most_bytes=1_000_000)
    assert len(seen.batches) > 5
    assert pa.Table.from_batches(seen.batches) == pa.table({"v": values, "n": nulls, "t": words})
    for batch in seen.batches:
        places = [column.buffers()[1].address for column in batch.columns]
        assert not any(place % 4 for place in places)


@pytest.mark.parametrize(
    "problem",
    [
        InputError("no such thing"),
        CorruptError("ends too soon"),
        Retryable("busy"),
        WherryError("ä\n'%" * 3000),
        Refused("no way", [f"reason {n}" for n in range(2000)]),
    ],
    ids=lambda p: type(p).__name__,
)
def test_errors_of_the_station_arrive(
    listen: Callable[..., FlightListener], station: Station, problem: WherryError
) -> None:
    station.fails = problem
    with FlightConnection(str(listen().address), name="csd0") as connection:
        for call in (connection.take, connection.ask):
            with pytest.raises(WherryError) as caught:
                call(b"x", S)
            assert type(caught.value) is type(problem)
            assert str(problem)[:20] in str(caught.value)
            assert "csd0 at grpc://" in str(caught.value)


def test_what_is_wrong_in_the_agent_stays_there(
    listen: Callable[..., FlightListener], station: Station, capfd: pytest.CaptureFixture[str]
) -> None:
    station.fails = ZeroDivisionError("secret")
    connection = FlightConnection(str(listen().address))
    with (
        connection,
        pytest.raises(
            WherryError, match=r"fault of the agent itself \(ZeroDivisionError\)"
        ) as caught,
    ):
        connection.ask(b"x", S)
    assert "secret" not in str(caught.value)
    assert "File" not in str(caught.value)
    assert "secret" in capfd.readouterr().err


def test_names_of_certificates_are_told(
    listen: Callable[..., FlightListener], station: Station, folders: dict[str, Path]
) -> None:
    address = listen("grpc+tls://127.0.0.1:0", tls=tls_of(folders["csd0"])).address
    station.keep(b"piece", pa.table({"x": [1]}))
    with FlightConnection(str(address), tls_of(folders["alice"]), "csd0") as connection:
        assert connection.ask(b"!", S) == b"!"
        assert connection.take(b"piece", S).batches[0].to_pydict() == {"x": [1]}
    assert station.peers == ["alice"]
    with FlightConnection(str(address), tls_of(folders["mallory"]), "csd0") as connection:
        with pytest.raises(WherryError, match="mallory is not let in"):
            connection.ask(b"!", S)
        with pytest.raises(WherryError, match="mallory is not let in"):
            connection.take(b"piece", S)


@pytest.mark.parametrize("who", ["late", "stranger"])
def test_certificates_that_are_not_good_are_refused(
    listen: Callable[..., FlightListener], station: Station, folders: dict[str, Path], who: str
) -> None:
    address = listen("grpc+tls://127.0.0.1:0", tls=tls_of(folders["csd0"])).address
    connection = FlightConnection(str(address), tls_of(folders[who]))
    with connection, pytest.raises(Retryable, match="not reached, or lost"):
        connection.ask(b"!", S)
    plain = fl.connect(f"grpc://127.0.0.1:{address.port}")
    with plain, pytest.raises(fl.FlightUnavailableError):
        list(plain.do_action(("wherry", b"!"), fl.FlightCallOptions(timeout=S)))
    assert not station.peers


def test_an_agent_of_another_name_is_refused(
    listen: Callable[..., FlightListener], station: Station, folders: dict[str, Path]
) -> None:
    address = listen("grpc+tls://127.0.0.1:0", tls=tls_of(folders["csd0"])).address
    connection = FlightConnection(str(address), tls_of(folders["alice"]), "csd1")
    with connection, pytest.raises(Retryable, match="csd1 at"):
        connection.ask(b"!", S)
    assert not station.peers


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("grpc://0.0.0.0:0", "plain text"),
        ("grpc://[::]:0", "plain text"),
        ("grpc+tcp://10.0.0.1:7000", "plain text"),
        ("grpc://storage:7000", "plain text"),
        ("grpc://127.0.0.1.example:7000", "plain text"),
        ("grpc+tls://127.0.0.1:0", "TLS needs"),
        ("http://127.0.0.1:0", "no address"),
        ("grpc://127.0.0.1", "no address"),
        ("grpc://127.0.0.1:70000", "70000|[Pp]ort"),
        ("grpc://a@127.0.0.1:1", "no address"),
    ],
)
def test_addresses_are_refused(station: Station, address: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        FlightListener(address, served(station))
    with pytest.raises(InputError, match=why):
        FlightConnection(address)


def test_an_address_in_use_is_refused(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    taken = listen().address
    with pytest.raises(InputError, match="cannot listen"):
        FlightListener(str(taken), served(station))


def test_a_deadline_ends_a_wait(listen: Callable[..., FlightListener], station: Station) -> None:
    may_go_on = threading.Event()

    def slow(request: bytes, peer: object) -> bytes:
        may_go_on.wait(S)
        return b""

    station.handle = slow  # type: ignore[method-assign]
    with FlightConnection(str(listen().address), name="csd0") as connection:
        began = time.monotonic()
        with pytest.raises(Retryable, match=r"csd0.*no answer within 0\.2 s"):
            connection.ask(b"x", 0.2)
        assert time.monotonic() - began < 5
        may_go_on.set()


def test_nobody_there_is_retryable() -> None:
    with FlightConnection("grpc://127.0.0.1:1", name="csd0") as connection:
        with pytest.raises(Retryable, match="csd0"):
            connection.ask(b"x", 2)
        with pytest.raises(Retryable, match="csd0"):
            connection.take(b"x", 2)


def test_a_reader_that_takes_nothing_is_cut_off(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    listener = listen(bounds=FlightBounds(wait_s=0.4))
    station.keep(b"large", pa.table({"v": np.arange(8_000_000)}))
    with closing(fl.connect(str(listener.address))) as client:
        reader = client.do_get(fl.Ticket(b"large"))
        reader.read_chunk()
        wait_for(lambda: listener.calls_under_way() == 1)
        wait_for(lambda: listener.calls_under_way() == 0)
        with pytest.raises(fl.FlightUnavailableError):
            reader.read_all()
        # What was cut off is the connection, not the client.
        assert client.do_get(fl.Ticket(b"large")).read_all().num_rows == 8_000_000


def test_a_slow_reader_that_goes_on_is_served(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    listener = listen(bounds=FlightBounds(wait_s=0.5))
    station.keep(b"large", pa.table({"v": np.arange(8_000_000)}))
    rows = 0
    with closing(fl.connect(str(listener.address))) as client:
        reader = client.do_get(fl.Ticket(b"large"))
        for chunk in reader:
            rows += chunk.data.num_rows
            time.sleep(0.1)
    assert rows == 8_000_000


def test_a_reader_that_goes_away_leaves_nothing(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    listener = listen()
    station.keep(b"large", pa.table({"v": np.arange(8_000_000)}))
    with closing(fl.connect(str(listener.address))) as client:
        reader = client.do_get(fl.Ticket(b"large"))
        reader.read_chunk()
        wait_for(lambda: listener.calls_under_way() == 1)
        reader.cancel()
        wait_for(lambda: not listener.calls_under_way())


def test_no_more_calls_than_there_may_be(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    listener = listen(bounds=FlightBounds(calls=2))
    station.keep(b"large", pa.table({"v": np.arange(8_000_000)}))
    with closing(fl.connect(str(listener.address))) as client:
        readers = [client.do_get(fl.Ticket(b"large")) for _ in range(2)]
        for reader in readers:
            reader.read_chunk()
        with FlightConnection(str(listener.address)) as connection:
            with pytest.raises(Retryable, match="2 calls are under way; come again"):
                connection.ask(b"!", S)
            for reader in readers:
                reader.cancel()
            wait_for(lambda: not listener.calls_under_way())
            assert connection.ask(b"!", S) == b"!"


def test_stopping_cuts_off_who_does_not_end(
    listen: Callable[..., FlightListener], station: Station
) -> None:
    listener = listen()
    station.keep(b"large", pa.table({"v": np.arange(8_000_000)}))
    with closing(fl.connect(str(listener.address))) as client:
        reader = client.do_get(fl.Ticket(b"large"))
        reader.read_chunk()
        began = time.monotonic()
        assert listener.stop(0.3)
        assert time.monotonic() - began < 5
        with pytest.raises(fl.FlightUnavailableError):
            reader.read_all()


def test_texts_of_errors_fit_in_trailers() -> None:
    long = flight_error(Refused("ä" * 9000, ["€" * 9000]))
    assert len(str(long).encode()) + len(long.extra_info) < 3000


def test_datasets_are_listed(listen: Callable[..., FlightListener]) -> None:
    with closing(fl.connect(str(listen().address))) as client:
        (info,) = client.list_flights()
        assert info.descriptor.path == [b"small"]
        assert (info.total_records, info.total_bytes) == (3, 24)
        assert info.schema == pa.schema([("n", pa.int64())])
        assert client.get_schema(info.descriptor).schema == info.schema
        assert not list(client.list_flights(b"x"))
        other = fl.FlightDescriptor.for_path("smal")
        for ask in (client.get_schema, client.get_flight_info):
            with pytest.raises(pa.ArrowException, match="no dataset 'smal'; did you mean 'small'"):
                ask(other)
        with pytest.raises(fl.FlightServerError, match="answers no SQL"):
            client.get_flight_info(fl.FlightDescriptor.for_command(b"SELECT 1"))
        with pytest.raises(fl.FlightServerError, match="no action 'x'; actions: wherry"):
            list(client.do_action(("x", b"")))
        writer, _ = client.do_put(other, info.schema)
        with pytest.raises(fl.FlightServerError, match="take no rows"):
            writer.close()
        _, reader = client.do_exchange(other)
        with pytest.raises(fl.FlightServerError, match="exchange no rows"):
            reader.read_chunk()
