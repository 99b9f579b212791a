"""Running out of memory: how the libraries say so, and what they keep."""

from __future__ import annotations

import gc

import torch

# of torch's allocators, which raise a RuntimeError
_PHRASES = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, of the machine or of the GPU, is full."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def release_memory() -> None:
    """Gives back what is no longer referred to, on the GPU what the allocator keeps in reserve as well."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
