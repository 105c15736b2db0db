"""Frames over a stream socket: a header, as many bytes as it says, and descriptors beside them.

A frame is `WHRY`, its kind, a byte of zero, how many descriptors come with it, and how many bytes.
The kernel takes few descriptors at a time; a frame with more is followed by one byte for each
further group. Every wait has a deadline, a point in time of `time.monotonic()` in seconds, and
no more memory is taken for a frame than has arrived of it.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from wherry.base.errors import CorruptError

REQUEST: Final = 1
"""Bytes for the agent to answer."""
REPLY: Final = 2
"""What it answers."""
TAKE: Final = 3
"""A ticket."""
GIVEN: Final = 4
"""The lease in eight bytes, then the layout; the descriptors come with it."""
RETURN: Final = 5
"""Leases in eight bytes each; nothing is answered."""
FAILED: Final = 6
"""What is answered to a ticket, or before the connection is closed: a `Failed`."""

_HEADER: Final = struct.Struct("<4sBBHI")
_MAGIC: Final = b"WHRY"
_KINDS: Final = range(REQUEST, FAILED + 1)
_READ_BYTES: Final = 1 << 16
_GROUP: Final = 250
"""Descriptors that are sent at once; the kernel takes 253."""
_ROOM: Final = socket.CMSG_LEN(_GROUP * 4)


class Frame(Struct, frozen=True):
    """What arrived; whoever takes the frame owns the descriptors."""

    kind: int
    payload: bytes
    descriptors: tuple[int, ...] = ()


class Ended(ConnectionError):
    """The other side closed the connection between two frames."""


class Stream:
    """Sends and receives frames; for one thread at a time.

    Parameters
    ----------
    sock : socket.socket
        Connected; it is the stream's from now on.
    most_bytes : int
        A frame that announces more is refused.
    most_descriptors : int
        Likewise. With 0 the kernel throws away whatever descriptors are sent.
    """

    def __init__(self, sock: socket.socket, most_bytes: int, most_descriptors: int = 0) -> None:
        self._sock = sock
        self._most_bytes = most_bytes
        self._most_descriptors = most_descriptors
        self._arrived = bytearray()
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """Give the socket's descriptor, to wait for; -1 when it is closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket, and descriptors that nobody took."""
        self._sock.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def shut(self) -> None:
        """Have every wait on the socket end, in whatever thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def send(
        self,
        frames: Sequence[tuple[int, bytes]],
        deadline: float,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Send frames; the descriptors belong to the last of them.

        Raises
        ------
        TimeoutError
            When the other side has not taken them by the deadline.
        ConnectionError
            When it is gone.
        """
        parts: list[bytes] = []
        for number, (kind, payload) in enumerate(frames, 1):
            count = len(descriptors) if number == len(frames) else 0
            parts += (_HEADER.pack(_MAGIC, kind, 0, count, len(payload)), payload)
        if not descriptors:
            self._push(parts, (), deadline)
            return
        # Descriptors travel with the first byte of what is sent at once: that of their own frame.
        if parts[:-2]:
            self._push(parts[:-2], (), deadline)
        self._push(parts[-2:], descriptors[:_GROUP], deadline)
        for start in range(_GROUP, len(descriptors), _GROUP):
            self._push([b"\0"], descriptors[start : start + _GROUP], deadline)

    def send_now(self, frames: Sequence[tuple[int, bytes]]) -> bool:
        """Send short frames if the other side has room for them; give whether it had, or is gone.

        Frames of a few KiB are taken whole or not at all.
        """
        self._sock.settimeout(0)
        try:
            for kind, payload in frames:
                self._sock.send(_HEADER.pack(_MAGIC, kind, 0, 0, len(payload)) + payload)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _push(self, parts: list[bytes], descriptors: Sequence[int], deadline: float) -> None:
        ancillary = []
        if descriptors:
            packed = array.array("i", descriptors)
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, packed))
        self._wait_until(deadline)
        sent = self._sock.sendmsg(parts, ancillary)
        if sent == sum(map(len, parts)):
            return
        rest = memoryview(b"".join(parts))[sent:]
        while rest:
            self._wait_until(deadline)
            rest = rest[self._sock.send(rest) :]

    def receive(self, deadline: float, whole_s: float | None = None) -> Frame:
        """Wait for a frame.

        Parameters
        ----------
        deadline : float
            When the frame must be whole, or have begun if `whole_s` is given.
        whole_s : float, optional
            Seconds from its beginning in which it must be whole.

        Raises
        ------
        TimeoutError
            When it was not.
        Ended
            When the other side closed the connection instead of sending one.
        ConnectionError
            When it closed it in the middle of one.
        CorruptError
            When what arrived is no frame, or one of more bytes than is possible.
        """
        begun = whole_s is None
        while True:
            frame = self._whole()
            if frame is not None:
                return frame
            if self._arrived and not begun and whole_s is not None:
                begun, deadline = True, time.monotonic() + whole_s
            self._wait_until(deadline)
            self._read()

    def receive_now(self) -> Frame | None:
        """Give a frame if the rest of it is here; None otherwise. Raises what `receive` does."""
        self._sock.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                frame = self._whole()
                if frame is not None:
                    return frame
                self._read()
        return None

    def _wait_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _read(self) -> None:
        if self._most_descriptors:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
            for _, _, packed in ancillary:
                found = array.array("i")
                found.frombytes(packed[: len(packed) - len(packed) % found.itemsize])
                self._descriptors += found
            if len(self._descriptors) > self._most_descriptors:
                raise CorruptError(f"more than {self._most_descriptors} descriptors were sent")
        else:
            data = self._sock.recv(_READ_BYTES)
        if not data:
            if self._arrived:
                raise ConnectionError("closed in the middle of a frame")
            raise Ended("closed")
        self._arrived += data

    def _whole(self) -> Frame | None:
        """Take the first frame of what has arrived, if all of it has."""
        if len(self._arrived) < _HEADER.size:
            return None
        magic, kind, zero, count, size = _HEADER.unpack_from(self._arrived)
        if magic != _MAGIC or zero or kind not in _KINDS:
            seen = bytes(self._arrived[: _HEADER.size])
            raise CorruptError(f"no frame begins with {seen!r}")
        if size > self._most_bytes:
            raise CorruptError(f"a frame of {size} bytes; possible: {self._most_bytes}")
        if count > self._most_descriptors:
            raise CorruptError(
                f"a frame with {count} descriptors; possible: {self._most_descriptors}"
            )
        end = _HEADER.size + size
        after = end + max(0, -(-count // _GROUP) - 1)
        if len(self._arrived) < after:
            return None
        if len(self._descriptors) != count:
            raise CorruptError(
                f"{len(self._descriptors)} of {count} descriptors arrived; this process may have "
                "too many open files"
            )
        frame = Frame(kind, bytes(self._arrived[_HEADER.size : end]), tuple(self._descriptors))
        self._descriptors.clear()
        del self._arrived[:after]
        return frame
