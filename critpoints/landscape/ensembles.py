"""Averages of weights against averages of predictions: SWA and FGE, within a low-loss region and across several.

SWA: Izmailov et al. (arXiv 1803.05407). FGE: Garipov et al. (arXiv 1802.10026).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from critpoints.errors import InvalidArgument, require
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import to_plain

FORMS = ("probabilities", "outputs", "bound")


@dataclass(frozen=True)
class EnsembleComparison:
    """K members, the mean of their weights and the mean of their predictions.

    Attributes:
        member_losses: (K,).
        swa_loss: of the mean of the weights.
        fge_loss: of the mean of the predictions; for ``bound`` the mean of the members' losses.
        member_accuracies, swa_accuracy, fge_accuracy: shares of correct classes; None where there are no classes.
        spread: the root mean square distance of the members from their mean.
        form: what was averaged: ``probabilities`` of classes, ``outputs``, or for objectives without outputs nothing:
            by convexity the mean loss is an upper ``bound`` of a convex loss of mean outputs.
    """

    member_losses: Tensor
    swa_loss: float
    fge_loss: float
    member_accuracies: Tensor | None
    swa_accuracy: float | None
    fge_accuracy: float | None
    spread: float
    form: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return to_plain(self)


def compare_ensembles(objective: Objective, members: Tensor, *, form: str | None = None) -> EnsembleComparison:
    """Compares the mean of weights (SWA) with the mean of predictions (FGE).

    Args:
        objective: on the data to be judged by, held-out ones say. A ``ModuleObjective`` must hold one batch (x, y).
        members: (K, P).
        form: see ``EnsembleComparison``. By default ``probabilities`` for a ``ModuleObjective`` with integer targets
            (its loss must be a cross-entropy of logits), ``outputs`` for other targets and two-layer objectives,
            ``bound`` for the rest.

    Raises:
        InvalidArgument: a form that the objective does not have.
    """
    members = objective.validate(members).detach()
    require(members.ndim == 2 and len(members) >= 1, f"members must be (K, P), got {tuple(members.shape)}")
    chosen = _default_form(objective) if form is None else form
    require(chosen in FORMS, f"form must be one of {', '.join(FORMS)}, got {form!r}")
    mean = members.mean(0)
    losses = objective.loss(torch.cat([members, mean[None]])).detach().double().cpu()
    spread = float((members - mean).double().square().sum(1).mean().sqrt())
    common: dict[str, Any] = {"member_losses": losses[:-1], "swa_loss": float(losses[-1]), "spread": spread}
    if chosen == "bound":
        return EnsembleComparison(
            **common,
            fge_loss=float(losses[:-1].mean()),
            member_accuracies=None,
            swa_accuracy=None,
            fge_accuracy=None,
            form=chosen,
        )
    outputs = torch.stack([_outputs(objective, row) for row in torch.cat([members, mean[None]])])
    if chosen == "outputs":
        combined = _output_loss(objective, outputs[:-1].mean(0))
        accuracies = [None] * 3
    else:
        log_mean = F.log_softmax(outputs[:-1].double(), -1).logsumexp(0) - torch.tensor(float(len(members))).log()
        combined = _output_loss(objective, log_mean.to(outputs.dtype))
        target = _content(objective)[1]
        correct = (torch.cat([outputs, log_mean[None].to(outputs)]).argmax(-1) == target).double().mean(-1).cpu()
        accuracies = [correct[:-2], float(correct[-2]), float(correct[-1])]
    return EnsembleComparison(
        **common,
        fge_loss=combined,
        member_accuracies=accuracies[0],
        swa_accuracy=accuracies[1],
        fge_accuracy=accuracies[2],
        form=chosen,
    )


def _default_form(objective: Objective) -> str:
    if isinstance(objective, TwoLayerObjective):
        return "outputs"
    if not isinstance(objective, ModuleObjective) or objective.closure:
        return "bound"
    target = _content(objective)[1]
    return "outputs" if target.is_floating_point() else "probabilities"


def _module(objective: Objective) -> ModuleObjective:
    if not isinstance(objective, ModuleObjective) or objective.batches.has_several():
        raise InvalidArgument(
            "predictions can be averaged for a ModuleObjective whose data are one batch (x, y), got"
            f" {type(objective).__name__}; use form='bound'"
        )
    return objective


def _content(objective: Objective) -> tuple[Any, Tensor]:
    """Inputs and targets."""
    return _module(objective).batches.first().content


def _outputs(objective: Objective, theta: Tensor) -> Tensor:
    """What the model puts out on all samples, at one point (P,)."""
    if isinstance(objective, TwoLayerObjective):
        return objective.predict(theta)
    module = _module(objective)
    with torch.no_grad():
        return module.batch_outputs(module.unflatten(theta), _content(module))


def _output_loss(objective: Objective, outputs: Tensor) -> float:
    if isinstance(objective, TwoLayerObjective):
        return objective.scale * float((objective.sample_weight * (outputs - objective.y) ** 2).sum())
    return float(_module(objective).output_loss(outputs, _content(objective)))
