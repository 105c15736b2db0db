"""What makes a function a skeleton: it takes and gives int64 and never needs Python.

A decorated function is a numba dispatcher that other skeletons can call. Python calls its machine
code, through `kernels.skeletons`.
"""

import importlib

import llvmlite.binding as llvm
from numba import njit, types

from wherry.kernels.numba.compress import NAMES

_I64 = types.int64
_WRAPPER = """
declare i32 @"{native}"(ptr, ptr{types})
define i64 @"{symbol}"({parameters}) {{
  %result = alloca i64
{casts}  %status = call i32 @"{native}"(ptr %result, ptr null{arguments})
  %value = load i64, ptr %result
  ret i64 %value
}}
"""


def kernel(arguments):
    """Give the decorator of a skeleton with so many arguments."""

    def declare(function):
        assert function.__code__.co_argcount == arguments, function.__name__
        return njit(nogil=True, error_model="numpy", no_cpython_wrapper=True)(function)

    return declare


def compiled_module(name, symbols):
    """Give the skeletons of a module as one module of LLVM with a plain C function for each.

    Parameters
    ----------
    symbols : dict of str to str
        What the C function of each skeleton is called.
    """
    source = importlib.import_module(name)
    wanted = {}
    for kernel_name, symbol in symbols.items():
        dispatcher = getattr(source, kernel_name)
        wanted[symbol] = dispatcher, (_I64,) * dispatcher.py_func.__code__.co_argcount
    return plain_module(wanted, set())


def plain_module(wanted, library):
    """Give a module with a plain C function of int64 for each dispatcher.

    Parameters
    ----------
    wanted : dict
        By the C function's name: a dispatcher, and the types of its arguments, each int64 or a
        pointer.
    library : set of str
        Functions outside that it may call, besides those of memory.
    """
    whole = llvm.parse_assembly("")
    for symbol, (dispatcher, signature) in wanted.items():
        dispatcher.compile(signature)
        found = dispatcher.overloads[signature]
        whole.link_in(llvm.parse_assembly(found.library.get_llvm_str()))
        native = found.fndesc.llvm_func_name
        whole.link_in(llvm.parse_assembly(_wrapper(native, symbol, signature)))
    for item in (*whole.functions, *whole.global_variables):
        if not item.is_declaration and item.name not in wanted and item.name not in NAMES:
            item.linkage = "internal"
    _drop_unused(whole)
    declared = [f.name for f in whole.functions if f.is_declaration]
    unknown = [name for name in declared if not _provided(name, library)]
    assert not unknown, f"{', '.join(wanted)} needs {unknown}: machine code may not call Python"
    whole.verify()
    return whole


def _wrapper(native, symbol, signature):
    pointers = [t is not _I64 for t in signature]
    kinds = ["ptr" if pointer else "i64" for pointer in pointers]
    casts = [f"  %p{i} = inttoptr i64 %a{i} to ptr" for i, yes in enumerate(pointers) if yes]
    names = [f"%p{i}" if pointer else f"%a{i}" for i, pointer in enumerate(pointers)]
    return _WRAPPER.format(
        native=native,
        symbol=symbol,
        types="".join(f", {kind}" for kind in kinds),
        parameters=", ".join(f"i64 %a{i}" for i in range(len(kinds))),
        casts="".join(f"{cast}\n" for cast in casts),
        arguments="".join(f", {k} {n}" for k, n in zip(kinds, names, strict=True)),
    )


def _drop_unused(module):
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    machine = llvm.Target.from_default_triple().create_target_machine()
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))


def _provided(name, library):
    """Tell whether code generation or the C library has a function."""
    memory = {"memcpy", "memmove", "memset", "memcmp"}
    return name.startswith("llvm.") or name in memory or name in library
