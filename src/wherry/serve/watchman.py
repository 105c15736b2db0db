"""Asks agents for signs of life while somebody waits for them: without one they are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from wherry.base.threads import begin
from wherry.serve import requests
from wherry.serve.deadline import together
from wherry.serve.links import Link

PING_S: Final = 1.0
"""How often an agent is asked for a sign of life while something is under way there."""


class Watchman:
    """A thread that asks agents for signs of life, and keeps what belongs to queries.

    It is there while somebody waits for an agent or a query is under way, and a little longer.

    Parameters
    ----------
    links : mapping of str to Link
        Of one caller; looked at anew every time.
    """

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links, self._queries = links, list[bytes]()
        self._there = False
        self._lock = threading.Lock()
        self._wanted = 0.0

    def wake(self) -> None:
        """Look after agents that somebody is about to wait for."""
        self._wanted = time.monotonic()
        if not self._there:
            with self._lock:
                self._begin()

    def watch(self, query: bytes) -> None:
        """Look after a query until it is `over`."""
        with self._lock:
            self._queries.append(query)
            self._begin()

    def over(self, query: bytes) -> None:
        """Look after a query no more."""
        with self._lock:
            self._queries.remove(query)

    def _begin(self) -> None:
        if not self._there:
            begin(self._serve)
            self._there = True

    def _serve(self) -> None:
        while True:
            time.sleep(PING_S)
            links = [link for link in self._links.values() if link.address and not link.lost]
            with self._lock:
                queries = tuple(self._queries)
                busy = queries or any(link.busy for link in links)
                if not busy and time.monotonic() - self._wanted > PING_S:
                    self._there = False
                    return
            sign = requests.Renew(queries)
            # Whatever goes wrong here, also that there is no memory, may go well in a second.
            with suppress(Exception):
                together(
                    partial(Link.pinged, sign=sign),
                    [link for link in links if queries or link.busy],
                )
