from pathlib import Path

import pytest

from critpoints.report.page import write_report
from critpoints.study.certify import certify_study
from critpoints.study.run import run_study
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of widths 1 and 2, six seeds each, with certificates; not to be written to."""
    path = tmp_path_factory.mktemp("report") / "study.db"
    with Store.create(path, StudySpec(steps=20, lr=1e-2)) as store:
        run_study(store, [1, 2], range(6))
        certify_study(store, [1])
    return path


@pytest.fixture(scope="session")
def page(study: Path) -> Path:
    """The report on that study."""
    path = study.with_suffix(".html")
    with Store.open(study) as store:
        write_report(store, path)
    return path
