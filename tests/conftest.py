"""What holds for every test: one thread a process, no display, Ctrl-C at work, reproducible examples."""

import os
import signal

import pytest

# Numba, BLAS and torch read these once, when they are first imported, so nothing that imports them may come before.
# A test that needs more threads starts a process of its own with its own setting.
for _variable in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import settings  # noqa: E402

# The same examples in every run, and no deadline: the first example of a kernel pays for its compilation.
settings.register_profile("critpoints", derandomize=True, deadline=None)
settings.load_profile("critpoints")


@pytest.fixture(scope="session")
def trained():
    """The seed study's problem and 16 width-5 students after 6000 steps; not to be written to."""
    import critpoints as cp

    problem = cp.TeacherStudent.grid()
    return problem, cp.train(problem, problem.init(5, range(16)), steps=6000).theta
