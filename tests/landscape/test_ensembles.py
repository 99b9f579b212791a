"""Averages of weights and of predictions, against what is computed by hand."""

import pytest
import torch
from torch import nn

import critpoints as cp
from critpoints.errors import InvalidArgument
from critpoints.landscape.ensembles import compare_ensembles
from critpoints.objectives.wedges import WedgeObjective


def linear(loss_fn, y: torch.Tensor) -> tuple[cp.ModuleObjective, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(12, 3, dtype=torch.float64)
    objective = cp.ModuleObjective(nn.Linear(3, 4, bias=False).double(), loss_fn, (x, y))
    return objective, x, torch.randn(3, 12, dtype=torch.float64)


def test_probabilities_of_classes_are_averaged() -> None:
    y = torch.arange(12) % 4
    objective, x, members = linear(nn.functional.cross_entropy, y)
    found = compare_ensembles(objective, members)
    logits = torch.stack([x @ row.reshape(4, 3).T for row in members])
    mean = logits.softmax(-1).mean(0)
    assert found.form == "probabilities"
    assert found.fge_loss == pytest.approx(float(-mean[range(12), y].log().mean()), rel=1e-12)
    assert found.fge_accuracy == pytest.approx(float((mean.argmax(-1) == y).double().mean()))
    swa = x @ members.mean(0).reshape(4, 3).T
    assert found.swa_loss == pytest.approx(float(nn.functional.cross_entropy(swa, y)), rel=1e-12)
    assert found.swa_accuracy == pytest.approx(float((swa.argmax(-1) == y).double().mean()))
    torch.testing.assert_close(found.member_accuracies, (logits.argmax(-1) == y).double().mean(-1))
    torch.testing.assert_close(found.member_losses, objective.loss(members))


def test_a_linear_model_averages_weights_and_outputs_alike() -> None:
    objective, _, members = linear(nn.functional.mse_loss, torch.randn(12, 4, dtype=torch.float64))
    found = compare_ensembles(objective, members)
    assert found.form == "outputs" and found.swa_accuracy is None
    assert found.fge_loss == pytest.approx(found.swa_loss, rel=1e-12)


def test_students_average_their_outputs_with_the_weights_of_the_samples() -> None:
    problem = cp.TeacherStudent.gaussian(20, 2, teacher_width=2, scale=0.5, sample_weight=torch.arange(1.0, 21))
    members = problem.init(3, range(4))
    found = compare_ensembles(problem, members)
    error = problem.predict(members).mean(0) - problem.y
    weight = torch.arange(1.0, 21, dtype=torch.float64) / 210
    assert found.fge_loss == pytest.approx(0.5 * float((weight * error**2).sum()), rel=1e-12)
    alone = compare_ensembles(problem, members[:1])
    assert alone.fge_loss == pytest.approx(alone.swa_loss, rel=1e-12) and alone.spread == 0.0


def test_without_outputs_the_mean_loss_is_a_bound() -> None:
    model = WedgeObjective([[0], [1]], 2)
    members = torch.tensor([[0.0, 4.0], [4.0, 0.0]], dtype=torch.float64)
    found = compare_ensembles(model, members)
    assert (found.form, found.fge_loss, found.swa_loss) == ("bound", 0.0, 2.0)  # the mean is (2, 2)
    assert found.spread == pytest.approx(8**0.5)


def test_predictions_need_outputs() -> None:
    with pytest.raises(InvalidArgument, match="got WedgeObjective; use form='bound'"):
        compare_ensembles(WedgeObjective([[0]], 2), torch.zeros(2, 2), form="outputs")
    with pytest.raises(InvalidArgument, match="form must be one of"):
        compare_ensembles(WedgeObjective([[0]], 2), torch.zeros(2, 2), form="mean")
