"""The engines that Wherry is compared with: one file each, and one entry each here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from wherry.benchmarks.kernels.peers import arrow, datafusion, duckdb, polars
from wherry.benchmarks.kernels.peers.peer import Peer

PEERS: Final[tuple[Peer, ...]] = (duckdb.PEER, polars.PEER, datafusion.PEER, arrow.PEER)


def versions() -> dict[str, str]:
    """Give the version of every peer; "absent" for one that is not installed."""
    return {peer.package: _version(peer.package) for peer in PEERS}


def installed() -> list[Peer]:
    """Give the peers that can be asked."""
    found = versions()
    return [peer for peer in PEERS if found[peer.package] != ABSENT]


ABSENT: Final = "absent"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT
