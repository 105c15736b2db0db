"""A connection to an agent on another host, with the calls that a Unix connection has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

import pyarrow as pa
import pyarrow.flight as fl

from wherry.base.errors import CorruptError, InputError
from wherry.data.validate import check_batch
from wherry.serve.flight import ACTION
from wherry.serve.flight_address import secured_address
from wherry.serve.flight_error import error_of_flight
from wherry.serve.flight_keys import Tls
from wherry.serve.received import CARRIED, Received

_MESSAGE_BYTES_MAX: Final = (1 << 31) - 1
"""gRPC's own bound: a batch with views comes as one message, however long."""


class FlightConnection:
    """A connection to one agent, for one thread at a time; it connects when it is first used.

    Every call has a deadline in seconds from now, connecting included, and the agent learns it.
    Errors name the agent. A call that may succeed later raises Retryable, one that the agent
    refused what the agent says, and what cannot be understood CorruptError.

    Parameters
    ----------
    address : str
        See `wherry.serve.flight_address`.
    tls : Tls, optional
        Needed for grpc+tls://.
    name : str
        The agent's name: what its certificate must say, whatever host it listens at; and what
        errors call it. Without a name the certificate must say the host.
    message_bytes : int
        A longer message from the agent is refused.
    """

    def __init__(
        self,
        address: str,
        tls: Tls | None = None,
        name: str = "",
        *,
        message_bytes: int = _MESSAGE_BYTES_MAX,
    ) -> None:
        where = secured_address(address, tls=tls is not None)
        self._device = f"{name} at {where}" if name else str(where)
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", message_bytes),
            # Otherwise connections to one address are one, and cut off together.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        secured: dict[str, bytes | str] = {}
        if tls is not None:
            secured = {
                "tls_root_certs": tls.roots,
                "cert_chain": tls.certificate,
                "private_key": tls.key,
            }
            if name:
                secured["override_hostname"] = name
        self._client = fl.FlightClient(str(where), generic_options=options, **secured)

    def ask(self, request: bytes, deadline_s: float) -> bytes:
        """Send a request and give the reply."""
        with self._errors(deadline_s):
            options = fl.FlightCallOptions(timeout=max(deadline_s, 0.0))
            replies = [r.body for r in self._client.do_action((ACTION, request), options)]
        if len(replies) != 1:
            raise CorruptError(f"{self._device}: {len(replies)} replies to one request")
        reply: bytes = replies[0].to_pybytes()
        return reply

    def take(self, ticket: bytes, deadline_s: float, *, most_bytes: int | None = None) -> Received:
        """Give the piece that a ticket is for: carried, and checked as a stranger's file is.

        Parameters
        ----------
        most_bytes : int, optional
            Refuse what is larger, once that much has come.
        """
        with self._errors(deadline_s):
            # gRPC puts columns anywhere, also at odd addresses, which no program reads.
            aligned = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)
            options = fl.FlightCallOptions(timeout=max(deadline_s, 0.0), read_options=aligned)
            reader = self._client.do_get(fl.Ticket(ticket), options)
            batches, nbytes = [], 0
            while (batch := _next(reader)) is not None:
                nbytes += batch.nbytes
                if most_bytes is not None and nbytes > most_bytes:
                    reader.cancel()
                    raise InputError(f"{self._device}: more than {most_bytes} bytes came")
                check_batch(batch, self._device)
                batches.append(batch)
        return Received(reader.schema, batches, nbytes, CARRIED)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self, deadline_s: float) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, fl.FlightError, ValueError, OSError, KeyError) as problem:
            raise error_of_flight(problem, self._device, deadline_s) from None


def _next(reader: fl.FlightStreamReader) -> pa.RecordBatch | None:
    try:
        chunk = reader.read_chunk()
    except StopIteration:
        return None
    return chunk.data
