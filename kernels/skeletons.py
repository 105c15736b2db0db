"""Skeletons as machine code: loaded from the object cache, compiled by numba where it lacks them.

Importing numba takes longer than a query, so its modules are imported only to compile what no
object on disk holds. A module's object is kept under the digest of the sources of `kernels/numba`,
the processor and the compiler's version, and defines a plain C function for each skeleton.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from wherry.kernels.engine import Compiled, Engine, engine, symbol
from wherry.kernels.objects import object_folder

_FOLDER: Final = Path(__file__).parent / "numba"
_DECORATED: Final = re.compile(r"^@kernel\((\d+)\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


class Skeletons:
    """The skeletons of one module of `kernels/numba`; nothing is loaded before one is asked for.

    Each attribute is a function of int64 that gives int64 and runs without the interpreter's lock;
    its `address` is where the code lies. The module's own docstrings say what each does.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _declared(self._module):
            raise AttributeError(f"kernels/numba/{self._module} defines no skeleton {name!r}")
        with self._lock:
            if name not in self.__dict__:
                # Functions do not keep their code in memory; its engine does.
                self._code, functions = _load(self._module, engine(object_folder()))
                self.__dict__.update(functions)
        return self.__dict__[name]


@cache
def skeletons(module: str) -> Skeletons:
    """Give the skeletons of `kernels/numba/<module>.py`; dots stand for folders."""
    return Skeletons(module)


def modules() -> tuple[str, ...]:
    """Give the names of all modules that have skeletons."""
    return tuple(sorted(module for module in _sources() if _declared(module)))


def warm(module: str) -> bool:
    """Load the skeletons of a module, compiling them if need be; tell whether they were there."""
    return _load(module, engine(object_folder()))[0].cached


def over_lanes(function: Any, lanes: int, name: str, machine: Engine) -> bytes:
    """Give a user's function over so many values as an object that defines `name`.

    Raises
    ------
    ValueError
        If numba cannot compile it.
    """
    compiler: Any = import_module("wherry.kernels.numba.user")
    return machine.object_of(compiler.lanes_module(function, lanes, name))


def _load(module: str, machine: Engine) -> tuple[Compiled, dict[str, Any]]:
    declared = _declared(module)
    key = machine.key(f"{module}\0{_digest()}")
    code = machine.linked(key, declared, lambda: _compile(module, key, machine))
    if not code.kept:
        text = f"skeletons of {module} are compiled anew in this process, and could not be kept in "
        warnings.warn(text + str(object_folder()), RuntimeWarning, stacklevel=3)
    found = {}
    for name, arguments in declared.items():
        found[name] = machine.function(code.addresses[name], arguments)
    return code, found


def _compile(module: str, key: str, machine: Engine) -> bytes:
    compiler: Any = import_module("wherry.kernels.numba.compiled")
    symbols = {name: symbol(key, name) for name in _declared(module)}
    return machine.object_of(compiler.compiled_module(f"wherry.kernels.numba.{module}", symbols))


@cache
def _sources() -> dict[str, bytes]:
    """Give the source of every module of the folder."""
    # By the system's own listing: a Path for each of 44 files takes longer than reading them.
    found = {}
    for folder, folders, names in os.walk(_FOLDER):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = f"{folder}/{name}"
                with open(path, "rb") as file:  # noqa: PTH123
                    found[path[len(str(_FOLDER)) + 1 : -3].replace("/", ".")] = file.read()
    return found


@cache
def _digest() -> str:
    """Give the digest of all sources: any of them may be part of any skeleton."""
    return sha256(
        b"\0".join(part for n, s in _sources().items() for part in (n.encode(), s))
    ).hexdigest()


@cache
def _declared(module: str) -> dict[str, int]:
    """Give the skeletons that a module declares, and how many arguments each takes."""
    found = _DECORATED.findall(_sources()[module].decode())
    return {kernel: int(count) for count, kernel in found}
