"""Stands in for agents until there are any: reads, filters and hands over, over JSON lines."""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

import wherry as wh
from chaos import caller, data
from wherry import Retryable

PLANT = os.environ.get("CHAOS_PLANT", "")
LEASE_S = 2.0
leases: dict[int, tuple[float, object]] = {}
lock = threading.Lock()
held: list[object] = []


def _listen(address):
    if address.startswith("unix:"):
        path = address[5:]
        if os.path.exists(path):
            os.unlink(path)
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        s.listen(64)
        return s
    host, port = address.rpartition("/")[2].split(":")
    return socket.create_server((host, int(port)), reuse_port=True)


def agent(name, address, folder):
    paths = sorted(Path(folder).glob("*/*.arrow"))
    rows = wh.scan(paths).collect() if paths else None
    listener = _listen(address)
    unix = address.startswith("unix:")

    def stop(*_):
        if unix and PLANT != "socket file":
            os.unlink(address[5:])
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)

    def sweep():
        while True:
            time.sleep(0.1)
            with lock:
                for key in [k for k, (end, _) in leases.items() if end < time.monotonic()]:
                    if PLANT != "lease":
                        leases.pop(key)

    threading.Thread(target=sweep, daemon=True).start()
    shared = os.memfd_create("wherry-segment", os.MFD_CLOEXEC)
    while True:
        connection, _ = listener.accept()
        connection.settimeout(10)
        threading.Thread(target=_serve, args=(connection, rows, unix, shared), daemon=True).start()


def _serve(connection, rows, unix, shared):
    mine = []
    try:
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                asked = json.loads(line)
                if "health" in asked:
                    with lock:
                        connection.sendall((json.dumps({"leases": len(leases)}) + "\n").encode())
                elif "return" in asked:
                    with lock:
                        leases.pop(asked["return"], None)
                else:
                    body = data.to_stream(rows)
                    if PLANT == "lose" and time.time_ns() % 5 == 0:
                        body = data.to_stream(rows.slice(1))
                    head = {"id": asked["id"], "size": len(body)}
                    if not unix:
                        connection.sendall((json.dumps(head) + "\n").encode() + body)
                        continue
                    fd = shared if PLANT == "reuse" else os.memfd_create("wherry-segment")
                    os.ftruncate(fd, max(len(body), os.fstat(fd).st_size))
                    if PLANT == "reuse":
                        os.pwrite(fd, bytes(len(body)), 0)
                    os.pwrite(fd, body, 0)
                    read = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
                    head["lease"] = key = time.monotonic_ns()
                    with lock:
                        leases[key] = (time.monotonic() + LEASE_S, None)
                    mine.append(key)
                    socket.send_fds(connection, [(json.dumps(head) + "\n").encode()], [read])
                    os.close(read)
                    if fd != shared:
                        os.close(fd)
    except OSError:
        pass
    finally:
        with lock:
            for key in mine:
                leases.pop(key, None)


def ask_one(number, address, query, deadline):
    where = f"csd{number}, hop 1"
    try:
        left = max(deadline - time.monotonic(), 0.01)
        if address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(left)
            s.connect(address[5:])
        else:
            host, port = address.rpartition("/")[2].split(":")
            s = socket.create_connection((host, int(port)), left)
        with s:
            s.sendall((json.dumps({"ask": query, "id": 1}) + "\n").encode())
            s.settimeout(None if PLANT == "hang" else max(deadline - time.monotonic(), 0.01))
            if address.startswith("unix:"):
                said, fds, _, _ = socket.recv_fds(s, 65536, 1)
                if not said:
                    raise OSError("connection closed")
                head = json.loads(said)
                memory = mmap.mmap(fds[0], 0, prot=mmap.PROT_READ)
                os.close(fds[0])
                if PLANT == "mapping":
                    held.append(memory)
                table = ipc.open_stream(pa.py_buffer(memory)).read_all()
                s.sendall((json.dumps({"return": head["lease"]}) + "\n").encode())
                return table
            with s.makefile("rb") as f:
                head = json.loads(f.readline())
                body = f.read(head["size"])
                if len(body) < head["size"]:
                    raise OSError("connection closed")
            return ipc.open_stream(body).read_all()
    except (OSError, ValueError) as problem:
        text = "it failed" if PLANT == "unnamed" else f"{where}: {problem!r}"
        raise Retryable(text) from None


def main():
    faulthandler.register(signal.SIGUSR1)
    what, name, *rest = sys.argv[1:]
    if what == "agent":
        agent(name, *rest)

    def ask(query, deadline_s):
        deadline = time.monotonic() + deadline_s
        parts = [ask_one(i, a, query, deadline) for i, a in enumerate(rest)]
        if PLANT == "twice":
            parts.append(parts[0].slice(0, 1))
        table = pa.concat_tables(parts)
        return data.pipeline(query, wh.scan(table)).collect()

    caller.serve(ask)


main()
