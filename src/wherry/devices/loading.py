"""What is loaded into a device's memory, by whom, and which way every byte took.

Bytes come from ranges of a file, or of this process's memory, and go to addresses of a device. A
reader begins to load and says when that is over; meanwhile the device may compute.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from wherry.data.extents import Extents
from wherry.data.ipc_footer import File
from wherry.devices.accelerator import Event

Ints = npt.NDArray[np.int64]

WAYS: Final = ("gds", "direct", "cached", "staged", "registered")
"""The ways that bytes take; see `Evidence`."""


class FileRanges(Struct, frozen=True, eq=False):
    """Ranges of a file, and where they go; int64 arrays [n].

    Attributes
    ----------
    file : File
        It may be closed once loading has begun.
    extents : Extents
        What is read of it, and where that would lie in an arena.
    places : int64 array
        Where in the arena each range begins; `plan_extents` gives it.
    sizes : int64 array
        Bytes.
    targets : int64 array
        Addresses of the device. No two ranges go to the same place.
    """

    file: File
    extents: Extents
    places: Ints
    sizes: Ints
    targets: Ints


class HostRanges(Struct, frozen=True, eq=False):
    """Ranges of this process's memory, and where they go; int64 arrays [n].

    Attributes
    ----------
    addresses : int64 array
        What lies there stays until it is loaded.
    sizes : int64 array
        Bytes.
    targets : int64 array
        Addresses of the device. No two ranges go to the same place.
    """

    addresses: Ints
    sizes: Ints
    targets: Ints


class Evidence(Struct, frozen=True):
    """Bytes by the way they took; of files, those read, which are whole pages.

    Attributes
    ----------
    gds : int
        From the drive to the device, by cuFile.
    direct : int
        From the drive to registered memory, past the page cache, and from there.
    cached : int
        Through the page cache, copied to registered memory, and from there.
    staged : int
        From this process's memory, copied to registered memory, and from there.
    registered : int
        From this process's memory, which the device read by itself.
    why : str
        Why not all took the way that was asked for; "" if they did.
    """

    gds: int = 0
    direct: int = 0
    cached: int = 0
    staged: int = 0
    registered: int = 0
    why: str = ""

    def __add__(self, other: Evidence) -> Evidence:
        """Give the evidence of two loads; of reasons the first."""
        return Evidence(
            self.gds + other.gds,
            self.direct + other.direct,
            self.cached + other.cached,
            self.staged + other.staged,
            self.registered + other.registered,
            self.why or other.why,
        )


class Loading(Protocol):
    """A load that was begun. Leaving it as a context closes it."""

    def event(self) -> Event:
        """Give the point at which all of it is on the device, as soon as all has been read.

        `Accelerator.after` makes launches heed it, without waiting for it.

        Raises
        ------
        WherryError
            If a part could not be loaded: the first reason. Nothing is under way any more then.
        """

    def wait(self) -> Evidence:
        """Return when all of it is on the device; with the ways it took. Raises as `event` does."""

    def close(self) -> None:
        """Give up what has not been read yet; return when nothing is under way any more."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class DeviceReader(Protocol):
    """What loads into one device's memory. Any thread may use it.

    Attributes
    ----------
    name : str
        "pinned", "kvikio" or "gds".
    gap : int
        Bytes of a file that it rather reads than skips: what `plan_extents` asks for.
    """

    name: str
    gap: int

    def begin(self, source: FileRanges | HostRanges, keep: object = None) -> Loading:
        """Begin to load; loads follow each other in the order they were begun.

        Parameters
        ----------
        keep : object
            What must live until nothing of this load is under way any more, whatever becomes of
            what this gives: the blocks it goes to, the owners of the memory it comes from.

        Raises
        ------
        InputError
            If the file cannot be read in the way asked for.
        """

    def close(self) -> None:
        """Give up all loads and let go of what the reader has."""
