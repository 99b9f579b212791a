"""Where a saddle leads: down either side of its escape directions, and what stands at the end.

A strict saddle is left along eigenvectors of negative curvature. A degenerate point of a saddle line, one copy of a
neuron with output weight zero (mu = 0 or 1), has none: there Y (symmetry/splitting.py) enters as mu (1 - mu) Y, so a
step along the line, on which the loss is constant, leads to strict saddles wherever Y has an eigenvalue of the sign
that this side asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from critpoints.classification import classify, settle
from critpoints.errors import InvalidArgument, Status, require
from critpoints.objectives.base import Objective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.solvers.base import Callback, iterate
from critpoints.solvers.escaping import escape_directions
from critpoints.solvers.gradient_flow import follow_flow
from critpoints.solvers.monotone_newton import ROUNDING, MonotoneNewton
from critpoints.symmetry.reduction import merge_duplicates
from critpoints.verdict import CRITICAL, Evidence, Kind, Verdict, Verdicts

METHODS = ("flow", "monotone", "newton")
WALK = 800  # iterations of monotone Newton at most
SHIFT = 0.1  # of mu, along the saddle line away from a degenerate point
NOTHING = 1e-6  # a share up to this is none; relative distance of weight vectors that are copies
HALVINGS = 20
LOOKS = 16  # points of a straight line that are looked at
TIME = 1e9  # of the flow: curvatures of 1e-7 and channels take long, and an implicit integrator takes long steps


@dataclass(frozen=True)
class Branch:
    """One way down from a saddle, and where it ends.

    Attributes:
        direction: (P,), the unit eigenvector that it starts along, its entry of largest magnitude positive.
        sign: +1 or -1, which side.
        eigenvalue: of the Hessian along it.
        shift: how far mu was moved along the saddle line first; 0 from a strict saddle.
        start: (P,), after the step; its loss is below the saddle's.
        end: the verdict on the end point.
        length: distance between start and end.
        steps: of the flow; 0 without it.
        flow: how the flow ended; None without it.
        iterations: of the refinement after it; 0 for monotone Newton, which refines only what it cannot judge.
    """

    direction: Tensor
    sign: int
    eigenvalue: float
    shift: float
    start: Tensor
    end: Verdict
    length: float
    steps: int
    flow: Status | None
    iterations: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = {
            "direction": self.direction.tolist(),
            "start": self.start.tolist(),
            "end": self.end.to_dict(),
            "flow": None if self.flow is None else self.flow.name.lower(),
        }
        return self.__dict__ | plain


@dataclass(frozen=True)
class Descents:
    """The ways down from one point.

    Attributes:
        saddle: the verdict on the point; its ``level`` is the teacher's width minus the effective one, where known.
        branches: two for each escape direction, the side of sign +1 first.
        reason: why there are none, or why one is missing; empty otherwise.
    """

    saddle: Verdict
    branches: tuple[Branch, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        branches = [branch.to_dict() for branch in self.branches]
        return {"saddle": self.saddle.to_dict(), "branches": branches, "reason": self.reason}


@dataclass(frozen=True)
class _Start:
    row: int
    direction: Tensor
    sign: int
    eigenvalue: float
    shift: float
    theta: Tensor


def descend_from_saddles(
    problem: Objective,
    theta: Tensor,
    *,
    directions: int = 1,
    epsilon: float = 0.01,
    method: str = "flow",
    known_minimum: float | None = None,
    callback: Callback | None = None,
) -> tuple[Descents, ...]:
    """Where descent leads from both sides of the escape directions of every row of ``theta`` (S, P).

    Args:
        directions: eigenvectors a row, the most negative ones; fewer where the index is lower.
        epsilon: length of the step away from the saddle, halved until the loss is lower there.
        method: ``flow`` follows the gradient flow and refines its end; ``monotone`` takes Newton steps on whose way the
            loss never rises, so that it stays below the saddle; ``newton`` refines from the step on: its long steps
            may cross into another basin.
        known_minimum: as for ``classify``.
        callback: callback(ways down finished, ways down), of the flow.

    Raises:
        InvalidArgument: an option out of range, parameters that do not fit the problem.
    """
    require(directions >= 1, f"directions must be at least 1, got {directions}")
    require(0 < epsilon < float("inf"), f"epsilon must be a positive number, got {epsilon}")
    if method not in METHODS:
        raise InvalidArgument(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    theta = problem.validate(theta).detach()
    require(theta.ndim == 2, f"theta must have shape (S, P), got {tuple(theta.shape)}")
    saddles = list(classify(problem, theta, known_minimum=known_minimum))
    reasons, starts = [""] * len(theta), []
    for row, saddle in enumerate(saddles):
        found, reasons[row] = _starts(problem, saddle, row, directions, epsilon)
        starts += found
    branches = _descend(problem, starts, method, known_minimum, callback) if starts else []
    of_row = [tuple(b for s, b in zip(starts, branches, strict=True) if s.row == row) for row in range(len(theta))]
    return tuple(Descents(*each) for each in zip(saddles, of_row, reasons, strict=True))


def walk_down(problem: Objective, points: Tensor, *, callback: Callback | None = None) -> Verdicts:
    """What Newton steps on whose way the loss never rises lead to from every row of ``points`` (S, P).

    What cannot be judged there is refined; an end beyond a ridge higher than the row's start is undecided.
    """
    return _walk(problem, points, None, callback)


def _walk(problem: Objective, points: Tensor, known_minimum: float | None, callback: Callback | None) -> Verdicts:
    walked = iterate(MonotoneNewton(), problem, points, max_iterations=WALK, callback=callback)["theta"]
    verdicts = list(classify(problem, walked, known_minimum=known_minimum))
    rows = [row for row, verdict in enumerate(verdicts) if verdict.kind is Kind.UNDECIDED]
    if rows:
        settled = settle(problem, walked[rows], known_minimum=known_minimum).verdicts
        for row, verdict in zip(rows, _below(problem, points[rows], walked[rows], settled), strict=True):
            verdicts[row] = verdict
    return Verdicts.gather(verdicts)


def _below(problem: Objective, starts: Tensor, walked: Tensor, settled: Verdicts) -> Verdicts:
    """The verdicts, undecided where the straight line from the end of the walk to the refined one rises too high."""
    shares = torch.linspace(0, 1, LOOKS, dtype=starts.dtype).reshape(-1, 1, 1)
    line = walked + shares * (settled.theta - walked)
    losses = problem.loss_and_gradient(line.reshape(-1, starts.shape[1]))[0].reshape(LOOKS, -1)
    highest = problem.loss_and_gradient(starts)[0]
    crossed = ~(losses.amax(0) <= highest * (1 + ROUNDING))  # not finite counts as crossed
    if not bool(crossed.any()):
        return settled
    evidence = Evidence("refinement led over a ridge that is higher than where the way down starts")
    rows = [
        replace(verdict, kind=Kind.UNDECIDED, level=None, evidence=evidence) if bool(over) else verdict
        for verdict, over in zip(settled, crossed, strict=True)
    ]
    return Verdicts.gather(rows)


def _starts(problem: Objective, saddle: Verdict, row: int, directions: int, epsilon: float) -> tuple[list[_Start], str]:
    if not saddle.gradient_norm <= max(CRITICAL, saddle.evidence.figures["gradient_noise"]):
        return [], f"not a critical point: gradient norm {saddle.gradient_norm:.1e}; refine it first"
    # at a strict saddle nothing is gained by going along a line first
    bases = [(0.0, saddle.theta)]
    if not int(escape_directions(problem, saddle.theta[None]).index[0]):
        bases = _along_the_line(problem, saddle.theta)
    starts, flat = [], 0
    for shift, base in bases:
        found = escape_directions(problem, base[None], min(directions, len(base)))
        for k in range(min(directions, int(found.index[0]))):
            vector, value = found.vectors[0, k], float(found.values[0, k])
            for sign in (1, -1):
                start = _lower(problem, base, sign * vector, epsilon)
                flat += start is None
                starts += [] if start is None else [_Start(row, vector, sign, value, shift, start)]
    if flat:
        sides = flat + len(starts)
        return starts, f"on {flat} of {sides} sides no step lowers the loss beyond its rounding"
    return starts, "" if starts else f"no direction leads down: {saddle.evidence.reason}"


def _lower(problem: Objective, base: Tensor, direction: Tensor, epsilon: float) -> Tensor | None:
    """The first of base + epsilon / 2^n direction with a lower loss."""
    steps = epsilon * 0.5 ** torch.arange(HALVINGS, dtype=base.dtype)
    points = base + steps.unsqueeze(-1) * direction
    losses = problem.loss_and_gradient(torch.cat([base[None], points]))[0]
    lower = torch.nonzero(losses[1:] < losses[0]).flatten()
    return points[lower[0]] if len(lower) else None


def _along_the_line(problem: Objective, theta: Tensor) -> list[tuple[float, Tensor]]:
    """Points at both sides of ``theta`` (P,) on its saddle lines, where a copy of a neuron has no output weight."""
    if not isinstance(problem, TwoLayerObjective):
        return []
    w, a = problem.split(theta)
    reduction = merge_duplicates(problem, theta, NOTHING * (1 + float(w.abs().max())))
    bases = []
    for group, shares in zip(reduction.groups, reduction.shares, strict=True) if reduction else ():
        if len(group) != 2 or min(abs(share) for share in shares) > NOTHING:
            continue
        i, j = group
        sign = 1.0 if float(w[i] @ w[j]) >= 0 else -1.0  # an odd activation may hold its copies antiparallel
        total = a[i] + sign * a[j]
        first = problem.width(theta) * problem.n_inputs
        for shift in (SHIFT, -SHIFT):
            moved = theta.clone()
            moved[first + i] += shift * total
            moved[first + j] -= sign * shift * total
            bases.append((shift, moved))
    return bases


def _descend(
    problem: Objective, starts: list[_Start], method: str, known_minimum: float | None, callback: Callback | None
) -> list[Branch]:
    points = torch.stack([start.theta for start in starts])
    flow, iterations = None, [0] * len(starts)
    if method == "monotone":
        verdicts = _walk(problem, points, known_minimum, callback)
    else:
        flow = follow_flow(problem, points, time=TIME, callback=callback) if method == "flow" else None
        settled = settle(problem, points if flow is None else flow.theta, known_minimum=known_minimum)
        verdicts, iterations = settled.verdicts, settled.refinement.iterations.tolist()
    return [
        Branch(
            direction=start.direction,
            sign=start.sign,
            eigenvalue=start.eigenvalue,
            shift=start.shift,
            start=start.theta,
            end=verdicts[row],
            length=float((verdicts[row].theta - start.theta).norm()),
            steps=0 if flow is None else flow.row_steps[row],
            flow=None if flow is None else flow.status[row],
            iterations=iterations[row],
        )
        for row, start in enumerate(starts)
    ]
