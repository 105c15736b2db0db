"""What a user's function means: Python itself, row by row, with the machine's arithmetic.

numpy's scalars wrap and divide as machine code does, and their functions give inf and nan where
those of `math` raise.
"""

from __future__ import annotations

import types
from collections.abc import Callable
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
    scalars = [_numpy_type(t) for t in kernel.types]
    function, result = _on_numpy(kernel), _numpy_type(kernel.result)
    made = []
    with np.errstate(all="ignore"):
        for row in zip(*(a.to_pylist() for a in arguments), strict=True):
            values = None if None in row else [t(v) for t, v in zip(scalars, row, strict=True)]
            made.append(None if values is None else _as(result, function(*values)))
    return pa.array(made, kernel.result)


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
