"""A user's function over the lanes of a block, as one C function of addresses."""

from numba import njit, types
from numba.core.errors import NumbaError

from wherry.kernels.layout import MATH
from wherry.kernels.numba.compiled import plain_module

_TYPES = {
    **{str(t): t for t in (types.int8, types.int16, types.int32, types.int64)},
    **{str(t): t for t in (types.uint8, types.uint16, types.uint32, types.uint64)},
    "float": types.float32,
    "double": types.float64,
    "bool": types.boolean,
}
_TRUTH = {"bool": " != 0"}
"""Truth values lie in memory as bytes."""
_LIBRARY = {*MATH, "fmod"}


def lanes_module(function, lanes, symbol):
    """Give a module of LLVM with `symbol(target, argument ...)`: `lanes` values read and made.

    Parameters
    ----------
    function : wherry.ir.user.Kernel
        Checked.

    Raises
    ------
    ValueError
        If numba finds no types for it.
    """
    try:
        return _module(function, lanes, symbol)
    except NumbaError as problem:
        raise ValueError(str(problem)) from None


def _module(function, lanes, symbol):
    names = [f"a{i}" for i in range(len(function.types))]
    values = [f"{n}[i]{_TRUTH.get(str(t), '')}" for n, t in zip(names, function.types, strict=True)]
    text = f"""
def over_lanes(target, {", ".join(names)}):
    for i in range({lanes}):
        target[i] = function({", ".join(values)})
    return 0
"""
    space = {"function": _compiled(function)}
    exec(text, space)  # noqa: S102  the text above, nothing of a user's
    stored = [_TYPES[str(t)] for t in (function.result, *function.types)]
    pointers = [types.CPointer(types.uint8 if t is types.boolean else t) for t in stored]
    dispatcher = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True)(space["over_lanes"])
    library = {*_LIBRARY, *(f"{name}f" for name in _LIBRARY)}
    return plain_module({symbol: (dispatcher, tuple(pointers))}, library)


def _compiled(function):
    """Give the function as numba calls it, with those it calls."""
    python = function.python
    if function.calls:
        space = dict(python.__globals__)
        space |= {name: _compiled(called) for name, called in function.calls.items()}
        python = type(python)(python.__code__, space, python.__name__, None, python.__closure__)
    result = _TYPES[str(function.result)]
    signature = result(*(_TYPES[str(t)] for t in function.types))
    return njit(signature, error_model="numpy", inline="never")(python)
