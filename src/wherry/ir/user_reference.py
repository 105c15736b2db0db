"""What a user's function means: Python itself, row by row, with the machine's arithmetic.

numpy's scalars wrap and divide as machine code does, and their functions give inf and nan where
those of `math` raise.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wherry.ir.user import Kernel

_RENAMED: Final = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "pow": "power",
}
_SAME: Final = (
    *("sqrt", "exp", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh"),
    *("cosh", "tanh", "fabs", "hypot", "copysign", "isnan", "isinf", "isfinite"),
    *("pi", "e", "inf", "nan"),
)
_MATH: Final = types.SimpleNamespace(
    **{name: getattr(np, name) for name in _SAME},
    **{name: getattr(np, other) for name, other in _RENAMED.items()},
    tau=2 * np.pi,
    floor=lambda x: np.int64(np.floor(x)),
    ceil=lambda x: np.int64(np.ceil(x)),
)
_BUILTINS: Final = {
    "abs": abs,
    "min": min,
    "max": max,
    "range": range,
    "int": np.int64,
    "float": np.float64,
    "bool": np.bool_,
}


def apply_reference(kernel: Kernel, arguments: list[pa.Array]) -> pa.Array:
    """Give the function's value for every row; null where an argument is null."""
    call = _on_numpy(kernel)
    rows = zip(*(a.to_pylist() for a in arguments), strict=True)
    return pa.array([None if None in r else _called(kernel, call, r) for r in rows], kernel.result)


def apply_row(kernel: Kernel, values: Sequence[object]) -> object:
    """Give the function's value of Python values, none of them None."""
    return _called(kernel, _on_numpy(kernel), values)


def _called(kernel: Kernel, function: Callable[..., Any], values: Sequence[object]) -> object:
    scalars = [_numpy_type(t)(v) for t, v in zip(kernel.types, values, strict=True)]
    with np.errstate(all="ignore"):
        return _as(_numpy_type(kernel.result), function(*scalars))


def _numpy_type(t: pa.DataType) -> Any:
    return np.dtype(t.to_pandas_dtype()).type


def _as(result: Any, value: Any) -> Any:
    return np.asarray(value).astype(result).item()


def _on_numpy(kernel: Kernel) -> Callable[..., Any]:
    python = kernel.python
    assert isinstance(python, types.FunctionType)
    space = {**python.__globals__, **_BUILTINS, "math": _MATH}
    space |= {name: _on_numpy(called) for name, called in kernel.calls.items()}
    return types.FunctionType(python.__code__, space, python.__name__, None, python.__closure__)
