"""Text of LLVM IR becomes addresses of functions; objects are kept on disk under their digest.

MCJIT takes the target machine it is given, so compiling and linking have one each. All objects of a
process live in one engine, therefore symbols carry the digest of their program.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm
import platformdirs

SKELETONS: Final = 1
"""Version of what kernels/numba expects of block functions; a change makes old objects useless."""
_SEAL: Final = 32


def object_folder() -> Path:
    """Give the folder that compiled objects are kept in unless another is named."""
    return Path(platformdirs.user_cache_dir("wherry")) / "objects"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Functions of one program by name, and whether their object came from disk.

    Whoever calls an address keeps `engine`: with it goes the memory that the code lies in.
    """

    addresses: dict[str, int]
    cached: bool
    engine: Engine


class Engine:
    """Compiles for this machine, and keeps objects in `folder`.

    All methods may be called from any thread; one compiles at a time.
    """

    def __init__(self, folder: Path) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._folder = folder
        self._lock = threading.Lock()
        self._cpu = llvm.get_host_cpu_name()
        self._features = llvm.get_host_cpu_features().flatten()
        self._compiler = self._machine()
        self._linker = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self._machine())
        self._loaded: dict[str, Compiled] = {}
        self._objects: list[Any] = []

    def functions(self, text: str, names: tuple[str, ...]) -> Compiled:
        """Give the functions `names` that the IR `text` defines.

        Parameters
        ----------
        text : str
            A module; its defined functions are exactly `names`.
        """
        key = self.key(text)
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = self._load(key, text, names)
            return self._loaded[key]

    def key(self, text: str) -> str:
        """Give the digest that an object is kept under: everything its code depends on."""
        versions = f"{llvmlite.__version__} {llvm.llvm_version_info} {SKELETONS}"
        parts = (text, self._cpu, self._features, versions)
        return sha256("\0".join(parts).encode()).hexdigest()

    def path(self, text: str) -> Path:
        """Give the file of an object."""
        return self._folder / f"{self.key(text)}.o"

    def _load(self, key: str, text: str, names: tuple[str, ...]) -> Compiled:
        symbols = {name: f"w{key[:24]}_{name}" for name in names}
        path = self._folder / f"{key}.o"
        code = read_object(path)
        cached = code is not None
        if code is None:
            for name, symbol in symbols.items():
                text = text.replace(f'@"{name}"(', f'@"{symbol}"(')
            code = self._compile(text)
            write_object(path, code)
        reference = llvm.ObjectFileRef.from_data(code)
        self._linker.add_object_file(reference)
        self._linker.finalize_object()
        self._objects.append((reference, code))
        found = {n: self._linker.get_function_address(s) for n, s in symbols.items()}
        return Compiled(found, cached, self)

    def _compile(self, text: str) -> bytes:
        module = llvm.parse_assembly(text)
        module.verify()
        return bytes(self._compiler.emit_object(module))

    def _machine(self) -> Any:
        target = llvm.Target.from_default_triple()
        return target.create_target_machine(
            cpu=self._cpu, features=self._features, opt=2, jit=True, codemodel="default"
        )


def read_object(path: Path) -> bytes | None:
    """Give the object in a file, or None when it is not there or not what was written."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    seal, code = stored[:_SEAL], stored[_SEAL:]
    return code if sha256(code).digest() == seal else None


def write_object(path: Path, code: bytes) -> None:
    """Keep an object: whoever reads the file sees all of it or none."""
    # A cache that cannot be written costs time in the next process, never an answer.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(sha256(code).digest() + code)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@lru_cache(maxsize=8)
def engine(folder: Path) -> Engine:
    """Give the engine of this process for a folder."""
    return Engine(folder)
