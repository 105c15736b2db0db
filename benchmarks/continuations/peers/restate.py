"""The Restate server from its npm package, and a service of its SDK, over loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from wherry.base.errors import WherryError
from wherry.benchmarks.continuations.peers.install import installed

_PATIENCE_S: Final = 30.0
_PACKAGES: Final = ("@restatedev/restate-server", "@restatedev/restate-sdk")
_SERVICE: Final = """
import * as restate from "@restatedev/restate-sdk";
Promise.withResolvers ??= function () {  // node below 22 lacks it
  let resolve, reject;
  const promise = new Promise((yes, no) => { resolve = yes; reject = no; });
  return { promise, resolve, reject };
};
const chain = restate.service({ name: "chain", handlers: { run: async (ctx, steps) => {
  let x = 0;
  const times = [];
  for (let i = 0; i < steps; i++) {
    const begun = process.hrtime.bigint();
    x = await ctx.run("add", () => x + 1);
    times.push(Number(process.hrtime.bigint() - begun) / 1e3);
  }
  return { x, times };
} } });
restate.serve({ services: [chain], port: Number(process.argv[2]) });
"""


def step_us(folder: Path, packages: Path, steps: int) -> list[float]:
    """Give the times of steps as the service sees them; the first use installs server and SDK."""
    own = installed(packages / "restate", ["npm", "install", "--no-fund", "--no-audit", *_PACKAGES])
    (own / "service.mjs").write_text(_SERVICE)
    ports = [_free_port() for _ in range(4)]
    with _running(own, folder, ports):
        admin, ingress, _, service = (f"http://127.0.0.1:{port}" for port in ports)
        _asked(f"{admin}/deployments", {"uri": service})
        _asked(f"{ingress}/chain/run", 5)
        found = _asked(f"{ingress}/chain/run", steps)
    if found["x"] != steps:
        raise WherryError(f"Restate counted {found['x']} steps of {steps}")
    times: list[float] = found["times"]
    return times


@contextmanager
def _running(own: Path, folder: Path, ports: list[int]) -> Iterator[None]:
    admin, ingress, node, service = ports
    servers = sorted(own.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not servers:
        raise WherryError("its npm package has no server for this machine")
    settings = {
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "warn",
    }
    commands: list[list[str]] = [
        [str(servers[0]), "--base-dir", str(folder), "--no-logo"],
        ["node", "service.mjs", str(service)],
    ]
    with ExitStack() as stack:
        for command in commands:
            child = subprocess.Popen(
                command,
                cwd=own,
                env={**os.environ, **settings},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_ended, child)
        yield


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _asked(url: str, body: Any) -> Any:
    """Give an answer, once the server and what it needs are up."""
    image = json.dumps(body).encode()
    request = urllib.request.Request(url, image, {"content-type": "application/json"})  # noqa: S310
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
                return json.load(answer)
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > until:
                raise WherryError(f"Restate does not answer: {error}") from None
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
