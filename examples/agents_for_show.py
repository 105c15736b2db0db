"""Two drives with rows and a DPU that answers SQL: processes that go when they are not needed.

The host is far away on purpose: rows are filtered on the drives, and fetched from there.
"""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pyarrow as pa
from pyarrow import feather

ROWS = 200_000
DEVICES = {"csd0": "newport", "csd1": "newport", "dpu0": "bluefield-3"}
SYSTEM = """
[system]
name = "show"
title = "Two drives and a DPU, far from a host"
host = "host0"
client = "host0"

[[device]]
name = "host0"
profile = "sapphire-rapids"
"""
DEVICE = """
[[device]]
name = "{name}"
profile = "{profile}"
agent = "grpc://127.0.0.1:{port}"

[[link]]
ends = ["{name}", "host0"]
bandwidth_gb_per_s = {{ value = 0.001, source = "estimate: a bad line, from 10 Mbit/s" }}
latency_us = {{ value = 100.0, source = "estimate: one way, from a round trip of 200 us" }}
duplex = "full"
"""


@contextmanager
def agents() -> Iterator[str]:
    """Start the agents; give the address of the DPU, which answers SQL from all of them."""
    ports = dict(zip(DEVICES, free_ports(len(DEVICES)), strict=True))
    with tempfile.TemporaryDirectory() as made, ExitStack() as running:
        folder = Path(made)
        file = folder / "show.toml"
        entries = [
            DEVICE.format(name=name, profile=DEVICES[name], port=port)
            for name, port in ports.items()
        ]
        file.write_text("".join((SYSTEM, *entries)))
        for number, (name, port) in enumerate(ports.items()):
            own = ["--system", str(file)] if name == "dpu0" else ["--data", str(folder / name)]
            if name != "dpu0":
                write_rows(folder / name / "weather", number)
            running.enter_context(agent(name, f"grpc://127.0.0.1:{port}", own))
        yield f"grpc://127.0.0.1:{ports['dpu0']}"


@contextmanager
def agent(name: str, address: str, own: list[str]) -> Iterator[None]:
    """Run an agent until it is not needed any more; wait until it listens."""
    words = ["--name", name, "--profile", DEVICES[name], "--listen", address, *own]
    command = [sys.executable, "-m", "wherry", "agent", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own
        try:
            assert process.stdout is not None
            print(process.stdout.readline().strip() or f"agent {name} did not start")
            yield
        finally:
            process.terminate()


def free_ports(count: int) -> list[int]:
    """Give ports that nobody listens at."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def write_rows(folder: Path, seed: int) -> None:
    """Write one file of the dataset: what thermometers showed."""
    folder.mkdir(parents=True)
    random = Random(seed)  # noqa: S311  weather
    rows = {
        "city": [f"city {random.randrange(500)}" for _ in range(ROWS)],
        "temperature": [random.uniform(-20, 45) for _ in range(ROWS)],
    }
    part = folder / f"part-{seed}.arrow"
    feather.write_feather(pa.table(rows), part, compression="uncompressed")
