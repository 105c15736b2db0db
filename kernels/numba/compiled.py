"""What makes a function a skeleton: it takes and gives int64 and never needs Python.

A decorated function is a numba dispatcher that other skeletons can call. Python calls its machine
code, through `kernels.skeletons`.
"""

import importlib

import llvmlite.binding as llvm
from numba import njit, types

_I64 = types.int64
_WRAPPER = """
declare i32 @"{native}"(ptr, ptr{types})
define i64 @"{symbol}"({parameters}) {{
  %result = alloca i64
  %status = call i32 @"{native}"(ptr %result, ptr null{arguments})
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
    whole = llvm.parse_assembly("")
    for kernel_name, symbol in symbols.items():
        dispatcher = getattr(source, kernel_name)
        signature = (_I64,) * dispatcher.py_func.__code__.co_argcount
        dispatcher.compile(signature)
        found = dispatcher.overloads[signature]
        whole.link_in(llvm.parse_assembly(found.library.get_llvm_str()))
        native = found.fndesc.llvm_func_name
        whole.link_in(llvm.parse_assembly(_wrapper(native, symbol, len(signature))))
    kept = set(symbols.values())
    for item in (*whole.functions, *whole.global_variables):
        if not item.is_declaration and item.name not in kept:
            item.linkage = "internal"
    _drop_unused(whole)
    unknown = [f.name for f in whole.functions if f.is_declaration and not _provided(f.name)]
    assert not unknown, f"{name} needs {unknown}: a skeleton may not call Python"
    whole.verify()
    return whole


def _wrapper(native, symbol, count):
    return _WRAPPER.format(
        native=native,
        symbol=symbol,
        types=", i64" * count,
        parameters=", ".join(f"i64 %a{i}" for i in range(count)),
        arguments="".join(f", i64 %a{i}" for i in range(count)),
    )


def _drop_unused(module):
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    machine = llvm.Target.from_default_triple().create_target_machine()
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))


def _provided(name):
    """Tell whether code generation or the C library has a function."""
    return name.startswith("llvm.") or name in {"memcpy", "memmove", "memset", "memcmp"}
