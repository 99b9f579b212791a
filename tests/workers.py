"""What units do in workers of tests, importable by them: crash, hang, raise, until a file says that they have."""

import os
import signal
import time
from pathlib import Path

from critpoints.study import run
from critpoints.study.initial import Initial
from critpoints.study.scheduling import Computed
from critpoints.study.spec import StudySpec
from critpoints.study.units import Unit

VARIABLE = "CRITPOINTS_TEST_FOLDER"  # where the files are
ORIGINAL = run.compute_elsewhere


def misbehave(spec: StudySpec, unit: Unit, initial: Initial) -> Computed:
    """Computes a unit, after what a file named after its first seed asks for as often as it has lines."""
    asked = Path(os.environ[VARIABLE]) / f"{unit.width}-{unit.seeds[0]}"
    if asked.exists() and (lines := asked.read_text().splitlines()):
        asked.write_text("\n".join(lines[1:]))
        if lines[0] == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif lines[0] == "hang":
            time.sleep(3600)
        raise ZeroDivisionError(f"as {asked.name} asked for")
    return ORIGINAL(spec, unit, initial)
