"""What TARGET means: a built-in query by name, or what a Python file defines."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from wherry.base.errors import InputError, WherryError, unknown_name
from wherry.benchmarks.workloads import q1, q6
from wherry.cli.tpch_data import tables
from wherry.devices.system import System
from wherry.movables.declare import Movable
from wherry.pipeline import Pipeline
from wherry.session import source_at

_BUILT_IN = {"q1": q1.pipeline, "q6": q6.pipeline}
_MODULE = "wherry_target"
_DEFAULT = "pipeline"
_LINES_SHOWN = 4


def load_target(
    target: str, scale_factor: float, data: Path | None, system: System | None = None
) -> Pipeline | Movable:
    """Give the pipeline or movable that a command was asked for.

    A built-in query reads the tables of the system's agents, if it has any.

    Raises
    ------
    InputError
        No such query, file, pipeline or movable.
    WherryError
        The file fails by itself; the message has its own lines of the traceback.
    """
    path, _, name = target.partition(":")
    if path.endswith(".py"):
        return _chosen(load_file(Path(path)), path, name)
    if target not in _BUILT_IN:
        raise unknown_name("target", target, [*_BUILT_IN, "FILE.py[:NAME]"])
    if system is not None and system.agents:
        return _BUILT_IN[target](_AtAgents(system))
    return _BUILT_IN[target](tables(scale_factor, data))


class _AtAgents(dict[str, Any]):
    """The tables of a system's agents."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self._system = system

    def __missing__(self, name: str) -> Any:
        return source_at(self._system, name)


def movables_of(module: ModuleType) -> dict[str, Movable]:
    """Give the movables that a file defines, by name."""
    return {key: value for key, value in vars(module).items() if isinstance(value, Movable)}


def load_file(path: Path) -> ModuleType:
    """Run a Python file and give it as a module.

    Raises
    ------
    InputError
        No such file.
    WherryError
        The file fails by itself; the message has its own lines of the traceback.
    """
    if not path.is_file():
        raise InputError(f"no file {path}")
    # Effects are known by their module's name, in journals too: that of the file is part of it.
    name = f"{_MODULE}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # as `python FILE.py` does
    try:
        spec.loader.exec_module(module)
    except WherryError as error:
        error.add_note(_place(error, path))
        raise
    except Exception as error:  # whatever a user's file raises
        raise WherryError(_own_failure(error, path)) from error
    finally:
        sys.path.pop(0)
    return module


def _chosen(module: ModuleType, path: str, name: str) -> Pipeline | Movable:
    pipelines = {k: value for k, value in vars(module).items() if isinstance(value, Pipeline)}
    found: dict[str, Pipeline | Movable] = {**pipelines, **movables_of(module)}
    if name:
        if name not in found:
            raise unknown_name("pipeline or movable", name, found)
        return found[name]
    if _DEFAULT in pipelines:
        return pipelines[_DEFAULT]
    if len(found) != 1:
        seen = ", ".join(found) or "none"
        raise InputError(
            f"{path} defines {len(found)} pipelines and movables ({seen}); name one as {path}:NAME"
        )
    return next(iter(found.values()))


def _place(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in _own_frames(error, path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _own_frames(error: BaseException, path: Path) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]


def _own_failure(error: Exception, path: Path) -> str:
    reason = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError) and Path(error.filename or "").resolve() == path.resolve():
        return f"{path}, line {error.lineno}: {reason}"
    frames = _own_frames(error, path)[-_LINES_SHOWN:]
    lines = [f"\n  {path}, line {frame.lineno}: {frame.line}" for frame in frames]
    return f"{path} fails: {reason}{''.join(lines)}"
