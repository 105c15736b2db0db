"""What a peer is: an engine that gives its ways to answer a question."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from msgspec import Struct

from wherry.benchmarks.kernels.data import Data
from wherry.benchmarks.kernels.question import Answer, Ask, Question


class Form(Struct, frozen=True):
    """One way of an engine: over whose storage, and with which of its executors.

    Attributes
    ----------
    name : str
        Of engine and way: "duckdb native".
    ask : callable
        What is timed: from a plan made before, if the engine allows, to the whole answer.
    answer : callable
        From what `ask` gives to Arrow; not timed.
    """

    name: str
    ask: Ask
    answer: Callable[[Any], Answer]


class Peer(Struct, frozen=True):
    """An engine.

    Attributes
    ----------
    package : str
        What has to be installed.
    forms : callable
        From a question, the data and a number of threads, a context that gives all ways of the
        engine; whatever it loads is loaded before and freed after.
    """

    package: str
    forms: Callable[[Question, Data, int], AbstractContextManager[list[Form]]]
