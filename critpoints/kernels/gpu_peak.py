"""How many floating-point operations a second a card does: a kernel of nothing but independent multiply-adds."""

# The language of kernels is not Python's: types are those of Triton's compiler.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false
# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHAINS, LANES, WARPS = 8, 128, 4  # chains that do not wait for one another; lanes of a program, one a thread
TURNS = 16  # multiply-adds of each chain written out in a turn of the loop, so that its counter costs nothing


@triton.jit
def multiply_add_kernel(x, out, turns, CHAINS: tl.constexpr, TURNS: tl.constexpr, LANES: tl.constexpr):
    """Each lane iterates u <- u x + x on CHAINS values; their sum is stored so that none is left out."""
    i = tl.program_id(0) * LANES + tl.arange(0, LANES)
    factor = tl.load(x + i)
    values = ()
    for chain in tl.static_range(CHAINS):
        values = values + (factor * chain,)
    for _turn in range(turns):
        for _part in tl.static_range(TURNS):
            new = ()
            for c in tl.static_range(CHAINS):
                new = new + (tl.fma(values[c], factor, factor),)
            values = new
    total = values[0]
    for chain in tl.static_range(1, CHAINS):
        total += values[chain]
    tl.store(out + i, total)


def multiply_adds(x: Tensor, turns: int) -> tuple[Tensor, int]:
    """Runs the kernel on ``x``, whose length is a multiple of 128: the sums (N,), and the operations done.

    A multiply-add counts two.
    """
    out = torch.empty_like(x)
    multiply_add_kernel[(len(x) // LANES,)](x, out, turns, CHAINS, TURNS, LANES, num_warps=WARPS)
    return out, 2 * CHAINS * TURNS * turns * len(x)
