"""From the name of a device to one that is there."""

from __future__ import annotations

import torch

from critpoints.errors import DeviceUnavailable, InvalidArgument

AUTO = "auto"


def resolve_device(device: torch.device | str) -> torch.device:
    """The device of this name; ``auto`` is the GPU where torch finds one, else the CPU.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` for the second GPU, ``auto``, or a ``torch.device``.

    Raises:
        InvalidArgument: no name of a device.
        DeviceUnavailable: a GPU that torch does not find.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidArgument(f"device must be cpu, cuda, cuda:1 or the like, or {AUTO}, got {device!r}") from error
    if found.type == "cuda":
        _require_gpu(found)
    return found


def _require_gpu(device: torch.device) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        build = "this torch was built without CUDA" if torch.version.cuda is None else "no GPU, or no driver for it"
        raise DeviceUnavailable(
            f"device {device} was asked for, but torch finds no GPU here ({build}); use --device cpu or auto"
        )
    if device.index is not None and device.index >= count:
        raise DeviceUnavailable(f"device {device} was asked for, but there are {count} GPUs, numbered from 0")
