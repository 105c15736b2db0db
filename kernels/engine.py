"""Text of LLVM IR becomes addresses of functions, by way of the object cache.

MCJIT takes the target machine it is given, so compiling and linking have one each. Objects of a
process lie beside each other, therefore symbols carry the digest of what they belong to.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm
from msgspec import Struct
from msgspec.structs import replace

from wherry.kernels.linker import Linker, check_room
from wherry.kernels.objects import object_path, read_object, write_object

_CALLEE: Final = re.compile(r'@"([^"]*)"\(')
"""A function where IR names it: defined, declared or called."""

SKELETONS: Final = 1
"""Version of what kernels/numba expects of block functions; a change makes old objects useless."""


class Compiled(Struct, frozen=True):
    """Functions of one object by name, and how it came about.

    Whoever calls an address keeps `engine`: with it goes the memory that the code lies in.

    Attributes
    ----------
    cached : bool
        The object came from disk, or was compiled and kept before in this process.
    kept : bool
        It is on disk now.
    """

    addresses: dict[str, int]
    cached: bool
    kept: bool
    engine: Engine


class Target(Struct, frozen=True):
    """A processor to compile for, in LLVM's words."""

    triple: str
    cpu: str
    features: str


def this_processor() -> Target:
    """Give the processor of this machine, or what WHERRY_CPU names: `haswell` has no AVX-512."""
    triple = llvm.get_process_triple()
    asked = os.environ.get("WHERRY_CPU")
    if asked:
        return Target(triple, asked, "")
    return Target(triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


class Engine:
    """Compiles for a processor, and keeps objects in `folder`.

    All methods may be called from any thread; one compiles at a time.

    Parameters
    ----------
    target : Target, optional
        This machine's processor unless given.
    """

    def __init__(self, folder: Path, target: Target | None = None) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._folder = folder
        self._lock = threading.RLock()
        self._target = target or this_processor()
        self._linkers: list[Linker] = []
        self._compiler: Any = None
        self._loaded: dict[str, Compiled] = {}

    def functions(self, text: str, names: tuple[str, ...]) -> Compiled:
        """Give the functions `names` that the IR `text` defines.

        Parameters
        ----------
        text : str
            A module; its defined functions are exactly `names`.
        """
        key = self.key(text)

        def compiled() -> bytes:
            symbols = {name: symbol(key, name) for name in names}
            # In one pass: a program of a thousand columns has a thousand functions.
            renamed = _CALLEE.sub(lambda m: f'@"{symbols.get(m[1], m[1])}"(', text)
            check_room(4 * len(renamed))
            module = llvm.parse_assembly(renamed)
            module.verify()
            return self.object_of(module)

        return self.linked(key, names, compiled)

    def linked(self, key: str, names: Iterable[str], compile_: Callable[[], bytes]) -> Compiled:
        """Give the functions `names` of the object kept under `key`, compiled if it is not there.

        Parameters
        ----------
        compile_ : callable
            Gives an object that defines `symbol(key, name)` for each name.
        """
        with self._lock:
            if key in self._loaded:
                return self._loaded[key]
            made = self._load(key, tuple(names), compile_)
            self._loaded[key] = replace(made, cached=made.kept)  # The next to ask finds it here.
            return made

    def key(self, text: str) -> str:
        """Give the digest that an object is kept under: everything its code depends on."""
        versions = f"{llvmlite.__version__} {llvm.llvm_version_info} {SKELETONS}"
        target = self._target
        parts = (text, target.triple, target.cpu, target.features, versions)
        return sha256("\0".join(parts).encode()).hexdigest()

    def path(self, key: str) -> Path:
        """Give the file of an object."""
        return object_path(self._folder, key)

    def object_of(self, module: Any) -> bytes:
        """Give a module of llvmlite as an object for the processor."""
        check_room(0)
        if self._compiler is None:
            self._compiler = self._machine()
        # Only what is compiled needs it, and a warm process compiles nothing.
        words: Any = import_module("wherry.kernels.numba.compress")
        whole = words.with_words(self._for_target(module), self._compiler)
        return bytes(self._compiler.emit_object(whole))

    def _for_target(self, module: Any) -> Any:
        """Give a module with the target's triple and layout; numba's say the machine's own."""
        module.triple = self._target.triple
        module.data_layout = str(self._compiler.target_data)
        return module

    def _load(self, key: str, names: tuple[str, ...], compile_: Callable[[], bytes]) -> Compiled:
        path = self.path(key)
        code = read_object(path)
        cached = kept = code is not None
        if code is None:
            code = compile_()
            # A cache that cannot be written costs time in the next process, never an answer.
            kept = write_object(path, code)
        symbols = self.addresses(code, [symbol(key, name) for name in names])
        return Compiled(dict(zip(names, symbols, strict=True)), cached, kept, self)

    def addresses(self, code: bytes, symbols: Sequence[str]) -> list[int]:
        """Link an object into the process; give where its functions lie."""
        if not self._linkers or not self._linkers[-1].fits(len(code)):
            self._linkers.append(Linker(self._machine, code))
        return self._linkers[-1].addresses(code, symbols)

    def function(self, address: int, arguments: int) -> Any:
        """Give a function of so many int64 as Python calls it, with its `address`.

        Its `brief` keeps the interpreter's lock: to take it again may cost 50 us where others want
        it too, which is too much for a call of a few.
        """
        types = [ctypes.c_int64] * arguments
        found: Any = ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)
        found.address = address
        found.brief = ctypes.PYFUNCTYPE(ctypes.c_int64, *types)(address)
        return found

    def _machine(self) -> Any:
        # Objects are loaded wherever there is room, so their code may hold no absolute addresses.
        return llvm.Target.from_triple(self._target.triple).create_target_machine(
            cpu=self._target.cpu,
            features=self._target.features,
            opt=2,
            reloc="pic",
            codemodel="default",
            jit=True,
        )


def symbol(key: str, name: str) -> str:
    """Give the name that a function has in the process."""
    return f"w{key[:24]}_{name}"


@lru_cache(maxsize=8)
def engine(folder: Path) -> Engine:
    """Give the engine of this process for a folder."""
    return Engine(folder)
