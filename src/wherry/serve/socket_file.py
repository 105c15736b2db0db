"""The files of Unix sockets: listened at, connected to, and who is at the other end."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from wherry.base.errors import InputError, Retryable

_LOCK_S: Final = 5.0
_PROBE_S: Final = 1.0
_RETRY_S: Final = 0.002
_PATH_BYTES: Final = 107
"""Longest path of a Unix socket."""
_PEER: Final = struct.Struct("3i")


def check_path(path: str) -> None:
    """Refuse a path that no socket can have.

    Raises
    ------
    InputError
        When it is empty, longer than the kernel takes, or holds a zero byte.
    """
    if not path or "\0" in path or len(os.fsencode(path)) > _PATH_BYTES:
        raise InputError(f"unix:{path} is no socket's path: it takes 1 to {_PATH_BYTES} bytes")


def peer_of(sock: socket.socket) -> tuple[int, int, int]:
    """Give process, user and group of who is at the other end, as the kernel knows them."""
    return _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))


def connected(path: str, label: str, deadline: float) -> socket.socket:
    """Give a socket that is connected to who listens at `path`.

    Parameters
    ----------
    label : str
        What errors call it.
    deadline : float
        Of `time.monotonic()`.

    Raises
    ------
    InputError
        When it is no socket's path, or may not be connected to.
    Retryable
        When nobody listens, or has accepted by the deadline.
    """
    check_path(path)
    with _socket() as sock:
        try:
            while not _connects(sock, path, deadline):
                time.sleep(_RETRY_S)
        except (ConnectionRefusedError, FileNotFoundError) as problem:
            raise Retryable(f"no {label}: {problem.strerror}") from None
        except TimeoutError:
            raise Retryable(f"the {label} did not accept a connection in time") from None
        except OSError as problem:
            raise InputError(f"no {label}: {problem.strerror}") from None
        return sock


@contextmanager
def _socket() -> Iterator[socket.socket]:
    """Give a socket, which is closed if something goes wrong."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


def _connects(sock: socket.socket, path: str, deadline: float) -> bool:
    """Connect; False: the listener's queue is full now."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)
    try:
        sock.connect(path)
    except BlockingIOError:
        return False
    return True


def bound(path: str, mode: int, backlog: int) -> tuple[socket.socket, int]:
    """Give a socket that listens at `path`, and the inode of its file.

    Raises
    ------
    InputError
        When somebody listens there, something else is there, or the folder cannot be written to.
    """
    folder = Path(path).parent
    with _socket() as sock:
        try:
            with _alone(folder):
                _make_way(path)
                sock.bind(path)
                # Nobody is let in before `listen`, so the mode is in time.
                Path(path).chmod(mode)
                sock.listen(backlog)
                return sock, Path(path).lstat().st_ino
        except OSError as problem:
            raise InputError(f"unix:{path} cannot be listened at: {problem.strerror}") from problem


def unbound(path: str, inode: int, pid: int) -> None:
    """Remove the file of a socket, unless another one is there now, or a child asks."""
    with suppress(OSError):
        if os.getpid() == pid and Path(path).lstat().st_ino == inode:
            Path(path).unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other agents from looking at the folder's sockets meanwhile, for a few seconds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(f"{folder} is locked by another process") from None
                time.sleep(_RETRY_S)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str) -> None:
    """Remove a socket's file that nobody listens at."""
    try:
        found = Path(path).lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise InputError(f"{path} is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # Somebody listens whose queue is full.
    raise InputError(f"somebody listens at unix:{path} already")
