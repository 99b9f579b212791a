"""Grids from TOML: what they mean, and which mistakes are named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.study.grid import load_grid, parse_grid
from critpoints.study.problems import prepare, resolve_problem
from critpoints.study.spec import StudySpec


def test_every_combination_is_a_study() -> None:
    axes = {
        "learning-rates": [1e-3, 1e-2],
        "activations": ["sigmoid", "tanh"],
        "teachers": ["seed-study", "random:3:1"],
    }
    grid = parse_grid({"widths": [2, 1, 2], "seeds": 7, "seed-start": 3, "steps": 20, **axes, "data": "grid"})
    assert (grid.widths, grid.seeds) == ((1, 2), range(3, 10))
    found = {(spec.lr, spec.activation, spec.teacher, spec.data) for spec in grid.specs}
    assert found == {(lr, s, t, None) for lr in (1e-3, 1e-2) for s in ("sigmoid", "tanh") for t in (None, "random:3:1")}
    assert {spec.steps for spec in grid.specs} == {20}
    names = grid.prepare()
    assert len(names) == 8 and all(name.endswith(f"{each.spec.hash[:8]}.db") for name, each in names.items())


def test_the_study_of_the_seed_study_is_that_of_classify() -> None:
    (spec,) = parse_grid({"widths": "4-6,10", "teachers": ["seed-study"], "data": ["grid"]}).specs
    assert spec == StudySpec()
    assert "teacher" not in spec.to_json()  # nor does the hash of older studies change
    assert StudySpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"widht": 4}, "there is no key 'widht'; did you mean 'widths'?"),
        ({"learning_rate": [1e-3]}, "there is no key 'learning_rate'; did you mean 'learning-rates'?"),
        ({"xyzzy": 1}, "there is no key 'xyzzy'; the keys are widths, seeds"),
        ({"seeds": 3}, "widths must be given"),
        ({"widths": "4-"}, "widths must be like"),
        ({"widths": 0}, "widths must be from 1 to"),
        ({"widths": []}, "widths must be from 1 to"),
        ({"widths": [4.5]}, r"widths must be an integer, got 4\.5"),
        ({"widths": 4, "seeds": 0}, "seeds must be how many"),
        ({"widths": 4, "seeds": True}, "seeds must be an integer, got True"),
        ({"widths": 4, "learning-rates": ["fast"]}, "learning-rates must be a number, got 'fast'"),
        ({"widths": 4, "learning-rates": []}, "learning-rates must name at least one"),
        ({"widths": 4, "learning-rates": [1e-3, 1e-3]}, "must name each value once"),
        ({"widths": 4, "learning-rates": [-1.0]}, "lr must be a positive number"),
        ({"widths": 4, "method": "adams"}, "method must be one of"),
        ({"widths": 4, "method": "gradient-flow", "steps": 3}, "gradient flow has no learning rates"),
        ({"widths": 4, "problem": "mine.py:line", "teachers": ["random:3:1"]}, r"teachers belong to the problem grid"),
    ],
)
def test_mistakes_are_named(values: dict, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint.replace("?", r"\?")):
        parse_grid(values)


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text("widths = 4\nstep = 3\n")
    with pytest.raises(InvalidArgument, match=r"spec\.toml: there is no key 'step'; did you mean 'steps'\?"):
        load_grid(path)
    path.write_text("widths = 4 5")
    with pytest.raises(InvalidArgument, match="is not TOML"):
        load_grid(path)


def test_teachers_and_data() -> None:
    problem = resolve_problem(StudySpec(teacher="random:3:7", data="gaussian:50:4:2"))
    assert isinstance(problem, TeacherStudent)
    assert tuple(problem.x.shape) == (50, 4) and problem.teacher_width == 3
    assert float(problem.loss(problem.teacher)) < 1e-30  # rounding
    w, a = problem.split(problem.teacher)
    assert torch.allclose(w.norm(dim=1), torch.ones(3, dtype=torch.float64)) and a.tolist() == [1, -1, 1]
    again = resolve_problem(StudySpec(teacher="random:3:7", data="gaussian:50:4:2"))
    assert torch.equal(problem.x, again.x) and torch.equal(problem.teacher, again.teacher)  # type: ignore[attr-defined]
    other_data = resolve_problem(StudySpec(data="gaussian:50:2:2"))
    assert torch.equal(other_data.teacher, TeacherStudent.grid().teacher)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ({"teacher": "random:3"}, "teacher must be seed-study, random:NEURONS:SEED"),
        ({"teacher": "random:0:1"}, "at least one neuron"),
        ({"data": "gauss:5:2:1"}, "data must be grid, gaussian:N:D:SEED"),
        ({"data": "gaussian:5:3:1"}, "teacher seed-study has 2 inputs, data gaussian:5:3:1 have 3"),
    ],
)
def test_names_that_mean_nothing(names: dict, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        resolve_problem(StudySpec(**names))


def test_teachers_and_data_from_files(tmp_path: Path) -> None:
    x, teacher = np.random.default_rng(0).standard_normal((20, 2)), np.array([1.0, 0.5, -1.0])
    np.savez(tmp_path / "mine.npz", x=x, teacher=teacher)
    spec = StudySpec(teacher=str(tmp_path / "mine.npz"), data=str(tmp_path / "mine.npz"))
    prepared = prepare(spec, [2])
    assert prepared.problem.x.tolist() == x.tolist()  # type: ignore[attr-defined]
    assert prepared.problem.teacher.tolist() == teacher.tolist()  # type: ignore[attr-defined]
    np.savez(tmp_path / "mine.npz", x=x + 1, teacher=teacher)
    with pytest.raises(InvalidData, match="has changed"):
        resolve_problem(prepared.spec)
    np.savez(tmp_path / "mine.npz", y=x)
    with pytest.raises(InvalidData, match="no array"):
        resolve_problem(spec)
    with pytest.raises(InvalidData, match="no file"):
        resolve_problem(StudySpec(data=str(tmp_path / "nothing.npz")))
