"""Threads that decode to a type which none has decoded to before."""

import subprocess
import sys

RACE = """
import sys, threading, msgspec
from wherry.base.decoders import converted
sys.setswitchinterval(1e-6)
for _ in range(100):
    fields = {f"f{n}": int for n in range(40)}
    inner = msgspec.defstruct("Inner", [(name, t, 0) for name, t in fields.items()])
    outer = msgspec.defstruct("Outer", [("a", inner), ("b", inner)])
    barrier = threading.Barrier(4)
    def convert():
        barrier.wait()
        converted({"a": {"f1": 1}, "b": {"f2": 2}}, outer)
    threads = [threading.Thread(target=convert) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("lives")
"""


def test_threads_that_convert_to_a_new_type_do_not_end_the_process():
    done = subprocess.run(
        [sys.executable, "-c", RACE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "lives", done.stderr[-500:]
