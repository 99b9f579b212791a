"""Fused multiply-add, bit casts, views and sums with a fixed order of additions, for the compiled CPU kernels.

Floating-point sums are the one thing that a vectorising compiler may reorder. ``dot`` and ``gradient_sums`` fix the
order in the source, so that a result depends on neither batch, thread count nor instruction set: 16 running sums,
added pairwise at the end.
"""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

_VECTOR = 8  # doubles a vector register holds on the widest current CPUs; narrower ones use several registers
_VECTORS = 2  # independent sums, to hide the latency of the multiply-add
_CACHE_LINE = 64  # bytes
_I64 = ir.IntType(64)
_VECTOR_TYPE = ir.VectorType(ir.DoubleType(), _VECTOR)
_DOUBLES = types.Array(types.float64, 1, "C")
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


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _vector_of_doubles(context: Any, builder: Any, data: Any, n: Any, owner: Any) -> Any:
    result = context.make_array(_DOUBLES)(context, builder)
    size = ir.Constant(_I64, 8)
    context.populate_array(result, data=data, shape=[n], strides=[size], itemsize=size, meminfo=owner)
    return result._getvalue()


@_intrinsic
def workspace(typingctx: Any, n: Any) -> Any:
    """n uninitialised doubles that begin on a cache line, so that no vector of 8 lies across two lines."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size, align = builder.mul(args[0], ir.Constant(_I64, 8)), ir.Constant(ir.IntType(32), _CACHE_LINE)
        owner = context.nrt.meminfo_alloc_aligned(builder, size=size, align=align)
        data = builder.bitcast(context.nrt.meminfo_data(builder, owner), ir.DoubleType().as_pointer())
        return _vector_of_doubles(context, builder, data, args[0], owner)

    return _DOUBLES(types.int64), codegen


@_intrinsic
def view(typingctx: Any, array: Any, start: Any, n: Any) -> Any:
    """The n doubles of a contiguous array from a flat index on, as a contiguous array that counts no reference.

    A slice would be strided for the compiler, which then does not vectorise, and would count a reference atomically:
    threads that read the same samples would wait for one another. The array must outlive the view, as an argument does.
    """
    if array.dtype != types.float64 or array.layout != "C":
        raise TypingError(f"view takes a contiguous array of float64, got {array}")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        return _vector_of_doubles(context, builder, data, args[2], None)

    return _DOUBLES(array, types.int64, types.int64), codegen


@_intrinsic
def scale_run(typingctx: Any, a: Any, b: Any, n: Any, out: Any) -> Any:
    """out[i] = a b[i] for i < n, rounded up to a multiple of 8.

    The arrays must have room for the up to 7 entries too many, which whoever comes next may overwrite.
    """
    signature = types.void(types.float64, b, types.int64, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factor = _spread(builder, args[0])
        source, target = (_data(context, builder, signature.args[k], args[k]) for k in (1, 3))
        with _whole_vectors(builder, args[2]) as address:
            level = builder.load(address(source), align=8)
            builder.store(builder.fmul(factor, level), address(target), align=8)
        return context.get_dummy_value()

    return signature, codegen


@_intrinsic
def add_run(typingctx: Any, a: Any, b: Any, n: Any, out: Any) -> Any:
    """out[i] = (1 + a) (1 + b[i]) - 1 = a b[i] + (a + b[i]), otherwise as ``scale_run``."""
    signature = types.void(types.float64, b, types.int64, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factor, fused = _spread(builder, args[0]), _fused_multiply_add(builder)
        source, target = (_data(context, builder, signature.args[k], args[k]) for k in (1, 3))
        with _whole_vectors(builder, args[2]) as address:
            level = builder.load(address(source), align=8)
            product = builder.call(fused, [factor, level, builder.fadd(factor, level)])
            builder.store(product, address(target), align=8)
        return context.get_dummy_value()

    return signature, codegen


@_intrinsic
def scale_run_less_one(typingctx: Any, a: Any, b: Any, n: Any, out: Any) -> Any:
    """out[i] = a b[i] - 1 with one rounding, otherwise as ``scale_run``."""
    signature = types.void(types.float64, b, types.int64, out)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factor, fused = _spread(builder, args[0]), _fused_multiply_add(builder)
        less_one = ir.Constant(_VECTOR_TYPE, [-1.0] * _VECTOR)
        source, target = (_data(context, builder, signature.args[k], args[k]) for k in (1, 3))
        with _whole_vectors(builder, args[2]) as address:
            product = builder.call(fused, [factor, builder.load(address(source), align=8), less_one])
            builder.store(product, address(target), align=8)
        return context.get_dummy_value()

    return signature, codegen


@_intrinsic
def logistic(typingctx: Any, e: Any, n: Any, s: Any, s1: Any) -> Any:
    """s = 1 / (1 + e) and s1 = s (1 - s) for i < n, n a multiple of 16, e = exp(-z) up to 1e150."""

    def finish(builder: Any, e: Any, r: Any) -> tuple[Any, Any]:
        return r, builder.fmul(builder.fmul(e, r), r)

    return _logistic_signature(e, s, s1), _logistic_codegen(lambda builder, e: e, finish)


@_intrinsic
def centred_logistic(typingctx: Any, em: Any, n: Any, s: Any, s1: Any) -> Any:
    """s = -em / (2 (2 + em)), which is sigmoid(z) - 1/2, and its derivative, from em = expm1(-z); see ``logistic``."""

    def exponential(builder: Any, em: Any) -> Any:
        return builder.fadd(em, ir.Constant(_VECTOR_TYPE, [1.0] * _VECTOR))

    def finish(builder: Any, em: Any, r: Any) -> tuple[Any, Any]:
        half = builder.fmul(ir.Constant(_VECTOR_TYPE, [-0.5] * _VECTOR), em)
        return builder.fmul(half, r), builder.fmul(builder.fmul(exponential(builder, em), r), r)

    return _logistic_signature(em, s, s1), _logistic_codegen(exponential, finish)


def _logistic_signature(e: Any, s: Any, s1: Any) -> Any:
    return types.void(e, types.int64, s, s1)


def _logistic_codegen(exponential: Callable[[Any, Any], Any], finish: Callable[[Any, Any, Any], Any]) -> Any:
    """One division serves two vectors, 1/a = b / (a b): dividing is what the sigmoid spends its time on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, values, slopes = (_data(context, builder, signature.args[k], args[k]) for k in (0, 2, 3))
        one = ir.Constant(_VECTOR_TYPE, [1.0] * _VECTOR)
        with _vectors(builder, args[1]) as each:
            loaded = [each.load(source, u) for u in range(2)]
            a, b = (builder.fadd(one, exponential(builder, value)) for value in loaded)
            both = builder.fdiv(one, builder.fmul(a, b))
            for u, (value, other) in enumerate(zip(loaded, (b, a), strict=True)):
                s, slope = finish(builder, value, builder.fmul(both, other))
                each.store(s, values, u)
                each.store(slope, slopes, u)
        return context.get_dummy_value()

    return codegen


def _spread(builder: Any, value: Any) -> Any:
    vector = builder.insert_element(ir.Constant(_VECTOR_TYPE, None), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), _VECTOR), [0] * _VECTOR))


@contextmanager
def _whole_vectors(builder: Any, n: Any) -> Iterator[Callable[[Any], Any]]:
    """A loop over n doubles, 8 at a time; gives address(pointer), that of the current 8."""
    with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), n, ir.Constant(_I64, _VECTOR)) as (i, _):
        yield lambda base: builder.bitcast(builder.gep(base, [i]), _VECTOR_TYPE.as_pointer())


def _fused_multiply_add(builder: Any) -> Any:
    name, signature = f"llvm.fma.v{_VECTOR}f64", ir.FunctionType(_VECTOR_TYPE, [_VECTOR_TYPE] * 3)
    return cgutils.get_or_insert_function(builder.module, signature, name)


class _Sums:
    """Running sums of products, one vector each; a sum's order of additions depends on its length alone."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        zero = ir.Constant(_VECTOR_TYPE, [0.0] * _VECTOR)
        self.running = [cgutils.alloca_once_value(builder, zero) for _ in range(_VECTORS)]

    def add(self, u: int, left: Any, right: Any) -> None:
        """Adds the products of two vectors to the u-th running sum."""
        fused = _fused_multiply_add(self.builder)
        total = self.builder.call(fused, [left, right, self.builder.load(self.running[u])])
        self.builder.store(total, self.running[u])

    def total(self) -> Any:
        """The running sums and then their lanes, added pairwise."""
        builder, total = self.builder, self.builder.load(self.running[0])
        for running in self.running[1:]:
            total = builder.fadd(total, builder.load(running))
        size = _VECTOR
        while size > 1:
            size //= 2
            mask = ir.VectorType(ir.IntType(32), size)
            halves = [
                builder.shuffle_vector(total, total, ir.Constant(mask, list(range(k, k + size)))) for k in (0, size)
            ]
            total = builder.fadd(*halves)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))


class _Vectors:
    """The current two vectors of 8 of a loop over arrays."""

    def __init__(self, builder: Any, i: Any) -> None:
        self.builder, self.i = builder, i

    def _address(self, pointer: Any, u: int) -> Any:
        builder = self.builder
        address = builder.gep(pointer, [builder.add(self.i, ir.Constant(_I64, u * _VECTOR))])
        return builder.bitcast(address, _VECTOR_TYPE.as_pointer())

    def load(self, pointer: Any, u: int) -> Any:
        """The u-th vector of an array."""
        return self.builder.load(self._address(pointer, u), align=8)

    def store(self, value: Any, pointer: Any, u: int) -> None:
        """Puts a vector in the place of the u-th of an array."""
        self.builder.store(value, self._address(pointer, u), align=8)


@contextmanager
def _vectors(builder: Any, n: Any) -> Iterator[_Vectors]:
    """A loop over n doubles, 16 at a time."""
    step = ir.Constant(_I64, _VECTOR * _VECTORS)
    with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), n, step) as (i, _):
        yield _Vectors(builder, i)


@_intrinsic
def dot(typingctx: Any, a: Any, b: Any, n: Any) -> Any:
    """sum_i a[i] * b[i] for i < n; n a multiple of 16, both arrays contiguous float64."""
    signature = types.float64(a, b, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right = (_data(context, builder, t, v) for t, v in zip(signature.args[:2], args[:2], strict=True))
        sums = _Sums(builder)
        with _vectors(builder, args[2]) as each:
            for u in range(_VECTORS):
                sums.add(u, each.load(left, u), each.load(right, u))
        return sums.total()

    return signature, codegen


@_intrinsic
def gradient_sums(typingctx: Any, e: Any, s: Any, s1: Any, x: Any, y: Any, n: Any) -> Any:
    """The sums of e s, (e s1) x and (e s1) y over i < n, each as ``dot`` adds it, in one pass through the arrays."""
    signature = types.UniTuple(types.float64, 3)(e, s, s1, x, y, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = (_data(context, builder, t, v) for t, v in zip(signature.args[:5], args[:5], strict=True))
        e, s, s1, x, y = arrays
        sums = [_Sums(builder) for _ in range(3)]
        with _vectors(builder, args[5]) as each:
            for u in range(_VECTORS):
                residual = each.load(e, u)
                slope = builder.fmul(residual, each.load(s1, u))
                for total, left, right in zip(sums, (residual, slope, slope), (s, x, y), strict=True):
                    total.add(u, left, each.load(right, u))
        return context.make_tuple(builder, signature.return_type, [each.total() for each in sums])

    return signature, codegen
