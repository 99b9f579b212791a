"""Ctrl-C and SIGTERM as one exception, which no library below takes for its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .exit_codes import ExitCode

_SIGNALS = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class Interrupted(BaseException):
    """The process was asked to end; ``exit_code`` says by what."""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # asked twice, the process ends at once; the study survives that as well
    raise Interrupted(_SIGNALS[signal.Signals(number)])


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises ``Interrupted`` on Ctrl-C and SIGTERM inside the block, unless the parent process had them ignored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
