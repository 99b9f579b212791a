"""One point of a study, explained in a paragraph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from critpoints.errors import Status
from critpoints.study.records import Row
from critpoints.study.spec import StudySpec

_TRAINING = {"adam": "Adam", "gradient-flow": "Gradient flow"}
_REFINEMENT = {"newton": "trust-region Newton", "slsqp": "SLSQP"}
_CAUSES = {
    "rounding": "its size is below the noise floor, so it has no sign",
    "unconverged": "training had not converged: the refined point has no negative eigenvalue",
    "saddle": "the refined point is a saddle",
    "undecided": "the refined point has no kind, so the question stays open",
}


def explain_point(point: Row, spec: StudySpec) -> str:
    """What the point is, why, and how it was reached, in one paragraph.

    Args:
        point: a row of ``Store.points``.
    """
    evidence = json.loads(point["evidence"])
    sentences = [
        f"Seed {point['seed']} at width {point['width']} is {_with_article(point['kind'])}, by {point['standard']}"
        f" evidence: {evidence['reason']}.",
        _training(point, spec),
        f"Refinement ({_REFINEMENT[spec.refine]}, {point['iterations']} iterations) stopped because"
        f" {_message(point['status'])}; the loss is {point['loss']:.6g}, the gradient norm {point['gradient_norm']:.2g}"
        f" (its rounding error is {point['gradient_noise']:.2g}).",
        f"Of the Hessian's {len(point['eigenvalues'])} eigenvalues {point['index']} are negative and"
        f" {point['nullity']} without a sign (noise floor {point['noise_floor']:.2g}); the smallest is"
        f" {point['smallest_eigenvalue']:.6g}.",
    ]
    if point["level"] is not None:
        sentences.append(f"It is a symmetry-induced point of level {point['level']}.")
    if evidence["figures"]:
        sentences.append(f"Figures of the evidence: {_listed(evidence['figures'])}.")
    return " ".join(sentences)


def _training(point: Row, spec: StudySpec) -> str:
    text = (
        f"{_TRAINING[spec.method]} ended at loss {point['trained_loss']:.6g} with gradient norm"
        f" {point['trained_gradient_norm']:.2g} and smallest eigenvalue {point['trained_smallest_eigenvalue']:.6g}"
    )
    cause = point["negative_cause"]
    return f"{text}, negative because {_CAUSES.get(cause, cause)}." if cause else f"{text}."


def _with_article(kind: str) -> str:
    words = kind.replace("_", " ")
    return words if words in ("undecided", "gradient flat") else f"a {words}"


def _message(status: str) -> str:
    """The message of a status; the name itself where this version does not know it."""
    return Status[status.upper()].value if status.upper() in Status.__members__ else status


def _listed(figures: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in figures.items())
