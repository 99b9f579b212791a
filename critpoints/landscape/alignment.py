"""Two states brought as near to each other as the symmetries of the network allow, without changing its function.

Modules: weight matching (Ainsworth et al. 2023, algorithm 1), linear assignments for the groups of channels in turns.
Students of ``TwoLayerObjective``: the element of their symmetry group that ``critpoints.symmetry.canonical`` finds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from critpoints.errors import InvalidArgument, InvalidData, require
from critpoints.landscape.evaluation import Evaluator, State, as_state
from critpoints.landscape.interpolation import Interpolation, Point, barrier, interpolate
from critpoints.landscape.permutations import Group, find_groups, permute
from critpoints.objectives.base import Objective
from critpoints.objectives.module import ModuleObjective
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.symmetry.canonical import align as align_students
from critpoints.symmetry.group import ENUMERABLE, TOLERANCE, apply

SWEEPS = 100  # over all groups; each lowers the distance, a few are enough
ROUNDING = 1e-12  # relative: a smaller gain would go on forever
UNCHANGED = 0.6  # the outputs may change by eps to this power, relative to the largest


@dataclass(frozen=True)
class Alignment:
    """A state with the function of b, as near to a as was found.

    Attributes:
        state: the image of b; its buffers are permuted, too.
        permutations: for each group of channels (or for the neurons), channel j is what channel p[j] of b was.
        distance_before, distance_after: from a, Euclidean, parameters alone.
        function_change: the largest difference between the outputs of b and of its image on the data, relative to
            the largest output.
        exact: whether ``distance_after`` is known to be the smallest of all images (see
            ``critpoints.symmetry.canonical.align``); weight matching may stop at a local minimum.
    """

    state: State
    permutations: tuple[tuple[int, ...], ...]
    distance_before: float
    distance_after: float
    function_change: float
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, without the parameters."""
        names = ("distance_before", "distance_after", "function_change", "exact")
        return {"permutations": [list(p) for p in self.permutations], **{name: getattr(self, name) for name in names}}


def match_weights(objective: Objective, a: Point, b: Point) -> Alignment:
    """The image of b, under the symmetries of the network, that is nearest to a.

    Args:
        objective: a ``ModuleObjective`` whose channels can be followed (``find_groups``), or a ``TwoLayerObjective``.
        a, b: parameters (P,), or a module's ``state_dict()``; a module with BatchNorm needs its statistics with b.

    Raises:
        InvalidArgument: states of another architecture, an objective without known symmetries, a module with BatchNorm
            and a state without statistics.
        InvalidData: the image computes another function, so that the module's channels were misunderstood.
    """
    start, end = as_state(objective, a, "a"), as_state(objective, b, "b")
    if isinstance(objective, TwoLayerObjective):
        return _match_students(objective, start, end)
    if not isinstance(objective, ModuleObjective):
        raise InvalidArgument(
            f"objective must be a ModuleObjective or a TwoLayerObjective: no symmetry of a {type(objective).__name__}"
            " is known"
        )
    return _match_modules(objective, start, end)


def _match_students(objective: TwoLayerObjective, a: State, b: State) -> Alignment:
    found = align_students(objective, b.theta, a.theta)
    image = apply(objective, found.element, b.theta)
    k, few = objective.activation.reflection, objective.width(b.theta) <= ENUMERABLE
    exact = k is None or k == 0 or (few and not objective.output_bias) or found.distance <= TOLERANCE
    change = _relative_change(objective.predict(b.theta), objective.predict(image))
    return _checked(a, b, State(image), (found.element.permutation,), change, exact=exact)


def _match_modules(objective: ModuleObjective, a: State, b: State) -> Alignment:
    require(not objective.closure, "objective must have a loss_fn(model(x), y): alignment follows the model's channels")
    content = objective.batches.first().content
    require(isinstance(content[0], Tensor), "data must hold one input tensor: its channels are followed")
    groups = find_groups(objective.model, content[0][:2])
    slots = {slot.name for group in groups for slot in group.slots}
    buffers = {name for name, _ in objective.model.named_buffers()}
    for name in sorted(slots - set(objective.parameter_names)):
        require(name in buffers, f"parameter '{name}' is frozen or tied, but holds channels that would be permuted")
        require(name in b.buffers, f"b must bring the statistics of BatchNorm, there is no {name}: pass a state_dict()")
    target = {name: each.double() for name, each in objective.unflatten(a.theta).items()}
    tensors = {**objective.unflatten(b.theta), **b.buffers}
    orders = _descend(groups, target, {name: tensors[name].double() for name in target})
    for group, order in zip(groups, orders, strict=True):
        tensors = permute(tensors, group, order.to(b.theta.device))
    theta = torch.cat([tensors[name].reshape(-1) for name in objective.parameter_names])
    image = State(theta, {name: tensors[name] for name in b.buffers})
    evaluator = Evaluator(objective, batch_norm="interpolate" if b.buffers else "freeze")
    outputs, images = (_outputs(evaluator, each, content) for each in (b, image))
    permutations = tuple(tuple(order.tolist()) for order in orders)
    return _checked(a, b, image, permutations, _relative_change(outputs, images), exact=False)


def _outputs(evaluator: Evaluator, state: State, content: Any) -> Tensor:
    objective = evaluator.at(state)
    assert isinstance(objective, ModuleObjective)
    with torch.no_grad():
        return objective.batch_outputs(objective.unflatten(state.theta), content)


def _relative_change(outputs: Tensor, images: Tensor) -> float:
    return float((outputs - images).abs().max() / outputs.abs().max().clamp_min(torch.finfo(outputs.dtype).tiny))


def _checked(
    a: State, b: State, image: State, permutations: tuple[tuple[int, ...], ...], change: float, *, exact: bool
) -> Alignment:
    allowed = torch.finfo(b.theta.dtype).eps ** UNCHANGED
    require(
        change <= allowed,
        f"the permuted network computes another function: outputs differ by {change:.1e} of their size, allowed are"
        f" {allowed:.1e}; are the data finite, and is the model a composition of the layers that alignment knows?",
        InvalidData,
    )
    before, after = (float((a.theta - each.theta).norm()) for each in (b, image))
    return Alignment(image, permutations, before, after, change, exact)


def _descend(groups: list[Group], target: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[Tensor]:
    """Orders of the groups that bring ``tensors`` near to ``target``, the better end of two starts.

    One start is the identity. The other decides the groups in the order of the network, each by the weights on which no
    later group has a say, so that a permutation of the target is recognised whatever the order of its channels.
    """
    found = [_sweep(groups, target, tensors, forward=forward) for forward in (True, False)]
    return min(found, key=lambda pair: pair[0])[1]


def _sweep(
    groups: list[Group], target: dict[str, Tensor], tensors: dict[str, Tensor], *, forward: bool
) -> tuple[float, list[Tensor]]:
    """Assignments in turns until none lowers the squared distance (Ainsworth et al. 2023, algorithm 1)."""
    orders = [torch.arange(group.size) for group in groups]
    undecided = list(groups) if forward else []
    for number, group in enumerate(undecided):
        later = {slot.name for other in undecided[number + 1 :] for slot in other.slots}
        tensors, orders[number] = _assign(group, target, tensors, orders[number], without=later)
    distance = _distance(target, tensors)
    for _ in range(SWEEPS):
        before = distance
        for number, group in enumerate(groups):
            moved, order = _assign(group, target, tensors, orders[number])
            # a layer that a group both makes and reads is not linear in its permutation, so look before taking it
            if (found := _distance(target, moved)) < distance * (1 - ROUNDING):
                tensors, orders[number], distance = moved, order, found
        if distance == before:
            break
    return distance, orders


def _assign(
    group: Group, target: dict[str, Tensor], tensors: dict[str, Tensor], order: Tensor, without: Collection[str] = ()
) -> tuple[dict[str, Tensor], Tensor]:
    """The group permuted for the greatest sum of <channel i of the target, channel p[i]>, and its order by now."""
    slots = [slot for slot in group.slots if slot.name in target]
    counted = [slot for slot in slots if slot.name not in without] or slots
    parts = [
        (target[slot.name].movedim(slot.axis, 0).reshape(group.size, -1))
        @ (tensors[slot.name].movedim(slot.axis, 0).reshape(group.size, -1)).T
        for slot in counted
    ]
    _, best = linear_sum_assignment(torch.stack(parts).sum(0).cpu().numpy(), maximize=True)
    change = torch.from_numpy(best)
    return permute(tensors, group, change.to(parts[0].device)), order[change]


def _distance(target: dict[str, Tensor], tensors: dict[str, Tensor]) -> float:
    return sum(float((tensors[name] - each).square().sum()) for name, each in target.items())


@dataclass(frozen=True)
class Barriers:
    """The straight line between two states before and after alignment.

    Attributes:
        before, after: the losses along both lines.
    """

    alignment: Alignment
    before: Interpolation
    after: Interpolation

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        heights = {
            f"{name}_barrier_{when}": float(barrier(getattr(line.losses, f"{name}_loss")))
            for when, line in (("before", self.before), ("after", self.after))
            for name in ("train", "test")
        }
        lines = {"before": self.before.to_dict(), "after": self.after.to_dict()}
        return {**heights, "alignment": self.alignment.to_dict(), **lines}


def compare_barriers(objective: Objective, a: Point, b: Point, points: int = 25, **options: Any) -> Barriers:
    """Aligns b to a and walks the straight line to it, and to b as it was.

    Args:
        options: of ``interpolate``.

    Raises:
        InvalidArgument, InvalidData: as ``match_weights`` and ``interpolate``.
    """
    found = match_weights(objective, a, b)
    before, after = (interpolate(objective, a, end, points, **options) for end in (b, found.state))
    return Barriers(found, before, after)
