import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from critpoints.errors import CritpointsError, DeviceUnavailable, InvalidArgument, InvalidData
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.study.initial import load_initial
from critpoints.study.problems import prepare, resolve_problem
from critpoints.study.spec import StudySpec

PROBLEMS = """
import torch
import critpoints as cp

def line():
    return cp.TeacherStudent.gaussian(20, 1, teacher_width=1)

class Bowl(cp.Objective):
    dim = 3
    def loss(self, theta):
        return (theta**2).sum(-1)

def bowl():
    return Bowl()

class Crooked(Bowl):
    def gradient(self, theta):
        return theta

def crooked():
    problem = Crooked()
    problem.init = lambda width, seeds, scheme: torch.ones(len(seeds), 3, dtype=torch.float64)
    return problem

def single():
    return cp.TeacherStudent.grid(dtype=torch.float32)

def number():
    return 3

def started(problem, make):
    problem.init = make
    return problem

def ones(width, seeds, scheme):
    return torch.ones(len(seeds), 3, dtype=torch.float64)

class Infinite(Bowl):
    def loss(self, theta):
        return torch.log(-theta.square().sum(-1))

def infinite():
    return started(Infinite(), ones)

class Torn(Bowl):
    def loss(self, theta):
        return (theta @ torch.ones(2, dtype=theta.dtype)).sum(-1)

def torn():
    return started(Torn(), ones)

class Mixed(Bowl):
    def loss(self, theta):
        return (theta**2).sum(-1) / theta.detach().reshape(-1).max()

def mixed():
    return started(Mixed(), ones)

def lost():
    return started(Bowl(), lambda width, seeds, scheme: torch.full((len(seeds), 3), torch.nan))

def shapeless():
    return started(Bowl(), lambda width, seeds, scheme: torch.ones(len(seeds), 4, dtype=torch.float64))

def impatient():
    return started(Bowl(), lambda seeds: torch.ones(len(seeds), 3))

class Huge(Bowl):
    dim = 5000

def huge():
    return started(Huge(), lambda width, seeds, scheme: torch.ones(len(seeds), 5000, dtype=torch.float64))

def module():
    net = torch.nn.Linear(2, 1)
    return cp.ModuleObjective(net, torch.nn.functional.mse_loss, (torch.ones(3, 2), torch.ones(3, 1)))

def raising():
    return 1 / 0

def kernel():
    return cp.GaussianReluObjective(2)

constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "problems.py"
    path.write_text(PROBLEMS)
    return path


def own(file: Path, function: str) -> StudySpec:
    return StudySpec(problem=f"{file}:{function}", activation=None)


def test_the_grid_takes_the_activation() -> None:
    problem = resolve_problem(StudySpec(activation="tanh"))
    assert isinstance(problem, TeacherStudent) and problem.activation.name == "tanh"


def test_a_function_of_a_file(file: Path) -> None:
    prepared = prepare(own(file, "line"), [1, 2])
    assert isinstance(prepared.problem, TeacherStudent) and prepared.problem.x.shape == (20, 1)
    assert prepared.spec.code is not None


def test_a_function_of_a_module() -> None:
    spec = StudySpec(problem="critpoints.objectives.teacher_student:TeacherStudent.grid", activation=None)
    with pytest.raises(InvalidArgument, match=r"no function 'TeacherStudent.grid'"):
        prepare(spec, [1])
    with pytest.raises(InvalidArgument, match="no module"):
        prepare(StudySpec(problem="critpoints.astrology:chart", activation=None), [1])


def test_a_changed_source_is_another_problem(file: Path) -> None:
    spec = prepare(own(file, "line"), [1]).spec
    file.write_text(PROBLEMS.replace("20, 1", "21, 1"))
    with pytest.raises(InvalidData, match="has changed"):
        resolve_problem(spec)
    assert prepare(own(file, "line"), [1]).spec.hash != spec.hash


def test_any_objective_will_do_with_a_file_of_points(file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", width_1=np.eye(3))
    prepared = prepare(own(file, "bowl"), [1], seeds=range(3), init_from=tmp_path / "points.npz")
    assert prepared.initial.rows(prepared.problem, 1, [2, 0], "").tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("problem", "phrase"),
    [
        ("grid2", "package.module:function"),
        (":f", "package.module:function"),
        ("nowhere.py:f", "no file nowhere.py"),
        ("{file}:missing", "no function 'missing'"),
        ("{file}:constant", "no function 'constant'"),
        ("{file}:number", "must return an Objective, it returned int"),
        ("{file}:bowl", "has no init"),
        ("{file}:single", "make them agree"),
        ("{file}:crooked", "py:crooked: Crooked does not pass: .gradient.* does not hold: off by"),
        ("{file}:infinite", "infinite.*loss is not finite although theta is"),
        ("{file}:torn", "torn failed: RuntimeError.*problems.py, line"),
        ("{file}:mixed", "mixed: Mixed does not pass: .*a row"),
        ("{file}:lost", "lost.*must return finite rows"),
        ("{file}:shapeless", r"must return finite rows.*shape \(2, 3\).*got \(2, 4\)"),
        ("{file}:impatient", r"init\(width, seeds, scheme\) failed: TypeError"),
        ("{file}:huge", "5000 parameters and no hessian of its own.*critpoints spectrum"),
        ("{file}:module", "is a ModuleObjective.*critpoints spectrum"),
        ("{file}:raising", "raising failed: ZeroDivisionError: division by zero .problems.py, line"),
        ("{file}:kernel", "kernel: init.*failed: TypeError"),
    ],
)
def test_unusable_problems_are_refused(file: Path, problem: str, phrase: str) -> None:
    with pytest.raises(CritpointsError, match=phrase):
        prepare(StudySpec(problem=problem.format(file=file), activation=None), [1])


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        ("def f(:", "failed: SyntaxError"),
        ("import no_such_library", "failed: ModuleNotFoundError.*no_such_library"),
        ("raise RuntimeError('not today')", "failed: RuntimeError: not today .broken.py, line 1"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(tmp_path: Path, source: str, phrase: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(InvalidArgument, match=phrase):
        prepare(StudySpec(problem=f"{path}:f", activation=None), [1])


def test_a_problem_may_import_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "its_data.py").write_text("samples = 20")
    text = "import critpoints as cp, its_data\ndef f(): return cp.TeacherStudent.gaussian(its_data.samples, 1)"
    (tmp_path / "its_problem.py").write_text(text)
    prepared = prepare(StudySpec(problem=f"{tmp_path / 'its_problem.py'}:f", activation=None), [1])
    assert isinstance(prepared.problem, TeacherStudent) and len(prepared.problem.x) == 20


def test_one_point_in_a_file_is_enough(file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "points.npz", width_1=np.ones((1, 3)))
    assert prepare(own(file, "bowl"), [1], seeds=range(1), init_from=tmp_path / "points.npz").initial.students


def test_an_activation_belongs_to_the_grid(file: Path) -> None:
    with pytest.raises(InvalidArgument, match="activation belongs to the problem grid"):
        prepare(StudySpec(problem=f"{file}:line"), [1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_reported() -> None:
    with pytest.raises(DeviceUnavailable, match="no GPU"):
        prepare(StudySpec(device="cuda"), [1])


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_initial_students_from_a_file(tmp_path: Path, ending: str) -> None:
    problem, path = TeacherStudent.grid(), tmp_path / f"students{ending}"
    arrays = {"width_1": np.ones((2, 3)), "width_2": np.full((3, 6), 0.5, dtype=np.float32)}
    np.savez(path, **arrays) if ending == ".npz" else save_file(arrays, path)
    initial = load_initial(path, problem, [2])
    assert initial.rows(problem, 2, [1, 2], "").tolist() == [[0.5] * 6] * 2
    assert initial.checksum == load_initial(path, problem, [1, 2]).checksum  # of the file, not of the widths


def test_the_checksum_knows_shapes_and_values(tmp_path: Path) -> None:
    problem, path = TeacherStudent.grid(), tmp_path / "students.npz"
    checksums = set()
    for arrays in ({"a": np.zeros((2, 3))}, {"b": np.zeros((2, 3))}, {"b": np.zeros((1, 3))}, {"b": np.ones((1, 3))}):
        np.savez(path, **arrays)
        checksums.add(load_initial(path, problem, [1]).checksum)
    assert len(checksums) == 3  # of one array the name is free


@pytest.mark.parametrize(
    ("arrays", "phrase"),
    [
        ({"width_2": np.full((2, 6), np.nan)}, "12 entries that are NaN or infinite, the first in row 0"),
        ({"width_2": np.ones((2, 5))}, r"must have shape \(S, 6\).*got \(2, 5\)"),
        ({"width_2": np.ones(6)}, r"got \(6,\)"),
        ({"width_2": np.ones((0, 6))}, r"got \(0, 6\)"),
        ({"width_2": np.ones((2, 6), dtype=int)}, "dtype int64"),
        ({"width_2": np.ones((2, 6), dtype=np.float16)}, "dtype float16"),
        ({"width_2": np.array([[None] * 6])}, "cannot be read"),
        ({"width_3": np.ones((2, 9)), "x": np.ones(1)}, "has no array width_2, it has width_3, x"),
        ({"width_2": np.ones((2, 6))}, "has 2 rows of width 2.*seeds up to 4"),
    ],
    ids=str,
)
def test_unusable_initial_students_are_refused(tmp_path: Path, arrays: dict, phrase: str) -> None:
    path = tmp_path / "students.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidData, match=phrase):
        prepare(StudySpec(), [2], seeds=range(5), init_from=path)


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_a_damaged_file_of_students_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"students{ending}"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InvalidData, match="cannot be read"):
        prepare(StudySpec(), [2], init_from=path)


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\.npz or \.safetensors"):
        prepare(StudySpec(), [2], init_from=tmp_path / "students.csv")
