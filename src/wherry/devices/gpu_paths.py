"""Which ways lead from a file into a GPU's memory on this machine, and why the others do not.

Asking means to load the driver and libraries of others. Some of them spin for ever where the driver
is missing, or close what is not theirs where a container is configured by half, so they are asked
in a child process that is given a time limit, a folder of its own and no input.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from wherry.devices.found import Found
from wherry.devices.proc import ROOT, cuda_node, no_cuda_node

WAYS = {
    "pinned": "pinned: registered memory of the host",
    "kvikio": "kvikio: its own copies",
    "gds": "gds: GPUDirect Storage, by kvikio",
}
"""What readers are called (`devices/device_readers.py`), and what they lead through."""

_CHILD = Path(__file__).with_name("gpu_child.py")
_SECONDS = 20.0
"""Creating a context takes 0.5 s on a host with one GPU and several with eight."""


class _Line(msgspec.Struct):
    name: str
    present: bool | None = None
    detail: str = ""


def gpu_paths(root: Path = ROOT, seconds: float = _SECONDS) -> dict[str, Found]:
    """Give every way of `WAYS`; no child is started where the system has no device.

    Parameters
    ----------
    root : Path
        The file system whose /dev is looked at.
    seconds : float
        How long the child may take for all of them.
    """
    if cuda_node(root) is None:
        return dict.fromkeys(WAYS, Found(present=False, detail=no_cuda_node(root)))
    said, ended = _asked(seconds)
    lines = list(_lines(said))
    answers = {
        line.name: Found(line.present, line.detail) for line in lines if line.present is not None
    }
    last = lines[-1].name if lines else "the child process"
    return {name: _way(name, answers, f"{last}: {ended}") for name in WAYS}


def _lines(said: bytes) -> Iterator[_Line]:
    """Give what the child said; libraries that it loads may say something of their own."""
    for line in said.splitlines():
        with suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=_Line)


_NEEDED = {"pinned": ("driver",), "kvikio": ("driver",), "gds": ("driver", "kvikio")}
"""What is asked about before a way, and has to be there."""


def _way(name: str, answers: Mapping[str, Found], otherwise: str) -> Found:
    if name in answers:
        return answers[name]
    for needed in _NEEDED[name]:
        if needed in answers and not answers[needed].present:
            return Found(present=False, detail=f"{needed}: {answers[needed].detail}")
    return Found(present=False, detail=otherwise)


def _asked(seconds: float) -> tuple[bytes, str]:
    """Give what the child said, and how it ended."""
    with TemporaryDirectory(prefix="wherry-gpu-") as folder:  # cuFile writes a log where it is
        said = Path(folder) / "said"
        with said.open("wb") as out:
            child = subprocess.Popen(  # noqa: S603  a file of ours, and nothing from outside
                [sys.executable, "-P", str(_CHILD)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            # One that the kernel does not let go of ends when it does; nobody waits for it.
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)
            return said.read_bytes(), f"no answer in {seconds:g} s"
        return said.read_bytes(), f"ended with code {code}"
