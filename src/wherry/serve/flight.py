"""An agent's listener for other hosts: Arrow Flight over gRPC, with certificates of both sides.

    DoAction("wherry", request) -> reply        what callers of Wherry ask; see `requests`
    DoGet(ticket)                               a piece, to whoever shows its ticket
    ListFlights                                 the datasets that the caller may read
    GetFlightInfo(path of a dataset)            where all its rows are
    GetFlightInfo(command: SQL as UTF-8)        where the answer is
    GetSchema(either)                           the columns
    Flight SQL                                  see `flight_sql`

A sketch: a request takes 0.25 ms on loopback, most of it gRPC's. Rows are written by gRPC from the
memory they are in; the kernel copies them into the socket, and gRPC's reader out of it. Both ends
work at once only if a batch is a fraction of the whole, and fast only if it stays in their caches:
large batches are cut into messages of `MESSAGE_BYTES`, which more than doubles the rate of a batch
of 256 MB (measured). A message waits in gRPC until the reader has room for it, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Final

import pyarrow as pa
import pyarrow.flight as fl
from msgspec import Struct

from wherry.base.errors import InputError, WherryError, unknown_name
from wherry.data.types import layout_of
from wherry.serve import flight_sql
from wherry.serve.answers import Answered, Answers
from wherry.serve.flight_address import FlightAddress, secured_address
from wherry.serve.flight_calls import Call, Calls
from wherry.serve.flight_error import flight_error
from wherry.serve.flight_keys import Tls
from wherry.serve.log import note
from wherry.serve.peer import Peer
from wherry.serve.replies import unforeseen
from wherry.serve.requests import (
    INSTALL_BYTES_MAX,
    REQUEST_BYTES_MAX,
    Dataset,
    Failed,
    List,
    error_of,
    reply_of,
    to_bytes,
)
from wherry.serve.served import Served

ACTION: Final = "wherry"
MESSAGE_BYTES: Final = 4 << 20
"""Of a message that carries rows, about."""
_ROWS_UNIT: Final = 4096
"""Messages hold a multiple of this many rows, so that bitmaps begin at whole bytes."""
_CALLS: Final = "calls"


class FlightBounds(Struct, frozen=True):
    """What a listener puts up with.

    Attributes
    ----------
    calls : int
        At once; each takes a thread.
    wait_s : float
        Seconds that a call waits for its client to take a message before it is cut off.
    """

    calls: int = 64
    wait_s: float = 30.0


class FlightListener:
    """A server that answers until it is stopped.

    Parameters
    ----------
    address : str
        Where to listen; port 0 takes a free one.
    served : Served
        Does the work.
    tls : Tls, optional
        Needed unless the address is this machine's own.
    answers : Answers, optional
        Who answers SQL.

    Raises
    ------
    InputError
        If the address is none, is not this machine's, is in use, or TLS does not fit it.
    """

    def __init__(
        self,
        address: str,
        served: Served,
        *,
        tls: Tls | None = None,
        answers: Answers | None = None,
        bounds: FlightBounds | None = None,
    ) -> None:
        asked = secured_address(address, tls=tls is not None)
        bounds = bounds or FlightBounds()
        self._calls = Calls(bounds.calls, bounds.wait_s)
        try:
            self._server = _Server(asked, served, tls=tls, answers=answers, calls=self._calls)
        except (pa.ArrowException, OSError) as problem:
            self._calls.stop(0)
            why = str(problem).partition(". Detail")[0]
            raise InputError(f"cannot listen at {address}: {why}") from None
        self.address = FlightAddress(asked.host, self._server.port, asked.tls)
        """Where it listens."""

    def calls_under_way(self) -> int:
        """Give how many calls are being answered."""
        return self._calls.under_way()

    def close(self) -> None:
        """Serve nobody any more."""
        self.stop()

    def stop(self, grace_s: float = 5.0) -> bool:
        """Stop listening; give whether every call had ended `grace_s` after the last was cut off.

        Calls under way have `grace_s` to end, then their connections are closed.
        """
        self._calls.stop(grace_s)
        # Flight waits for handlers without a bound of its own, so that is left to a thread.
        shutting = Thread(target=self._server.shutdown, name="flight-shutdown", daemon=True)
        shutting.start()
        shutting.join(grace_s)
        return not shutting.is_alive()


class _Server(fl.FlightServerBase):  # type: ignore[misc]
    """What gRPC calls; every method runs in a thread of its own call."""

    def __init__(
        self,
        address: FlightAddress,
        served: Served,
        *,
        tls: Tls | None,
        answers: Answers | None,
        calls: Calls,
    ) -> None:
        self._served = served
        self._answers = answers
        self._calls = calls
        secured: dict[str, object] = {}
        if tls is not None:
            secured = {
                "tls_certificates": [(tls.certificate, tls.key)],
                "root_certificates": tls.roots,
                "verify_client": True,
            }
        super().__init__(str(address), middleware={_CALLS: calls}, **secured)

    @contextmanager
    def _call(self, context: fl.ServerCallContext) -> Iterator[tuple[Call, Peer]]:
        """Give the call and who makes it; let nothing out but errors of Flight without traces."""
        call: Call = context.get_middleware(_CALLS)
        peer = None
        try:
            peer_address = context.peer()
            self._calls.met(call, peer_address)
            peer = self._served.peer(context.peer_identity().decode(errors="replace"), peer_address)
            yield call, peer
        except WherryError as problem:
            if peer is not None:
                note(self._served.refused, peer, "call", problem)
            raise flight_error(problem) from None
        except fl.FlightError:
            raise
        except Exception as problem:  # noqa: BLE001
            # What is wrong here is for the agent's log; callers learn that it is not their fault.
            raise flight_error(unforeseen(problem)) from None
        finally:
            call.waits()

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> list[pa.Buffer]:
        with self._call(context) as (_, peer):
            size = action.body.size
            if size > INSTALL_BYTES_MAX + REQUEST_BYTES_MAX:
                raise InputError(f"request of {size} bytes; possible: {INSTALL_BYTES_MAX}")
            body = action.body.to_pybytes()
            if action.type == ACTION:
                return [pa.py_buffer(self._served.handle(body, peer))]
            return [pa.py_buffer(r) for r in flight_sql.act(action.type, body, self._sql, peer)]

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        with self._call(context):
            return [(ACTION, "a request of Wherry, as msgpack"), *flight_sql.ACTIONS]

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        with self._call(context) as (call, peer):
            if flight_sql.is_command(ticket.ticket):
                datasets = self._datasets(peer)
                return fl.RecordBatchStream(flight_sql.table_of(ticket.ticket, datasets))
            taken = self._served.taken(ticket.ticket, peer)
            rows = pa.RecordBatchReader.from_batches(taken.schema, _sent(call, taken.batches))
            return fl.RecordBatchStream(rows)

    def list_flights(
        self, context: fl.ServerCallContext, criteria: bytes
    ) -> Iterator[fl.FlightInfo]:
        with self._call(context) as (_, peer):
            wanted = criteria.decode()
            infos = [_info_of(d) for d in self._datasets(peer) if d.name.startswith(wanted)]
        yield from infos

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        with self._call(context) as (_, peer):
            command = descriptor.command or b""
            if flight_sql.is_metadata(command):
                schema = flight_sql.schema_of(command)
                return _info(schema, descriptor, [fl.FlightEndpoint(command, [])], -1, -1)
            text = self._text(descriptor, peer)
            return _answered_info(self._sql().answer(text, peer), descriptor)

    def do_put(self, context: fl.ServerCallContext, *_: object) -> None:
        with self._call(context):
            raise InputError("agents take no rows from outside; possible: DoGet")

    def do_exchange(self, context: fl.ServerCallContext, *_: object) -> None:
        with self._call(context):
            raise InputError("agents exchange no rows with outside; possible: DoGet")

    # An error of get_schema shows a traceback to the caller: pyarrow adds it, here alone.
    def get_schema(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.SchemaResult:
        with self._call(context) as (_, peer):
            command = descriptor.command or b""
            if flight_sql.is_metadata(command):
                return fl.SchemaResult(flight_sql.schema_of(command))
            if descriptor.path:
                return fl.SchemaResult(_schema(self._dataset(descriptor.path, peer)))
            return fl.SchemaResult(self._sql().schema(self._text(descriptor, peer), peer))

    def _sql(self) -> Answers:
        if self._answers is None:
            raise InputError(
                "this agent answers no SQL: it was started without; possible: list_flights, and "
                "tickets that other agents gave out"
            )
        return self._answers

    def _text(self, descriptor: fl.FlightDescriptor, peer: Peer) -> str:
        """Give the query that a descriptor stands for."""
        if descriptor.path:
            name = self._dataset(descriptor.path, peer).name.replace('"', '""')
            return f'SELECT * FROM "{name}"'  # noqa: S608 - a dataset's own name, quoted
        return flight_sql.query_of(descriptor.command or b"")

    def _dataset(self, path: Sequence[bytes], peer: Peer) -> Dataset:
        name = "/".join(part.decode(errors="replace") for part in path)
        datasets = {d.name: d for d in self._datasets(peer)}
        if name not in datasets:
            raise unknown_name("dataset", name, datasets)
        return datasets[name]

    def _datasets(self, peer: Peer) -> Sequence[Dataset]:
        reply = reply_of(self._served.handle(to_bytes(List()), peer))
        if isinstance(reply, Failed):
            raise error_of(reply, "this agent")
        return reply.datasets


def _sent(call: Call, batches: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give batches one message at a time, noting whose turn it is."""
    for batch in batches:
        for part in _parts(batch):
            call.waits()
            yield part
            call.works()
    call.waits()


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into messages. Views are not cut: each part would carry the text of all."""
    nbytes = batch.nbytes
    if nbytes <= MESSAGE_BYTES * 2 or any(_has_views(t) for t in batch.schema.types):
        yield batch
        return
    rows = max(1, batch.num_rows * MESSAGE_BYTES // nbytes // _ROWS_UNIT) * _ROWS_UNIT
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _has_views(t: pa.DataType) -> bool:
    if pa.types.is_struct(t):
        return any(_has_views(field.type) for field in t)
    return layout_of(t) == "views"


def _schema(dataset: Dataset) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(dataset.schema))


def _info_of(dataset: Dataset) -> fl.FlightInfo:
    """Give a dataset; its rows are asked for by name, and only then somewhere."""
    rows = sum(sum(part.rows) for part in dataset.parts)
    nbytes = sum(part.nbytes for part in dataset.parts)
    path = fl.FlightDescriptor.for_path(dataset.name)
    return _info(_schema(dataset), path, [], rows, nbytes)


def _answered_info(found: Answered, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
    parts = [
        fl.FlightEndpoint(ticket, [address] if address else [])
        for address, ticket in found.endpoints
    ]
    return _info(found.schema, descriptor, parts, found.rows, found.nbytes)


def _info(
    schema: pa.Schema,
    descriptor: fl.FlightDescriptor,
    endpoints: list[fl.FlightEndpoint],
    rows: int,
    nbytes: int,
) -> fl.FlightInfo:
    # "ordered": rows of an answer are in order if endpoints are read in order.
    return fl.FlightInfo(schema, descriptor, endpoints, rows, nbytes, True)
