"""A process that queries a file within an allowance of memory, and says what it used: a script.

    python allowance.py FILE ALLOWED_BYTES

What counts is allocated memory: anonymous pages and shared ones without a file (RssAnon and
RssShmem; the segments that results are written to are memfds). Pages of the mapped input are the
page cache's and go when memory is short, so they are left out. A thread of the parent's samples;
besides, RLIMIT_DATA bounds private memory, so that an allocation beyond it fails at once.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

import wherry
from wherry import Pipeline, col, count

QUERIES = {
    "filter": lambda q: q.filter(col("q") < 5).select(double=col("p") * 2.0, word="word"),
    "agg": lambda q: q.filter(col("q") < 50).agg(total=(col("p") * 2.0).sum(), n=count()),
    "groups": lambda q: q.group_by("k").agg(n=count(), total=col("p").sum()),
}
OUTPUT_SHARE = 1.2


def allocated(pid: int | str) -> int:
    """Give the bytes of anonymous and shared memory that a process has now."""
    return _status(pid, "RssAnon") + _status(pid, "RssShmem")


def _status(pid: int | str, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found[name].split()[0]) << 10


def _answers(file: str) -> Iterator[tuple[str, int, int]]:
    """Run every query as a table and as a stream; give rows, and the bytes held of the answer."""
    for name, query in QUERIES.items():
        pipeline: Pipeline = query(wherry.scan(file))
        answer = pipeline.collect()
        yield name, answer.num_rows, answer.nbytes
        del answer
        rows, largest = 0, 0
        for batch in pipeline.stream():
            rows, largest = rows + batch.num_rows, max(largest, batch.nbytes)
        yield f"{name}, streamed", rows, largest


def main(file: str, allowed: int) -> None:
    """Get ready, say so, run the queries when told, and say what came out."""
    few = {"k": [1] * 100, "q": [1] * 100, "p": [1.0] * 100, "word": ["a"] * 100}
    small = pa.table(few).cast(
        pa.schema({"k": pa.int64(), "q": pa.int64(), "p": pa.float64(), "word": pa.string_view()})
    )
    for query in QUERIES.values():
        query(wherry.scan(small)).collect()
    print("ready", flush=True)
    sys.stdin.readline()
    # Room for the answer is not part of the allowance; the longest one is a twentieth.
    room = int(_status("self", "VmData") + allowed + OUTPUT_SHARE * 10 * allowed / 20)
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    print(json.dumps(list(_answers(file))), flush=True)
    sys.stdin.readline()


def watched(file: Path, allowed: int) -> tuple[int, int, list[tuple[str, int, int]]]:
    """Run this script; give its memory before, at its peak (sampled each ms), and its answers."""
    words = [sys.executable, __file__, str(file), str(allowed)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before, found, done = allocated(child.pid), [0], threading.Event()

        def sample() -> None:
            while not done.is_set():
                found.append(allocated(child.pid))
                time.sleep(0.001)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            print(file=child.stdin, flush=True)
            told = child.stdout.readline()
        finally:
            done.set()
            sampler.join()
        print(file=child.stdin, flush=True)
    assert child.returncode == 0, "the child ended early; its error is above"
    return before, max(found), json.loads(told)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
