from pathlib import Path

import numpy as np
import pytest
from study_cases import saddles

from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.report.page import write_report
from critpoints.study.certify import certify_study
from critpoints.study.problems import prepare
from critpoints.study.run import run_study
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of widths 1 and 2, six seeds each, saddles among them, with certificates; not to be written to."""
    folder, problem = tmp_path_factory.mktemp("report"), TeacherStudent.grid()
    starts = {f"width_{width}": problem.init(width, range(6)).numpy() for width in (1, 2)}
    starts["width_2"][:4] = saddles()
    np.savez(folder / "starts.npz", **starts)
    prepared = prepare(StudySpec(steps=0), [1, 2], init_from=folder / "starts.npz")
    with Store.create(folder / "study.db", prepared.spec) as store:
        run_study(store, [1, 2], range(6), problem=problem, initial=prepared.initial)
        certify_study(store, [1])
    return folder / "study.db"


@pytest.fixture(scope="session")
def page(study: Path) -> Path:
    """The report on that study."""
    path = study.with_suffix(".html")
    with Store.open(study) as store:
        write_report(store, path)
    return path
