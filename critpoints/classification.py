"""From a point to a verdict: rules applied in order of strength, each with its evidence.

1. Global by algebra: an exact zero-loss point of the teacher's class next to the point, downhill from it.
2. Symmetry-induced: a critical point with duplicated neurons, decided at the smaller student and by the sign of Y.
3. Isolated: a critical point decided by the signs of its spectrum beyond the noise floor, with a short Newton step.
4. Channel: a point that is not critical, in the channel to a minimum of a limit network.
5. Gradient-flat: a point that is not critical although Newton stalls, its gradient being in the kernel of the Hessian.
6. Undecided, with the reason.

Points with too many parameters for a Hessian are judged by products with it, in ``critpoints.matrix_free``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from critpoints.curvature.dense import eigensystem, eigenvalue_noise, newton_steps, row_norm
from critpoints.curvature.flatness import gradient_flatness
from critpoints.curvature.steadiness import is_steady
from critpoints.errors import InvalidArgument, Status, require
from critpoints.matrix_free import in_float64, judge, kinks_message, needs_products
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.recognition import recognise_two_layer
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback
from critpoints.solvers.refinement import Refinement, refine
from critpoints.symmetry.channels import Channel, Refusal, find_channels
from critpoints.symmetry.matching import TeacherMatch, match_teacher
from critpoints.symmetry.reduction import Reduction, merge_duplicates
from critpoints.symmetry.splitting import inertia, predicted_inertia
from critpoints.verdict import CRITICAL, STEP, Evidence, Kind, Verdict, Verdicts

DUPLICATE = 1e-5  # relative distance of weight vectors that count as one at a critical point, decided there
PATIENT_ITERATIONS = 1000  # second round of refinement for rows that no rule decides


@dataclass(frozen=True)
class Spectrum:
    """Second-order data of points, whether critical or not.

    Attributes:
        eigenvalues: (S, P), ascending.
        noise_floor: (S,), the rounding error of an eigenvalue.
        index, nullity: (S,), eigenvalues below minus the floor, and within it.
        loss, gradient_norm, gradient_noise: (S,).
        newton_step: (S,), length of the undamped Newton step from the point.
        steady: (S,), whether the curvature along the lowest direction of a saddle, else along the weakest one, stays
            within a factor of 2 as far as the gradient leaves open where the critical point is,
            2 (|g| + its noise) / |lambda|. Where it does not, as in a quartic valley, an eigenvalue beyond its
            rounding error still says nothing.
        removable: (S,), the fraction of the gradient that curvature beyond rounding can act on (curvature/flatness.py).
        flat: (S,), whether the gradient is not zero and Newton's method stalls on it.
    """

    eigenvalues: Tensor
    noise_floor: Tensor
    index: Tensor
    nullity: Tensor
    loss: Tensor
    gradient_norm: Tensor
    gradient_noise: Tensor
    newton_step: Tensor
    steady: Tensor
    removable: Tensor
    flat: Tensor


@dataclass(frozen=True)
class Settled:
    """Refined points and the verdicts on them."""

    refinement: Refinement
    verdicts: Verdicts


def raw_spectrum(problem: Objective, theta: Tensor) -> Spectrum:
    """The spectrum of the Hessian at every row of ``theta`` (S, P), and the noise that its signs must beat."""
    theta = problem.validate(theta).detach()
    here = problem.second_order(theta)
    system = eigensystem(here.hessian)
    floor = eigenvalue_noise(system.values)
    values, newton = system.values, newton_steps(here.gradient, system, floor)
    flatness = gradient_flatness(here.gradient, system, here.gradient_noise.clamp(min=CRITICAL))
    return Spectrum(
        eigenvalues=values,
        noise_floor=floor,
        index=(values < -floor.unsqueeze(-1)).sum(-1),
        nullity=(values.abs() <= floor.unsqueeze(-1)).sum(-1),
        loss=here.loss,
        gradient_norm=row_norm(here.gradient),
        gradient_noise=here.gradient_noise,
        newton_step=row_norm(newton),
        steady=is_steady(problem, theta, system, row_norm(here.gradient) + here.gradient_noise, newton),
        removable=flatness.removable,
        flat=flatness.is_flat,
    )


def negative_eigenvalue_causes(raw: Spectrum, verdicts: Verdicts) -> dict[str, int]:
    """Why smallest eigenvalues after training are negative: the seed study's question, counted.

    ``rounding``: within the noise floor. ``saddle``: the refined point is a saddle. ``undecided``: the refined point
    has no kind. ``unconverged``: everything else, since the refined point is no saddle.
    """
    causes = {"rounding": 0, "unconverged": 0, "saddle": 0, "undecided": 0}
    for row, verdict in enumerate(verdicts):
        if not float(raw.eigenvalues[row, 0]) < 0:
            continue
        if float(raw.eigenvalues[row, 0]) >= -float(raw.noise_floor[row]):
            causes["rounding"] += 1
        elif verdict.kind in (Kind.STRICT_SADDLE, Kind.DEGENERATE_SADDLE):
            causes["saddle"] += 1
        elif verdict.kind is Kind.UNDECIDED:
            causes["undecided"] += 1
        else:
            causes["unconverged"] += 1
    return causes


def classify(
    problem: Objective,
    theta: Tensor | None = None,
    *,
    refinement: Refinement | None = None,
    known_minimum: float | None = None,
) -> Verdicts:
    """Says what every row of ``theta`` (S, P), or (P,), is, by the rules of this module.

    Whatever float64 cannot decide is ``undecided``, with the reason; every label is numerical, not certified. Above
    1000 parameters without a Hessian in closed form, products with it decide: a strict saddle can be shown, a minimum
    cannot.

    Args:
        problem: any objective; symmetry and channels are looked for in two-layer ones, also where they come as
            modules. A module is judged in float64, whatever its own dtype.
        theta: by default a module's present parameters.
        refinement: how the points were reached; its statuses go into the reasons.
        known_minimum: the optimal loss where it is known and the problem has no teacher; a nondegenerate minimum within
            rounding of it is called global.

    Raises:
        InvalidArgument: parameters that do not fit the problem, or none where it has none of its own.
        InvalidData: a module's loss cannot be evaluated in float64.
    """
    theta = _points(problem, theta)
    statuses = refinement.status if refinement is not None else (None,) * len(theta)
    problem.validate(theta)
    if needs_products(problem, theta):
        rows = zip(theta, statuses, strict=True)
        return Verdicts.gather([judge(problem, row, status=status) for row, status in rows])
    problem = in_float64(problem)
    theta = problem.validate(theta).detach()
    if isinstance(problem, ModuleObjective) and (found := recognise_two_layer(problem)) is not None:
        student = classify(found.objective, theta[:, found.order], refinement=refinement, known_minimum=known_minimum)
        rows = zip(student, theta, strict=True)
        return Verdicts.gather([replace(verdict, theta=row) for verdict, row in rows])
    spectrum = raw_spectrum(problem, theta)
    verdicts = [_by_spectrum(theta, spectrum, row, statuses[row], known_minimum) for row in range(len(theta))]
    if isinstance(problem, TwoLayerObjective):
        matches = match_teacher(problem, theta) if isinstance(problem, TeacherStudent) else [None] * len(theta)
        for row, match in enumerate(matches):
            if match is not None and match.descends:
                verdicts[row] = _global(verdicts[row], match)
            elif _is_critical(verdicts[row]):
                verdicts[row] = _by_reduction(problem, verdicts[row])
        rows = [row for row, verdict in enumerate(verdicts) if _may_be_channel(verdict)]
        if rows:
            for row, outcome in zip(rows, find_channels(problem, theta[rows]), strict=True):
                verdicts[row] = _by_channel(verdicts[row], outcome)
    verdicts = [_by_kinks(problem, verdict) for verdict in verdicts]
    return Verdicts.gather([_by_flatness(verdict, spectrum, row) for row, verdict in enumerate(verdicts)])


def _points(problem: Objective, theta: Tensor | None) -> Tensor:
    """Rows (S, P) of what was given, or a module's parameters."""
    if theta is None and isinstance(problem, ModuleObjective):
        theta = problem.parameters_vector()
    if theta is None:
        raise InvalidArgument("theta must be given, (S, P): only a ModuleObjective has parameters of its own")
    theta = torch.as_tensor(theta)
    theta = theta.unsqueeze(0) if theta.ndim == 1 else theta
    require(theta.ndim == 2, f"theta must have shape (S, P), got {tuple(theta.shape)}")
    return theta


def settle(
    problem: Objective,
    theta: Tensor,
    *,
    method: str = "newton",
    gtol: float = 1e-13,
    known_minimum: float | None = None,
    callback: Callback | None = None,
) -> Settled:
    """Refines and classifies every row of ``theta`` (S, P); rows that stay undecided get a second, patient refinement.

    Arguments as for ``refine`` and ``classify``.
    """
    first = refine(problem, theta, method=method, gtol=gtol, callback=callback)
    verdicts = classify(problem, first.theta, refinement=first, known_minimum=known_minimum)
    rows = [row for row, verdict in enumerate(verdicts) if _deserves_patience(verdict, first.status[row])]
    if method != "newton" or not rows:
        return Settled(first, verdicts)
    again = refine(
        problem, first.theta[rows], gtol=gtol, max_iterations=PATIENT_ITERATIONS, patience=PATIENT_ITERATIONS
    )
    merged = _merge(first, again, rows)
    later = classify(problem, again.theta, refinement=again, known_minimum=known_minimum)
    judged = list(verdicts)
    for row, verdict in zip(rows, later, strict=True):
        judged[row] = verdict
    return Settled(merged, Verdicts.gather(judged))


def _deserves_patience(verdict: Verdict, status: Status) -> bool:
    return verdict.kind is Kind.UNDECIDED and status is not Status.NON_FINITE and not status.is_critical


def _merge(first: Refinement, again: Refinement, rows: list[int]) -> Refinement:
    parts: dict[str, Any] = {}
    for name, value in first.__dict__.items():
        if isinstance(value, Tensor):
            parts[name], later = value.clone(), getattr(again, name)
            parts[name][rows] = value[rows] + later if name in ("iterations", "evaluations") else later
    status = list(first.status)
    for row, later in zip(rows, again.status, strict=True):
        status[row] = later if later.is_critical else status[row]  # why it stopped at first says more
    return Refinement(**parts, status=tuple(status))


def _by_spectrum(theta: Tensor, spectrum: Spectrum, row: int, status: Status | None, known: float | None) -> Verdict:
    kind, reason = _kind(theta[row], spectrum, row, status, known)
    figures: dict[str, Any] = {
        "gradient_noise": float(spectrum.gradient_noise[row]),
        "newton_step": float(spectrum.newton_step[row]),
        "smallest_eigenvalue": float(spectrum.eigenvalues[row, 0]),
        "largest_eigenvalue": float(spectrum.eigenvalues[row, -1]),
    }
    if status is not None:
        figures["refinement"] = status.name.lower()
    return Verdict(
        kind=kind,
        index=int(spectrum.index[row]),
        nullity=int(spectrum.nullity[row]),
        level=None,
        loss=float(spectrum.loss[row]),
        gradient_norm=float(spectrum.gradient_norm[row]),
        eigenvalues=spectrum.eigenvalues[row],
        noise_floor=float(spectrum.noise_floor[row]),
        evidence=Evidence(reason, figures=figures),
        theta=theta[row],
    )


def _kind(theta: Tensor, spectrum: Spectrum, row: int, status: Status | None, known: float | None) -> tuple[Kind, str]:
    norm, noise = float(spectrum.gradient_norm[row]), float(spectrum.gradient_noise[row])
    index, nullity = int(spectrum.index[row]), int(spectrum.nullity[row])
    if not (norm < float("inf") and bool(torch.isfinite(spectrum.eigenvalues[row]).all())):
        return Kind.UNDECIDED, "the loss, gradient or Hessian is not finite"
    if norm > max(CRITICAL, noise):
        said = f"; the refinement says: {status.value}" if status is not None else ""
        return Kind.UNDECIDED, f"not a critical point: gradient norm {norm:.1e}, its rounding error {noise:.1e}{said}"
    if float(spectrum.newton_step[row]) > STEP * (1 + float(theta.norm())):
        return Kind.UNDECIDED, "the Newton step is not short: a channel or a nearly singular valley, not isolated"
    if (index > 0 or nullity == 0) and not bool(spectrum.steady[row]):
        return Kind.UNDECIDED, "the decisive curvature changes within the distance that the gradient leaves open"
    if index == len(spectrum.eigenvalues[row]):
        return Kind.STRICT_MAXIMUM, f"gradient norm {norm:.1e} and all {index} eigenvalues negative beyond rounding"
    lowest = float(spectrum.eigenvalues[row, 0])
    if index > 0:
        return Kind.STRICT_SADDLE, f"gradient norm {norm:.1e} and {index} negative eigenvalues, the lowest {lowest:.2e}"
    if nullity > 0:
        return Kind.UNDECIDED, f"{nullity} eigenvalues within rounding of zero: second order does not decide"
    loss, step = float(spectrum.loss[row]), float(spectrum.newton_step[row])
    if known is not None and loss - known <= 1e-20 + 1e-12 * abs(known):
        return Kind.GLOBAL_MINIMUM, f"the loss {loss:.1e} is the known optimum to rounding, at a nondegenerate minimum"
    return Kind.STRICT_MINIMUM, (
        f"gradient norm {norm:.1e}, smallest eigenvalue {lowest:.2e} with a rounding error of "
        f"{spectrum.noise_floor[row]:.0e}, Newton step {step:.0e}, loss {loss:.3e}"
    )


def _is_critical(verdict: Verdict) -> bool:
    return verdict.gradient_norm <= max(CRITICAL, verdict.evidence.figures["gradient_noise"])


def _may_be_channel(verdict: Verdict) -> bool:
    """Undecided rows with finite parameters that are not critical, or whose Newton step leads far away."""
    if verdict.kind is not Kind.UNDECIDED or not bool(torch.isfinite(verdict.theta).all()):
        return False
    far = verdict.evidence.figures["newton_step"] > STEP * (1 + float(verdict.theta.norm()))
    return far or not _is_critical(verdict)


def _amend(verdict: Verdict, reason: str, figures: dict[str, Any], **changes: Any) -> Verdict:
    evidence = replace(verdict.evidence, reason=reason, figures=verdict.evidence.figures | figures)
    return replace(verdict, evidence=evidence, **changes)


def _global(verdict: Verdict, match: TeacherMatch) -> Verdict:
    types = ", ".join(match.types)
    reason = (
        f"an exact zero-loss point of the teacher's class ({types}) lies {match.distance:.1e} away, downhill; "
        f"its Hessian has {match.nullity} zero eigenvalues"
    )
    figures = {
        "types": list(match.types),
        "distance": match.distance,
        "condition_residual": match.residual,
        "snapped_theta": match.theta.tolist(),
        "snapped_nullity": match.nullity,
    }
    return _amend(verdict, reason, figures, kind=Kind.GLOBAL_MINIMUM, index=0, nullity=match.nullity)


def _by_reduction(problem: TwoLayerObjective, verdict: Verdict) -> Verdict:
    """Decides a critical point with duplicated neurons at the smaller student that it is a split of."""
    w, _ = problem.split(verdict.theta)
    reduction = merge_duplicates(problem, verdict.theta, DUPLICATE * (1 + float(w.abs().max())))
    if reduction is None:
        return verdict
    small = refine(problem, reduction.theta[None])
    moved = float((small.theta[0] - reduction.theta).norm())
    if not small.status[0].is_critical or moved > 1e-4 * (1 + float(reduction.theta.norm())):
        return _amend(verdict, "duplicated neurons, but the merged student is not critical", {}, kind=Kind.UNDECIDED)
    return _judge_split(problem, verdict, reduction, small.theta[0])


def _judge_split(problem: TwoLayerObjective, verdict: Verdict, reduction: Reduction, small: Tensor) -> Verdict:
    spectrum = raw_spectrum(problem, small[None])
    own = inertia(spectrum.eigenvalues[0], float(spectrum.noise_floor[0]))
    splits = {k: reduction.shares[k] for k in reduction.duplicated}
    predicted = predicted_inertia(problem, small, splits)
    copies = sum(len(shares) - 1 for shares in splits.values())
    figures: dict[str, Any] = {
        "effective_width": len(reduction.groups),
        "shares": {str(k): list(shares) for k, shares in splits.items()},
        "reduced_smallest_eigenvalue": float(spectrum.eigenvalues[0, 0]),
        "reduced_theta": small.tolist(),
        "predicted_inertia": [predicted.negative, predicted.zero, predicted.positive],
    }
    split = (
        f"split of a width-{len(reduction.groups)} critical point of inertia {own.negative}-{own.zero}-{own.positive}"
    )
    changes: dict[str, Any] = {"index": predicted.negative, "nullity": predicted.zero}
    if predicted.zero > copies:
        return _amend(verdict, f"{split}; Y or its Hessian is singular", figures, kind=Kind.UNDECIDED, **changes)
    if predicted.negative:
        level = problem.teacher_width - len(reduction.groups) if isinstance(problem, TeacherStudent) else None
        reason = f"{split} with {predicted.negative} negative directions by the sign of Y"
        return _amend(verdict, reason, figures, kind=Kind.STRICT_SADDLE, level=level, **changes)
    reason = f"{split}: a minimum, and Y has the sign that the shares ask for; degenerate along mu alone"
    return _amend(verdict, reason, figures, kind=Kind.DEGENERATE_MINIMUM, **changes)


def _by_flatness(verdict: Verdict, spectrum: Spectrum, row: int) -> Verdict:
    """Says of a point that no rule has decided whether it is gradient-flat."""
    if verdict.kind is not Kind.UNDECIDED or not bool(spectrum.flat[row]):
        return verdict
    removable = float(spectrum.removable[row])
    reason = (
        f"not critical: gradient norm {verdict.gradient_norm:.1e}, of which curvature beyond rounding acts on "
        f"{removable:.1e} only, so that Newton's method stalls"
    )
    return _amend(verdict, reason, {"removable_gradient": removable}, kind=Kind.GRADIENT_FLAT)


def _by_kinks(problem: Objective, verdict: Verdict) -> Verdict:
    """Takes back what second derivatives decided where they depend on a convention."""
    if verdict.kind is Kind.UNDECIDED or (message := kinks_message(problem, verdict.theta)) is None:
        return verdict
    return _amend(verdict, message, {}, kind=Kind.UNDECIDED)


def _by_channel(verdict: Verdict, outcome: Channel | list[Refusal]) -> Verdict:
    if not isinstance(outcome, Channel):
        reasons = "; ".join(dict.fromkeys(refusal.reason for refusal in outcome)) or "no neurons diverge together"
        return _amend(verdict, f"{verdict.evidence.reason}; no channel: {reasons}", {})
    group = outcome.group
    members = ["~".join(f"{'' if sign > 0 else '-'}{k}" for k, sign in cluster) for cluster in group.clusters]
    members += [f"{k}~0" for k in group.at_zero]
    reason = (
        f"in a channel to infinity (neurons {', '.join(members)}): the limit network has a strict minimum at loss "
        f"{outcome.limit_loss:.6e}, C = {min(outcome.coefficients):.1e} > 0, and the loss exceeds the limit by "
        f"{outcome.excess_ratio:.3f} of the predicted C/d^p at d = {max(outcome.distances):.3g}"
    )
    figures = {
        "pairs": [list(pair) for pair in group.pairs],
        "triples": [list(triple) for triple in group.triples],
        "at_zero": list(group.at_zero),
        "limit_loss": outcome.limit_loss,
        "limit_smallest_eigenvalue": outcome.smallest_eigenvalue,
        "limit_shape": outcome.shape.__dict__ | {"triples": list(outcome.shape.triples)},
        "limit_theta": outcome.limit.tolist(),
        "coefficients": list(outcome.coefficients),
        "distances": list(outcome.distances),
        "powers": list(group.powers),
        "offset": outcome.offset,
        "excess_ratio": outcome.excess_ratio,
    }
    if outcome.reduction is not None:
        figures["split_groups"] = [list(group) for group in outcome.reduction.groups]
        reason += "; some neurons are split copies"
    return _amend(verdict, reason, figures, kind=Kind.CHANNEL)
