"""Read from Wherry's agents with pyarrow alone: Wherry is not imported, nor need it be installed.

    python read_with_plain_flight.py
    python read_with_plain_flight.py grpc://127.0.0.1:7000 --sql "SELECT count(*) AS n FROM orders"
    python read_with_plain_flight.py grpc+tls://csd0:7000 --keys FOLDER --sql "..."

Any client of Arrow Flight can do the same: ask where an answer is, then fetch each part from the
agent that made it. FOLDER holds ca.pem, cert.pem and key.pem, as `wherry keys issue` writes them.
Without an address two drives and a DPU are started on this machine, for as long as this runs.
"""

import argparse
from pathlib import Path

import pyarrow as pa
from pyarrow import flight

ROWS_SHOWN = 20
SHOWN = "SELECT city, temperature FROM weather WHERE temperature > 44.9"


def main() -> None:
    """List the datasets of an agent; with --sql, fetch an answer part by part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "address", nargs="?", help="grpc+tls://HOST:PORT or grpc://127.0.0.1:PORT; else a show"
    )
    parser.add_argument("--sql", help="a SELECT; without it, datasets are listed and that is all")
    parser.add_argument("--keys", type=Path, help="folder with ca.pem, cert.pem, key.pem")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each call")
    asked = parser.parse_args()
    if asked.address is not None:
        show(asked)
        return
    from agents_for_show import agents  # noqa: PLC0415  beside this file, for the show alone

    with agents() as asked.address:
        asked.sql = asked.sql or SHOWN
        print(f"{asked.address}: {asked.sql}")
        show(asked)


def show(asked: argparse.Namespace) -> None:
    """Show what an agent has, and the answer that was asked for."""
    limit = flight.FlightCallOptions(timeout=asked.timeout)
    with connected(asked.address, asked.keys) as agent:
        for info in agent.list_flights(options=limit):
            name = b"/".join(info.descriptor.path).decode()
            print(f"{name}: {info.total_records} rows, {info.total_bytes} bytes")
        if asked.sql is None:
            return
        info = agent.get_flight_info(flight.FlightDescriptor.for_command(asked.sql), limit)
        parts = [fetched(agent, part, asked.keys, limit) for part in info.endpoints]
    answer = pa.concat_tables([info.schema.empty_table(), *parts])
    print(f"answer: {answer.num_rows} rows in {len(parts)} parts")
    print(*answer.column_names, sep="\t")
    for row in answer.slice(0, ROWS_SHOWN).to_pylist():
        print(*row.values(), sep="\t")


def connected(address: str, keys: Path | None) -> flight.FlightClient:
    """Give a client; with keys, both sides check each other's certificate."""
    if keys is None:
        return flight.connect(address)
    return flight.connect(
        address,
        tls_root_certs=(keys / "ca.pem").read_bytes(),
        cert_chain=(keys / "cert.pem").read_bytes(),
        private_key=(keys / "key.pem").read_bytes(),
    )


def fetched(
    agent: flight.FlightClient,
    part: flight.FlightEndpoint,
    keys: Path | None,
    limit: flight.FlightCallOptions,
) -> pa.Table:
    """Give the rows of one part, from the agent that has them."""
    if not part.locations:
        table = agent.do_get(part.ticket, limit).read_all()
        print(f"{table.num_rows} rows from the agent that was asked")
        return table
    address = part.locations[0].uri.decode()
    with connected(address, keys) as other:
        table = other.do_get(part.ticket, limit).read_all()
        print(f"{table.num_rows} rows from {address}")
        return table


if __name__ == "__main__":
    main()
