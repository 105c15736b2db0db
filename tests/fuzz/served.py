"""An agent in a process of its own, for hostile byte strings: `python -m fuzz.served FOLDER`.

It writes where it listens as a line of JSON, and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from fuzz.agent import TENANTS, prepare_folder, sound, station
from wherry.serve.flight import FlightListener
from wherry.serve.guard import Guard
from wherry.serve.identity import Revoked
from wherry.serve.log import Log, written_to
from wherry.serve.peer import Peer
from wherry.serve.served import Served
from wherry.serve.tenants import Tenants
from wherry.serve.unix import Limits, Listener
from wherry.statements.answering import SqlAnswers


def main(folder: Path) -> None:
    """Serve until nobody wants it any more."""
    tenants = Tenants(TENANTS.named, {}, {os.geteuid(): "sales"})
    log = Log("csd0", written_to(folder / "log"), time.time_ns)
    guard = Guard(lambda _: tenants, lambda _: Revoked(), log)
    prepared = prepare_folder()
    agent = station(prepared, log.refused)

    def known(name: str, where: str) -> Peer:
        del name, where  # Plain text on this machine: there is no certificate.
        return guard.of_uid(os.geteuid())

    unix = Listener(
        str(folder / "csd0.sock"),
        Served(guard.of_uid, agent.handle, agent.taken, guard.log.refused),
        Limits(frame_s=2.0),
    )
    flight = FlightListener(
        "grpc://127.0.0.1:0",
        Served(known, agent.handle, agent.taken, guard.log.refused),
        answers=SqlAnswers(agent),
    )
    peer = Peer("sales", f"unix uid {os.geteuid()}")
    requests, key, tickets = sound(agent, peer)
    told = {
        "unix": unix.path,
        "flight": flight.address.port,
        "key": key.hex(),
        "requests": [one.hex() for one in requests],
        "tickets": [one.hex() for one in tickets],
    }
    print(json.dumps(told), flush=True)
    try:
        while sys.stdin.readline():
            agent.sweep()
            print(json.dumps({"connections": unix.connections, "lent": unix.lent}), flush=True)
    finally:
        ended = [unix.close(), flight.stop()]
        agent.close()
        print(json.dumps({"ended": ended, "refused": log.counts().get("refused", 0)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
