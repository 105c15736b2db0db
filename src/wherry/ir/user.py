"""`@wherry.kernel`: scalar functions of users as part of any expression, checked before they run.

A function is a value: its source, its types, and the digest of all that its result depends on.
Plans hold the digest; whoever runs one looks the function up here, and never receives code.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct

from wherry.base.errors import InputError
from wherry.base.ids import digest
from wherry.ir.builder import Expr, to_node
from wherry.ir.expr import Apply
from wherry.ir.user_check import check_body

_TYPES: Final = {float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
_NUMBERS: Final = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
    *(pa.uint64(), pa.float32(), pa.float64(), pa.bool_()),
)


class Kernel(Struct, frozen=True, eq=False):
    """A checked function: over expressions it makes one, over numbers it gives one.

    Attributes
    ----------
    types : tuple of pyarrow.DataType
        Of the arguments; numbers or bool.
    result : pyarrow.DataType
        Of what it gives.
    operations : int
        At most so many operations make one value: loops are bounded.
    digest : bytes
        Of source, types, constants and the functions it calls.
    calls : mapping of str to Kernel
        By the names its source uses.
    """

    name: str
    python: Callable[..., Any]
    types: tuple[pa.DataType, ...]
    result: pa.DataType
    operations: int
    digest: bytes
    calls: Mapping[str, Kernel]

    def __call__(self, *arguments: object) -> Any:
        """Give the expression of the function over columns, or its value over numbers."""
        if len(arguments) != len(self.types):
            raise InputError(f"{self.name} takes {len(self.types)} values; got {len(arguments)}")
        if not any(isinstance(a, Expr) for a in arguments):
            return self.python(*arguments)
        nodes = tuple(to_node(a) for a in arguments)
        return Expr(Apply(self.name, self.digest, self.types, nodes, self.result, self.operations))


_KNOWN: dict[bytes, Kernel] = {}


def kernel(function: Callable[..., Any]) -> Kernel:
    """Make a scalar function usable in expressions: compiled by numba, null if an argument is.

    Arguments and result are annotated with `float` (float64), `int` (int64), `bool` or a numeric
    `pyarrow.DataType`. The body may hold assignments, if, for over constant ranges, arithmetic,
    comparisons, `math`, abs, min, max, constants of the module, and other kernels; a name has a
    value before it is read. Arithmetic is the machine's: int64 wraps around, x / 0 is inf or
    nan.

    >>> import pyarrow as pa, wherry as wh
    >>> @wh.kernel
    ... def clipped(x: float, most: float) -> float:
    ...     return x if x < most else most
    >>> wh.scan(pa.table({"x": [1.0, 9.0]})).select(y=clipped(wh.col("x"), 5.0)).collect()["y"]
    <pyarrow.lib.ChunkedArray object at ...>
    [
      [
        1,
        5
      ]
    ]

    Raises
    ------
    InputError
        If the function is not such a one; the message says where and what to write instead.
    """
    name = function.__name__
    types, result = _annotated(function)
    source = _source(function)
    names = inspect.getclosurevars(function)
    outside = {**names.globals, **names.nonlocals}
    calls = {n: v for n, v in outside.items() if isinstance(v, Kernel)}
    constants = {n: v for n, v in outside.items() if type(v) in (int, float, bool)}
    costs = {n: called.operations for n, called in calls.items()}
    where = f"{inspect.getsourcefile(function) or '?'}"
    first = function.__code__.co_firstlineno
    operations = check_body(source, where, first, constants, costs, uses_math="math" in outside)
    if "math" in outside and outside["math"] is not math:
        raise InputError(f"{where}:{first}: in {name}, math must be Python's module math")
    parts = [source, repr(types), repr(result), repr(sorted(constants.items()))]
    parts += [f"{n}={called.digest.hex()}" for n, called in sorted(calls.items())]
    made = Kernel(
        name, function, types, result, operations, digest("\0".join(parts).encode()), calls
    )
    return _KNOWN.setdefault(made.digest, made)


def known_kernel(identity: bytes, name: str) -> Kernel:
    """Give the function with a digest.

    Raises
    ------
    InputError
        If this process has not declared it.
    """
    found = _KNOWN.get(identity)
    if found is None:
        raise InputError(f"the function {name} of digest {identity.hex()} is not declared here")
    return found


def _annotated(function: Callable[..., Any]) -> tuple[tuple[pa.DataType, ...], pa.DataType]:
    name = getattr(function, "__name__", "?")
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, ValueError) as problem:
        raise InputError(f"the types of {name} cannot be read: {problem}") from None
    found = []
    for parameter in signature.parameters.values():
        plain = parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
        if not plain or parameter.default is not parameter.empty:
            raise InputError(f"{name}: {parameter} must be a plain argument without default")
        found.append(_type(parameter.annotation, f"{name}: the argument {parameter.name}"))
    if not found:
        raise InputError(f"{name} takes no argument; a constant needs no function")
    return tuple(found), _type(signature.return_annotation, f"{name}: the result")


def _type(annotation: object, what: str) -> pa.DataType:
    found = _TYPES.get(annotation, annotation)  # type: ignore[call-overload]
    if isinstance(found, pa.DataType) and found in _NUMBERS:
        return found
    seen = "nothing" if annotation is inspect.Parameter.empty else repr(annotation)
    possible = ", ".join(map(str, _NUMBERS))
    raise InputError(
        f"{what} needs an annotation: float, int, bool or a pyarrow type of {possible}; got {seen}"
    )


def _source(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as problem:
        raise InputError(f"the source of {function!r} cannot be read: {problem}") from None
