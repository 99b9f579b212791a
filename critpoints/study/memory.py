"""Memory: how the libraries say that it is full, what they keep, and when not to look for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# of torch's allocators, which raise a RuntimeError
_PHRASES = ("out of memory", "can't allocate memory", "not enough memory", "unable to allocate")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, of the machine or of the GPU, is full."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def release_memory() -> None:
    """Gives back what is no longer referred to, on the GPU what the allocator keeps in reserve as well."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for garbage inside, where very many rows are made that all stay: it took a third of the time.

    As a decorator of a command it spares the search while libraries are imported too, a fifth of that time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
