"""Hostile bytes for the messages of continuations: CorruptError, or nothing: no import, no growth.

    python -m fuzz.messages --cases 10000000 --seed 1

Half of the damaged messages are sealed again with the right key, so that what reads them behind the
seal is tried too. Each is read, and handed to a node of each kind in the middle of its work.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import struct
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import msgspec

from wherry.base.errors import CorruptError
from wherry.run import control, message
from wherry.run.delivery import Executed, Kept, Received, Submit, go, park
from wherry.run.message import REFERS, RUN, Message, budget
from wherry.run.protocol import Node
from wherry.run.records import Code

KEY = b"fuzz".ljust(32, b"k")
PROGRAM = b"p" * 16
GROWTH = 64 << 20
"""How many bytes more than at its start a process may need."""
_FIELDS = (0, 4, 5, 6, 7, 8, 12, 28, 32, 48, 50, 51, 52, 60, 64, 80, 88, 89, 90, 91, 92, 96, 100)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20)


def sound() -> list[bytes]:
    """Give messages of every kind that are as they should be."""
    ids = [bytes([n]) * 16 for n in range(1, 4)]
    carried = [
        Message(id_, kind, 1, hop, PROGRAM, 2, home, "tenant", bytes(hop), b"operand")
        for id_ in ids
        for kind in range(1, 7)
        for hop, home in ((1, "home"), (3, "other"))
    ]
    carried.append(
        Message(
            ids[0], RUN, 1, 5, PROGRAM, 2, "home", budget=budget(rows=7, hops=9, money_micro=-1)
        )
    )
    data = [message.freeze(m, KEY) for m in carried]
    said = []
    for id_ in ids:
        said += [
            control.Taken(id_, 1, 1), control.Noted(id_, 1, 1, 1), control.Alive(id_, 1, 1),
            control.Fenced(id_, 2), control.Renew(id_, 10**9), control.Forget(id_),
            control.Forgotten(id_), control.Need(PROGRAM), control.Ship(PROGRAM, b"code"),
            control.Passed(id_, 1, 1, 1, "csd", "tenant", b"receipt", data[2], leased=True),
        ]  # fmt: skip
    return data + [control.freeze(one, KEY) for one in said]


def damaged(data: bytes, r: random.Random) -> bytes:
    """Give a message with some of its fields, lengths or bytes changed."""
    bad = bytearray(data)
    for _ in range(r.randint(1, 3)):
        how = r.randrange(7)
        at = r.randrange(len(bad)) if bad else 0
        if how == 0 and bad:
            bad[at] ^= 1 << r.randrange(8)
        elif how == 1:
            bad = bad[:at]
        elif how == 2:
            bad[at:at] = r.randbytes(r.randint(1, 40))
        elif how == 3 and len(bad) > 104:
            at = r.choice(_FIELDS)
            bad[at : at + 4] = struct.pack("<I", r.choice(_EXTREMES))
        elif how == 4:
            bad[at : at + r.randint(1, 30)] = b""
        elif how == 5 and len(bad) > 24:
            bad[6:-16] = msgspec.msgpack.encode(_nonsense(r, 3))
        elif bad:
            bad[at] = r.choice((0, 0x7F, 0x80, 0x90, 0xC4, 0xC6, 0xD9, 0xDD, 0xDF, 0xFF))
    if r.random() < 0.5 and len(bad) > 16:
        bad[-16:] = message.sealed(bytes(bad[:-16]), KEY)
    return bytes(bad)


def _nonsense(r: random.Random, depth: int) -> object:
    """Give something that MessagePack can say and a control message may not."""
    kinds = [
        lambda: r.choice((0, -1, 2**31, 2**63 - 1, -(2**63), 1.5, None, True)),
        lambda: r.randbytes(r.randint(0, 40)),
        lambda: "x" * r.randint(0, 100),
    ]
    if depth:
        kinds.append(lambda: [_nonsense(r, depth - 1) for _ in range(r.randint(0, 6))])
        kinds.append(lambda: [r.randint(0, 12), *(_nonsense(r, depth - 1) for _ in range(4))])
        kinds.append(lambda: {str(n): _nonsense(r, depth - 1) for n in range(r.randint(0, 3))})
    return r.choice(kinds)()


def nodes() -> list[Node]:
    """Give a home and a visited node that have something to do for each id."""
    home = Node("home", KEY, 1, owns=True)
    visited = Node("csd", KEY, 2)
    code = Code(PROGRAM, "program", b"code")
    visited.programs[PROGRAM] = b"code"
    for n, outcome in enumerate(
        (go("csd", 2, b"frame"), go("csd", 2, b"f", flags=REFERS), park(3, b"", event="go")), 1
    ):
        m = Message(bytes([n]) * 16, RUN, 1, 0, PROGRAM, 0, "home", "tenant")
        home.handle(Submit(m, code), 0, 0)
        home.handle(Executed(m, outcome), 0, 0)
        m = Message(bytes([n]) * 16, RUN, 1, 1, PROGRAM, 2, "home", "tenant", b"frame")
        visited.handle(Received("home", message.freeze(m, KEY)), 0, 0)
        if n > 1:
            left = go("gpu", 4, b"f", receipt=b"r", kept=(Kept(b"rows"),))
            visited.handle(Executed(m, left), 0, 0)
    return [home, visited]


def tried(seed: int, cases: int) -> str:
    """Try so many cases; give what went wrong, or nothing."""
    r = random.Random(seed)
    whole = sound()
    here = nodes()
    known = set(sys.modules)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(cases):
        if case % 200 == 199:
            here = nodes()
        data = damaged(r.choice(whole), r)
        for read in (message.thaw, control.thaw):
            try:
                read(data, KEY)
            except CorruptError:
                pass
            except Exception as problem:  # noqa: BLE001
                return f"seed {seed}, case {case}: {read.__module__} raised {problem!r}"
        for node in here:
            try:
                node.handle(Received("gpu", data), case, case, case % 1024)
            except CorruptError:
                pass
            except Exception as problem:  # noqa: BLE001
                return f"seed {seed}, case {case}: {node.name} raised {problem!r} for {data!r}"
    if set(sys.modules) != known:
        return f"seed {seed}: imported {sorted(set(sys.modules) - known)}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return f"seed {seed}: grew by {grown} bytes" if grown > GROWTH else ""


def main(arguments: list[str] | None = None) -> int:
    """Try cases on all cores; give 0 when none of them went wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.messages", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    part = 10_000
    begun = time.monotonic()
    seeds = [options.seed * 1_000_000 + n for n in range(-(-options.cases // part))]
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        found = [x for x in pool.map(tried, seeds, [min(part, options.cases)] * len(seeds)) if x]
    print(*found[:10], sep="\n", end="\n" if found else "")
    rate = options.cases / (time.monotonic() - begun)
    print(f"{options.cases:,} hostile messages, {len(found)} found, {rate:,.0f}/s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
