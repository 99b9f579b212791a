"""What the command line ends with, and which error means which code."""

from __future__ import annotations

from enum import IntEnum

from critpoints.errors import (
    CritpointsError,
    DeviceUnavailable,
    InvalidArgument,
    InvalidData,
    SpecMismatch,
    StoreError,
)


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1  # a claim failed, or a check said no
    USAGE = 2
    BAD_DATA = 3  # or a study with another specification
    STORE = 4  # or input and output
    INCOMPLETE = 5
    INTERRUPTED = 130
    TERMINATED = 143


# the first class that fits decides, so a subclass stands before its base
_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (InvalidData, ExitCode.BAD_DATA),
    (SpecMismatch, ExitCode.BAD_DATA),
    (InvalidArgument, ExitCode.USAGE),
    (DeviceUnavailable, ExitCode.USAGE),
    (StoreError, ExitCode.STORE),
    (OSError, ExitCode.STORE),
    (CritpointsError, ExitCode.FAILED),
)


def exit_code(error: Exception) -> ExitCode:
    """The code that an error ends the command with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
