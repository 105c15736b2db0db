"""How skeletons are compiled: once per machine, or by every process that cannot use the cache.

Signatures are given, so that everything is compiled or loaded when a module is imported.
"""

import warnings

from numba import cfunc, njit, types

_I = types.int64


def kernel(arguments):
    """Give the decorator of a skeleton that takes and gives int64 and runs without the GIL."""
    return _cached(njit, _I(*[_I] * arguments), nogil=True)


def callback(arguments):
    """Give the decorator of a function whose address block functions call; int64 throughout."""
    return _cached(cfunc, _I(*[_I] * arguments))


def _cached(compiler, signature, **options):
    def compile_(function):
        try:
            return compiler(signature, cache=True, error_model="numpy", **options)(function)
        except Exception as problem:  # noqa: BLE001
            # A full disk, no folder to write to, a file cut short: numba raises whatever it meets.
            # A fault of the skeleton's own comes again here.
            name = function.__name__
            text = f"skeleton {name} is compiled anew in this process, not cached: {problem}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return compiler(signature, error_model="numpy", **options)(function)

    return compile_
