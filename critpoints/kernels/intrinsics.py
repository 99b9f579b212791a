"""Fused multiply-add, bit casts and a dot product with a fixed order of additions, for the compiled CPU kernels.

Floating-point sums are the one thing that a vectorising compiler may reorder. ``dot`` fixes the order in the source,
so that a result depends on neither batch, thread count nor instruction set: 16 running sums, added pairwise at the end.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_VECTOR = 8  # doubles a vector register holds on the widest current CPUs; narrower ones use several registers
_VECTORS = 2  # independent sums, to hide the latency of the multiply-add
_I64 = ir.IntType(64)
_intrinsic: Any = intrinsic  # its result is called with one argument less than the function has


@_intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@_intrinsic
def as_float(typingctx: Any, bits: Any) -> Any:
    """The double with these 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@_intrinsic
def as_bits(typingctx: Any, value: Any) -> Any:
    """The 64 bits of a double."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I64)

    return types.int64(types.float64), codegen


@_intrinsic
def dot(typingctx: Any, a: Any, b: Any, n: Any) -> Any:
    """sum_i a[i] * b[i] for i < n; n a multiple of 16, both arrays contiguous float64."""
    signature = types.float64(a, b, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = context.make_array(signature.args[0])(context, builder, args[0]).data
        right = context.make_array(signature.args[1])(context, builder, args[1]).data
        vector = ir.VectorType(ir.DoubleType(), _VECTOR)
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{_VECTOR}f64"
        )
        zero = ir.Constant(vector, [0.0] * _VECTOR)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(_VECTORS)]

        def load(pointer: Any, index: Any) -> Any:
            return builder.load(builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer()), align=8)

        step = ir.Constant(_I64, _VECTOR * _VECTORS)
        with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), args[2], step) as (i, _):
            for u, running in enumerate(sums):
                k = builder.add(i, ir.Constant(_I64, u * _VECTOR))
                builder.store(builder.call(fused, [load(left, k), load(right, k), builder.load(running)]), running)
        total = builder.load(sums[0])
        for running in sums[1:]:
            total = builder.fadd(total, builder.load(running))
        size = _VECTOR
        while size > 1:
            size //= 2
            halves = [
                builder.shuffle_vector(
                    total, total, ir.Constant(ir.VectorType(ir.IntType(32), size), list(range(k, k + size)))
                )
                for k in (0, size)
            ]
            total = builder.fadd(*halves)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return signature, codegen
