"""float32 means float32: no TF32 and no bfloat16 inside, whatever the process or the caller has switched on.

A Hessian-vector product with a 10-bit mantissa looks like one with 23 until its residual stalls at 1e-3. Whoever wants
the lower precision asks for it by the objective's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_PLACES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def _setting(place: str) -> tuple[Any, str, Any] | None:
    """The object, attribute and value that keep one kind of operation in float32; None where torch has no choice."""
    owner: Any = torch.backends
    for part in place.split("."):
        owner = getattr(owner, part, None)
    if hasattr(owner, "fp32_precision"):
        return owner, "fp32_precision", "ieee"
    if place == "cuda.matmul":  # torch before 2.9
        return torch.backends.cuda.matmul, "allow_tf32", False
    return (torch.backends.cudnn, "allow_tf32", False) if place == "cudnn.conv" else None


@contextmanager
def full_precision(dtype: torch.dtype) -> Iterator[None]:
    """Inside, operations on float32 are computed in float32; the caller's settings are restored afterwards.

    Args:
        dtype: of the computation; nothing is done unless it is float32, the only one that torch lowers by itself.
    """
    if dtype != torch.float32:
        yield
        return
    with ExitStack() as stack:
        for owner, name, value in filter(None, map(_setting, _PLACES)):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
