"""The few lines of LLVM that intrinsics share; numba compiles none of it."""

from llvmlite import ir
from numba.core import cgutils

_I32 = ir.IntType(32)


def function(builder, name, result, arguments):
    """Give a function of LLVM's or the module's, declared if it is not."""
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name)


def word(builder, name, result, arguments):
    """Give a function that is defined when an object is made (`compress.with_words`).

    Until then it stands there weak, so that nobody inlines or looks into it, and ends the process:
    numba loads whatever it compiles, and wants no function missing.
    """
    found = function(builder, name, result, arguments)
    if found.is_declaration:
        found.linkage = "weak"
        inside = ir.IRBuilder(found.append_basic_block())
        inside.call(function(inside, "llvm.trap", ir.VoidType(), []), [])
        inside.unreachable()
    return found


def load(builder, address, kind):
    """Load from an int64 address of any alignment."""
    value = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    value.align = 1
    return value


def store(builder, value, address):
    """Store to an int64 address of any alignment."""
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type))).align = 1


def splat(builder, scalar, lanes):
    """Give a vector with `scalar` in every lane."""
    unset = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(unset, scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, unset, zeros)
