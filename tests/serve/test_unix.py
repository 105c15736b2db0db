"""Unix sockets between two processes: nothing is copied, nothing stays, nobody gets in the way."""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.handed import all_inside, batch_of, descriptors, mapped_lines

from wherry.base.errors import CorruptError, InputError, Refused, Retryable, WherryError
from wherry.serve.connection import MAPPINGS, Connection
from wherry.serve.peer import Peer
from wherry.serve.served import Served
from wherry.serve.socket_file import connected
from wherry.serve.unix import Listener

TESTS = Path(__file__).parents[1]
HEADER = struct.Struct("<4sBBHI")


def soon(seconds=20.0):
    return time.monotonic() + seconds


def until(said, seconds=10.0):
    end = soon(seconds)
    while not said():
        assert time.monotonic() < end
        time.sleep(0.005)


class Process:
    def __init__(self, path, **limits):
        self.path = str(path)
        environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.lender", self.path, json.dumps(limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdout.readline() == b"ready\n"

    def connect(self, **more):
        return Connection(self.path, deadline=soon(), **more)

    def raw(self):
        return connected(self.path, "agent", soon())

    def tell(self):
        with self.connect() as connection:
            return told(connection)

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        return code


def told(connection):
    return json.loads(connection.ask(b"tell", soon()))


@contextlib.contextmanager
def lender(path, **limits):
    made = Process(path, **limits)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.end()


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with lender(tmp_path_factory.mktemp("agent") / "a.sock", frame_s=1.0) as made:
        yield made
        assert made.end() == 0
        assert not Path(made.path).exists()


@pytest.fixture
def connection(agent):
    with agent.connect() as made:
        yield made


def test_requests_of_all_sizes_are_answered(connection):
    for size in (0, 1, 65_523, 65_524, 65_525, 1 << 20, 5_000_001):
        assert connection.ask(b"length " + b"x" * size, soon()) == str(size).encode()
        assert connection.ask(b"echo " + b"y" * size, soon()) == b"y" * size


def test_a_piece_in_segments_is_mapped_and_not_copied(connection):
    found = connection.take(b"numbers 100000 5", soon())
    assert (found.copied_bytes, found.why) == (0, "")
    lines = mapped_lines("memfd:wherry-segment")
    assert all_inside(found.batches, [line for line in lines if line.split()[1] == "r--s"])
    assert found.batches[0]["n"].to_pylist() == list(range(5, 100_005))
    assert not found.batches[0]["n"].buffers()[1].is_mutable


def test_a_mapped_file_is_mapped_here_too(connection, tmp_path):
    path = tmp_path / "rows.arrow"
    table = pa.table({"n": np.arange(10_000)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    found = connection.take(f"file {path}".encode(), soon())
    assert (len(found.batches), found.copied_bytes) == (10, 0)
    assert all_inside(found.batches, mapped_lines(str(path)))
    assert pa.Table.from_batches(found.batches).equals(table)


def test_every_type_arrives(connection):
    found = connection.take(b"all 50", soon())
    assert found.copied_bytes > 0
    assert found.batches[0].equals(batch_of(50, nulls=0.2))


def test_errors_of_the_agent_arrive_and_the_connection_goes_on(connection):
    with pytest.raises(InputError, match=r"agent at unix:.*a.sock: no piece 'what'"):
        connection.take(b"what", soon())
    with pytest.raises(WherryError, match=r"a fault of the agent itself \(ZeroDivisionError\)"):
        connection.take(b"fault", soon())
    assert connection.ask(b"echo on", soon()) == b"on"


def test_leases_go_back_with_the_last_buffer(connection):
    before = told(connection)
    found = connection.take(b"numbers 1000 0", soon())
    other = connection.take(b"kept 3 1000", soon())
    column = found.batches[0]["n"].slice(10, 5)
    del found
    gc.collect()
    assert told(connection)["lent"] == before["lent"] + 2
    del column
    gc.collect()
    assert told(connection)["lent"] == before["lent"] + 1
    del other
    gc.collect()
    connection.ask(b"forget", soon())
    after = told(connection)
    assert (after["lent"], after["in_use"]) == (before["lent"], before["in_use"])
    assert len(MAPPINGS) == 0


def test_leases_go_back_while_the_connection_is_not_used(agent):
    with agent.connect() as connection, agent.connect() as other:
        found = [connection.take(b"numbers 10 0", soon()) for _ in range(100)]
        assert told(other)["lent"] == 100
        found.clear()
        gc.collect()
        until(lambda: told(other)["lent"] == 0)


def test_leases_go_back_after_a_request_that_was_under_way(agent):
    with agent.connect() as connection, agent.connect() as other:
        found = connection.take(b"numbers 10 0", soon())
        thread = threading.Thread(target=lambda: connection.ask(b"sleep 0.3", soon()))
        thread.start()
        time.sleep(0.1)
        del found
        gc.collect()
        thread.join()
        until(lambda: told(other)["lent"] == 0)


def test_a_connection_is_closed_from_another_thread(agent):
    connection = agent.connect()
    said = []

    def wait():
        try:
            connection.ask(b"sleep 5", soon())
        except Retryable as problem:
            said.append(str(problem))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    connection.close()
    thread.join(2)
    assert not thread.is_alive()
    assert "closed the connection" in said[0]
    assert connection.fileno() < 0
    idle = agent.connect()
    idle.close()
    assert idle.fileno() < 0


def test_memory_is_used_again_after_it_was_given_back(connection):
    for start in range(50):
        found = connection.take(f"numbers 3000 {start}".encode(), soon())
        assert found.batches[0]["n"][0].as_py() == start
        del found
    gc.collect()
    assert told(connection)["regions"] <= 4


def test_what_was_taken_stays_as_it_is_when_the_connection_ends(agent):
    connection = agent.connect()
    found = connection.take(b"numbers 4000 77", soon())
    connection.close()
    until(lambda: agent.tell()["lent"] == 0)
    with agent.connect() as other:
        for start in range(20):
            assert other.take(f"numbers 4000 {start}".encode(), soon()).batches[0].num_rows == 4000
    assert found.batches[0]["n"].to_pylist() == list(range(77, 4077))
    with pytest.raises(Retryable, match="is closed"):
        connection.ask(b"tell", soon())


def test_nothing_stays_when_an_agent_is_killed(tmp_path):
    gc.collect()  # what other tests left
    before = descriptors(), len(mapped_lines("memfd:wherry-segment"))
    with lender(tmp_path / "k.sock") as made:
        connection = made.connect()
        found = connection.take(b"numbers 4000 3", soon())
        made.process.kill()
        made.process.wait()
        with pytest.raises(Retryable, match="closed the connection"):
            connection.ask(b"tell", soon())
        assert connection.closed
        assert found.batches[0]["n"].to_pylist() == list(range(3, 4003))
        del found, connection
        gc.collect()
        with pytest.raises(Retryable, match="Connection refused"):
            made.connect()
        # The file is still there; the next agent replaces it.
        with lender(tmp_path / "k.sock") as other, other.connect() as again:
            assert again.ask(b"echo a", soon()) == b"a"
    assert (descriptors(), len(mapped_lines("memfd:wherry-segment"))) == before


def test_nothing_stays_when_a_reader_is_killed(agent):
    before = agent.tell()
    script = (
        "import sys, time; from wherry.serve.connection import Connection\n"
        "c = Connection(sys.argv[1], deadline=time.monotonic() + 20)\n"
        "found = [c.take(b'numbers 4000 1', time.monotonic() + 20) for _ in range(5)]\n"
        "print('taken', flush=True); time.sleep(100)"
    )
    reader = subprocess.Popen([sys.executable, "-c", script, agent.path], stdout=subprocess.PIPE)
    assert reader.stdout.readline() == b"taken\n"
    assert agent.tell()["lent"] == before["lent"] + 5
    reader.kill()
    reader.wait()
    reader.stdout.close()
    until(lambda: agent.tell()["lent"] == before["lent"])
    after = agent.tell()
    assert after["in_use"] <= before["in_use"]
    assert after["files"] <= before["files"]


def test_deadlines_hold_and_close_the_connection(agent):
    connection = agent.connect()
    begun = time.monotonic()
    with pytest.raises(Retryable, match="did not answer in time"):
        connection.ask(b"sleep 1.0", soon(0.1))
    assert time.monotonic() - begun < 0.9
    assert connection.closed


def test_one_selector_waits_for_many(agent):
    connections = [agent.connect() for _ in range(5)]
    with selectors.DefaultSelector() as selector:
        for number, connection in enumerate(connections):
            selector.register(connection, selectors.EVENT_READ, connection)
            connection.post(f"echo {number}".encode() * 10_000, soon())
        replies = {}
        while len(replies) < 5:
            for key, _ in selector.select(10):
                reply = key.data.receive()
                if reply is not None:
                    replies[key.data] = reply
    for number, connection in enumerate(connections):
        assert replies[connection].startswith(str(number).encode())
        connection.close()


def test_who_is_not_trusted_is_not_believed(agent):
    with pytest.raises(Refused, match=r"runs as user \d+, who is not trusted; trusted: 4321"):
        agent.connect(trusted=[4321])


def test_a_path_must_be_possible(tmp_path):
    for path in ("", "x" * 200, "a\0b"):
        with pytest.raises(InputError, match="is no socket's path"):
            Connection(path, deadline=soon())
    with pytest.raises(Retryable, match="No such file"):
        Connection(str(tmp_path / "none.sock"), deadline=soon())


def served():
    return Served(lambda uid: Peer("me", f"unix uid {uid}"), lambda request, _: request, None)


def test_the_file_is_private_and_belongs_to_one(tmp_path):
    path = tmp_path / "a.sock"
    with Listener(str(path), served()):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(InputError, match="somebody listens at"):
            Listener(str(path), served())
        with Connection(str(path), deadline=soon()) as connection:
            assert connection.ask(b"still", soon()) == b"still"
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(InputError, match="is no socket"):
        Listener(str(path), served())
    assert path.read_text() == "a file"
    with pytest.raises(InputError, match="cannot be listened at: No such file"):
        Listener(str(tmp_path / "none" / "a.sock"), served())


def test_too_many_connections_are_told_to_come_again(tmp_path):
    with lender(tmp_path / "a.sock", connections=3) as made:
        first = [made.connect() for _ in range(3)]
        for connection in first:
            connection.ask(b"echo", soon())
        further = made.connect()
        with pytest.raises(Retryable, match="the agent has 3 connections already"):
            further.ask(b"echo", soon())
        assert further.closed
        first.pop().close()
        until(lambda: told(first[0])["connections"] == 2)
        with made.connect() as again:
            assert again.ask(b"echo on", soon()) == b"on"
        for connection in first:
            connection.close()


def test_one_user_does_not_take_all_connections(tmp_path):
    with lender(tmp_path / "a.sock", connections=3, of_user=2) as made:
        first = [made.connect() for _ in range(2)]
        for connection in first:
            connection.ask(b"echo", soon())
        further = made.connect()
        with pytest.raises(Retryable, match=f"user {os.geteuid()} has 2 connections"):
            further.ask(b"echo", soon())
        for connection in first:
            connection.close()


def test_who_is_silent_is_let_go(tmp_path):
    with lender(tmp_path / "a.sock", idle_s=0.3) as made:
        connection = made.connect()
        found = connection.take(b"numbers 10 1", soon())
        until(lambda: made.tell()["lent"] == 0)
        with pytest.raises(Retryable, match="closed the connection"):
            connection.ask(b"echo", soon())
        assert found.batches[0]["n"][0].as_py() == 1


def hostile():
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield HEADER.pack(b"WHRY", 9, 0, 0, 0)
    yield HEADER.pack(b"WHRY", 1, 1, 0, 0)
    yield HEADER.pack(b"WHRY", 1, 0, 1, 0)
    yield HEADER.pack(b"WHRY", 1, 0, 0, (1 << 32) - 1)
    yield HEADER.pack(b"WHRY", 2, 0, 0, 3) + b"abc"
    yield HEADER.pack(b"WHRY", 4, 0, 0, 3) + b"abc"
    yield HEADER.pack(b"WHRY", 5, 0, 0, 3) + b"abc"
    yield HEADER.pack(b"WHRY", 5, 0, 0, 8) + b"\xff" * 8 + b"junk and more of it"


@pytest.mark.parametrize("data", list(hostile()))
def test_hostile_bytes_end_only_their_own_connection(agent, data):
    with agent.raw() as sock:
        sock.sendall(data)
        sock.settimeout(10)
        answer = sock.recv(1 << 16)
        assert answer[:5] == b"WHRY\x06"
        assert sock.recv(1 << 16) == b""
    with agent.connect() as connection:
        assert connection.ask(b"echo on", soon()) == b"on"


def test_slow_and_half_open_peers_are_let_go(agent):
    before = agent.tell()
    socks = [agent.raw() for _ in range(4)]
    socks[0].sendall(b"WHRY")  # half a header, then nothing
    socks[1].sendall(HEADER.pack(b"WHRY", 1, 0, 0, 1000) + b"x")
    socks[2].sendall(HEADER.pack(b"WHRY", 1, 0, 0, 5_000_005) + b"echo " + b"x" * 5_000_000)
    socks[3].sendall(HEADER.pack(b"WHRY", 1, 0, 0, 1000))
    socks[3].shutdown(socket.SHUT_WR)
    # frame_s is one second: all four are gone then, the third because it takes no reply.
    until(lambda: agent.tell()["connections"] <= before["connections"])
    for sock in socks:
        sock.close()
    until(lambda: agent.tell()["threads"] <= before["threads"])


def test_descriptors_that_a_peer_sends_are_thrown_away(agent):
    before = agent.tell()["files"]
    with agent.raw() as sock:
        ends = os.pipe()
        for _ in range(20):
            frame = HEADER.pack(b"WHRY", 1, 0, 0, 6) + b"echo x"
            socket.send_fds(sock, [frame], [*ends] * 100)
            assert sock.recv(100)[-1:] == b"x"
        with agent.connect() as other:
            assert told(other)["files"] <= before + 2
        for end in ends:
            os.close(end)


def test_agents_that_lie_are_not_believed(tmp_path):
    """An agent sends replies of all kinds with descriptors that nobody asked for."""
    gc.collect()
    path = str(tmp_path / "liar.sock")
    liar = socket.socket(socket.AF_UNIX)
    liar.bind(path)
    liar.listen()
    gc.collect()  # what other tests left
    before = descriptors()
    frames = [
        (HEADER.pack(b"WHRY", 2, 0, 0, 1) + b"x", 1),
        (HEADER.pack(b"WHRY", 2, 0, 2, 1) + b"x", 2),
        (HEADER.pack(b"WHRY", 2, 0, 3, 1) + b"x", 2),
        (HEADER.pack(b"WHRY", 4, 0, 1, 1) + b"x", 1),
        (HEADER.pack(b"WHRY", 4, 0, 1, 9) + b"x" * 9, 1),
        (HEADER.pack(b"WHRY", 6, 0, 1, 1) + b"x", 1),
        (HEADER.pack(b"WHRY", 1, 0, 0, 1) + b"x", 0),
        (b"not a frame at all", 3),
    ]
    for act in (lambda c: c.ask(b"q", soon()), lambda c: c.take(b"t", soon())):
        for frame, count in frames:
            connection = Connection(path, deadline=soon())
            other, _ = liar.accept()
            socket.send_fds(other, [frame], [liar.fileno()] * count)
            with pytest.raises(CorruptError):
                act(connection)
            assert connection.closed
            other.close()
    gc.collect()
    assert descriptors() == before
    liar.close()


def test_many_descriptors_go_in_groups(tmp_path):
    """A piece of 1400 segments, more than the kernel takes at once."""
    with lender(tmp_path / "a.sock") as made, made.connect() as connection:
        found = connection.take(b"kept 700 5000", soon(60))
        assert found.copied_bytes == 0
        firsts = [batch["n"][0].as_py() for batch in found.batches]
        assert firsts == list(range(700))
        assert len(MAPPINGS) == 1400
        del found
        gc.collect()
        assert len(MAPPINGS) == 0


def test_ctrl_c_and_a_fork_leave_nothing(tmp_path):
    path = tmp_path / "a.sock"
    script = (
        "import os, sys, time\n"
        "from wherry.serve.served import Served\n"
        "from wherry.serve.unix import Listener\n"
        "from wherry.serve.peer import Peer\n"
        "listener = Listener(sys.argv[1], Served(lambda u: Peer('', ''), lambda r, p: r, None))\n"
        "child = os.fork()\n"
        "if not child: time.sleep(100)\n"
        "print(child, flush=True)\n"
        "time.sleep(100)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    child = int(process.stdout.readline())
    connection = Connection(str(path), deadline=soon())
    assert connection.ask(b"a", soon()) == b"a"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert not path.exists()
    with pytest.raises(Retryable):
        connection.ask(b"a", soon())
    os.kill(child, signal.SIGKILL)
    process.stdout.close()


def test_a_forked_caller_leaves_the_connection_to_its_parent(agent):
    connection = agent.connect()
    found = connection.take(b"numbers 100 1", soon())
    child = os.fork()
    if not child:
        good = connection.closed and found.batches[0]["n"][0].as_py() == 1
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert connection.ask(b"echo on", soon()) == b"on"
    connection.close()
