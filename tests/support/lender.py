"""An agent's end of a Unix socket in a process of its own: `python -m support.lender PATH`.

Tickets say what to give; requests say what to do or tell. `numbers ROWS START` is in segments,
`all ROWS` in other memory, `file PATH` mapped.
"""

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
from support.handed import batch_of, descriptors, mapped_lines, numbers

from wherry.base.errors import InputError, Refused
from wherry.data.mapping import map_file
from wherry.data.segment import SegmentPool
from wherry.serve.peer import Peer
from wherry.serve.served import Served, Taken
from wherry.serve.unix import Limits, Listener


class Lender:
    """What the process does."""

    def __init__(self) -> None:
        self.pool = SegmentPool(cap=1 << 30, region_bytes=1 << 16)
        self.listener: Listener | None = None
        self.kept: dict[bytes, tuple[pa.RecordBatch, ...]] = {}

    def peer(self, uid: int) -> Peer:
        if uid != os.getuid():
            raise Refused(f"user {uid} is nobody's")
        return Peer("me", f"unix uid {uid}")

    def taken(self, ticket: bytes, peer: Peer) -> Taken:
        what, *rest = ticket.decode().split(" ")
        if what == "numbers":
            rows, start = map(int, rest)
            batches = (numbers(self.pool, rows, start),)
        elif what == "kept":
            if ticket not in self.kept:
                self.kept[ticket] = tuple(
                    numbers(self.pool, int(rest[1]), n) for n in range(int(rest[0]))
                )
            batches = self.kept[ticket]
        elif what == "all":
            batches = (batch_of(int(rest[0]), nulls=0.2),)
        elif what == "fault":
            raise ZeroDivisionError
        elif what == "file":
            reader = pa.ipc.open_file(map_file(Path(rest[0])).buffer)
            batches = tuple(reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            raise InputError(f"no piece {what!r}")
        return Taken(batches[0].schema, batches, self.pool)

    def handle(self, request: bytes, peer: Peer) -> bytes:
        assert peer.tenant == "me"
        what, _, rest = request.partition(b" ")
        if what == b"sleep":
            time.sleep(float(rest))
        elif what == b"length":
            return str(len(rest)).encode()
        elif what == b"echo":
            return rest
        elif what == b"forget":
            self.kept.clear()
        elif what == b"tell":
            return json.dumps(self.state()).encode()
        return b"done"

    def state(self) -> dict[str, int]:
        gc.collect()
        assert self.listener is not None
        return {
            "pid": os.getpid(),
            "lent": self.listener.lent,
            "connections": self.listener.connections,
            "in_use": self.pool.bytes_in_use,
            "regions": self.pool.regions,
            "files": descriptors(),
            "mapped": len(mapped_lines("memfd:wherry-segment")),
            "threads": threading.active_count(),
        }


def main() -> None:
    path, limits = sys.argv[1], Limits(**json.loads(sys.argv[2]))
    lender = Lender()
    served = Served(lender.peer, lender.handle, lender.taken)
    with Listener(path, served, limits) as lender.listener:
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
