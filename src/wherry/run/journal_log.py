"""SQLite's write-ahead log, read by ourselves to see what SQLite does not tell.

At the first damaged frame SQLite takes the log to be over: whatever was committed after it is gone
without a word. Frames tell more. Each has the salts of its log and a checksum that goes on from the
one stored before it, so every frame can be judged alone.

    log     magic 4, version 4, page bytes 4, sequence 4, salts 8, checksum 8; big-endian
    frame   page number 4, pages after a commit 4 (0: no commit), salts 8, checksum 8; the page

A checksum takes words in pairs (a, b): s += a + t; t += b + s, modulo 2**32. That is linear, so the
checksums of all frames are one product of matrices.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct

_HEADER: Final = 32
_FRAME: Final = 24
_LITTLE: Final = 0x377F0682
_PAGE_SIZES: Final = frozenset(1 << n for n in range(9, 17))
_PAGE: Final = 4096
"""Of journals that Wherry makes, where a log's own header cannot be read."""


class Log(Struct, frozen=True):
    """What a log holds.

    Attributes
    ----------
    damaged : tuple of int
        Frames that are not as they were written, of transactions that were surely acknowledged;
        -1 stands for the header of the log.
    torn : bool
        Whether the last transaction is not whole: its writer died, or it was damaged since.
    pages : dict
        By page number, the newest image in a frame that is intact; 1 is the first.
    """

    damaged: tuple[int, ...]
    torn: bool
    pages: dict[int, bytes]


def read_log(path: Path) -> Log:
    """Read a log; one that is absent or was never used holds nothing."""
    image = path.read_bytes() if path.exists() else b""
    if len(image) < _HEADER + _FRAME or not image[_HEADER : _HEADER + _FRAME].strip(b"\0"):
        return Log((), torn=False, pages={})
    words = np.frombuffer(image[:_HEADER], ">u4")
    page_bytes = int(words[2]) if int(words[2]) in _PAGE_SIZES else _PAGE
    little = int(words[0]) | 1 == _LITTLE | 1 and not int(words[0]) & 1
    seen = np.frombuffer(image[:_FRAME], "<u4" if little else ">u4").reshape(1, -1)
    headed = (
        int(words[0]) | 1 == _LITTLE | 1
        and page_bytes == int(words[2])
        and _sums(seen, np.zeros((1, 2), np.uint32))[0].tolist() == words[6:8].tolist()
    )
    frames = _frames(image, page_bytes)
    salts = words[4:6] if headed else frames[0]["head"][2:4]
    little = little if headed else True
    return _judged(frames, salts, words[6:8], little=little, headed=headed)


def _frames(image: bytes, page_bytes: int) -> Any:
    whole = (len(image) - _HEADER) // (_FRAME + page_bytes)
    kind = np.dtype([("head", ">u4", 6), ("page", "u1", page_bytes)])
    return np.frombuffer(image, kind, whole, _HEADER)


def _judged(frames: Any, salts: Any, begun: Any, *, little: bool, headed: bool) -> Log:
    heads = frames["head"]
    words = np.ascontiguousarray(frames["page"]).view("<u4" if little else ">u4")
    first = heads[:, :2].astype(np.uint32)
    if little:
        first = first.byteswap()
    covered = np.concatenate([first, words.astype(np.uint32)], axis=1)
    before = np.zeros((len(frames), 2), np.uint32)
    before[0] = begun
    before[1:] = heads[:-1, 4:6]
    salted = (heads[:, 2:4] == salts).all(axis=1)
    fits = salted & (_sums(covered, before) == heads[:, 4:6]).all(axis=1)
    return _sorted_out(frames, fits, salted, headed=headed)


def _sorted_out(frames: Any, fits: Any, salted: Any, *, headed: bool) -> Log:
    """Tell what was acknowledged: everything up to the last commit but one is, if it is damaged."""
    commits = np.flatnonzero((fits | salted) & (frames["head"][:, 1] > 0)).tolist()
    damaged: list[int] = [] if headed else [-1]
    pages: dict[int, bytes] = {}
    torn, start = False, 0
    for at in commits:
        bad = [frame for frame in range(start, at + 1) if not fits[frame]]
        last = at == commits[-1]
        torn = torn or (last and bool(bad))
        if not (last and bad):
            damaged += bad
            for frame in range(start, at + 1):
                if fits[frame]:
                    pages[int(frames["head"][frame, 0])] = frames["page"][frame].tobytes()
        start = at + 1
    return Log(tuple(damaged), torn, pages)


@cache
def _weights(pairs: int) -> Any:
    """Give what each word adds to both sums, and what the sums before add."""
    weights = np.zeros((2 * pairs + 2, 2), np.uint32)
    a, b = np.array([1, 0], np.uint32), np.array([0, 1], np.uint32)
    for pair in range(pairs - 1, -1, -1):
        # a and b are what an addition to s or t after this pair adds in the end.
        weights[2 * pair] = a + b
        weights[2 * pair + 1] = b
        a, b = a + b, a + 2 * b
    weights[-2], weights[-1] = a, b
    return weights


def _sums(words: Any, before: Any) -> Any:
    """Give both sums of each row of words, going on from those before."""
    weights = _weights(words.shape[1] // 2)
    with np.errstate(over="ignore"):
        return words.astype(np.uint32) @ weights[:-2] + before @ weights[-2:]
