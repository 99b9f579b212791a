"""check_objective: what any Objective, also a user's, must satisfy before a solver or a classifier can trust it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from critpoints.errors import CritpointsError, require
from critpoints.objectives.base import Objective

SAFETY = 100.0  # how far a finite difference may lie outside its own error estimate
TOO_ROUGH = 0.1  # relative error estimate above which a finite difference says little
MAX_DENSE = 200  # parameters up to which the dense Hessian is checked by default


class ObjectiveCheckFailed(CritpointsError, AssertionError):
    """A property that an objective must have and has not: which one, by how much, and what to look at."""


@dataclass(frozen=True)
class PropertyCheck:
    """One property that holds.

    Attributes:
        name: the property, in words.
        error: the largest deviation found, relative to the size of what was compared.
        tolerance: what was admissible there.
    """

    name: str
    error: float
    tolerance: float


@dataclass(frozen=True)
class ObjectiveReport:
    """What ``check_objective`` checked.

    Attributes:
        rows, n_parameters: the shape of the points that were tried.
        checks: the properties; all of them hold.
        skipped: what could not be checked, and why.
        batch_dependent: the results that had other bits for a row alone than in a batch.
    """

    rows: int
    n_parameters: int
    checks: tuple[PropertyCheck, ...]
    skipped: tuple[str, ...]
    batch_dependent: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def check_objective(
    objective: Objective,
    theta: Tensor | None = None,
    *,
    seed: int = 0,
    rtol: float | None = None,
    batch_rtol: float | None = None,
    max_dense: int = MAX_DENSE,
    smooth: bool = True,
) -> ObjectiveReport:
    """Checks shapes, derivatives, independence of rows, determinism, and that arguments are left alone.

    Derivatives are compared with automatic differentiation of ``loss``, and with central differences whose error is
    estimated along the way.

    Args:
        theta: (S, P) points to check at, S >= 2; by default four standard normal ones.
        seed: of those points and of the directions.
        rtol: admissible relative error of closed forms against automatic differentiation; 4096 eps by default.
        batch_rtol: admissible relative difference of a row alone and in a batch; 0 asks for the same bits. By default
            ``rtol``, since matrix products and vectorised functions compute the last bits in ways that depend on it.
        max_dense: the largest P for which the dense Hessian is checked.
        smooth: False where the loss has kinks (ReLU): finite differences then take one step, too small to meet many.

    Returns:
        What was checked, and how far off it was.

    Raises:
        ObjectiveCheckFailed: a property does not hold.
        InvalidArgument: unusable points, or none although the objective has no ``dim``.

    >>> class Bowl(Objective):
    ...     dim = 3
    ...     def loss(self, theta):
    ...         return (theta**2).sum(-1)
    >>> report = check_objective(Bowl())
    >>> report.n_parameters, report.skipped
    (3, ())
    """
    generator = torch.Generator().manual_seed(seed)
    theta = _points(objective, theta, generator)
    v = torch.randn(theta.shape, generator=generator, dtype=torch.float64).to(theta)
    rtol = 4096 * torch.finfo(objective.dtype).eps if rtol is None else rtol
    trial = _Trial(objective, theta, v, dense=theta.shape[1] <= max_dense, smooth=smooth)
    _check_shapes(trial)
    _check_arguments(trial)
    _check_repetition(trial, rtol)
    batch_dependent = _check_rows(trial, rtol if batch_rtol is None else batch_rtol)
    _check_nan_row(trial)
    _check_gradient(trial, rtol)
    _check_hvp(trial, rtol)
    if trial.dense:
        _check_hessian(trial, rtol)
        _check_second_order(trial, rtol)
    else:
        trial.skipped.append(f"the dense Hessian: P = {theta.shape[1]} is above max_dense = {max_dense}")
    n_rows, n_parameters = theta.shape
    return ObjectiveReport(n_rows, n_parameters, tuple(trial.checks.values()), tuple(trial.skipped), batch_dependent)


def _points(objective: Objective, theta: Tensor | None, generator: torch.Generator) -> Tensor:
    """The points to check at: those given, if they can be used, or random ones."""
    if theta is None:
        sizes = getattr(objective, "n_parameters", None)  # two-layer objectives fit every width: take three neurons
        n_parameters: Any = objective.dim or (sizes(3) if callable(sizes) else None)
        require(n_parameters is not None, "theta must be given, (S, P): the objective has no dim that says what P is")
        theta = torch.randn(4, n_parameters, generator=generator, dtype=torch.float64)
    theta = objective.validate(theta).detach().clone()
    require(theta.ndim == 2 and len(theta) >= 2, f"theta must be (S, P) with S >= 2, got shape {tuple(theta.shape)}")
    require(bool(torch.isfinite(theta).all()), "theta must be finite")
    return theta


class _Trial:
    """The objective on trial, the points and directions, and what was found so far."""

    def __init__(self, objective: Objective, theta: Tensor, v: Tensor, *, dense: bool, smooth: bool) -> None:
        self.objective, self.theta, self.v, self.dense, self.smooth = objective, theta, v, dense, smooth
        self.checks: dict[str, PropertyCheck] = {}
        self.skipped: list[str] = []

    def results(self, theta: Tensor, v: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Everything that the objective says about these points, by name."""
        loss, gradient = self.objective.loss_and_gradient(theta)
        yield "loss", self.objective.loss(theta).detach()
        yield "loss of loss_and_gradient", loss
        yield "gradient", self.objective.gradient(theta)
        yield "gradient of loss_and_gradient", gradient
        yield "hvp", self.objective.hvp(theta, v)
        if self.dense:
            yield "hessian", self.objective.hessian(theta)
        if self.dense and theta.ndim == 2:
            second = self.objective.second_order(theta)
            for name in ("loss", "gradient", "hessian", "gradient_noise"):
                yield f"{name} of second_order", getattr(second, name)

    def scale(self, name: str) -> Tensor:
        """The size (S,) to which the rounding errors of a result are relative.

        The rounding of theta alone moves the loss by eps |g| |theta| and the gradient by eps |H theta|, however small
        loss and gradient themselves are.
        """
        objective, theta = self.objective, self.theta
        tiny = torch.finfo(theta.dtype).tiny
        kind = name.split(" ")[0]
        if kind == "hessian":
            return objective.hessian(theta).flatten(1).norm(dim=-1) + tiny
        product = objective.hvp(theta, self.v).norm(dim=-1) + objective.hvp(theta, self.v.flip(0)).norm(dim=-1)
        if kind == "hvp":
            return product + tiny
        loss, gradient = objective.loss_and_gradient(theta)
        if kind == "loss":
            return loss.abs() + gradient.norm(dim=-1) * theta.norm(dim=-1) + tiny
        return gradient.norm(dim=-1) + objective.hvp(theta, theta).norm(dim=-1) + product + tiny

    def record(self, what: str, name: str, error: float, tolerance: float, advice: str) -> None:
        """Notes that a result has a property to within the tolerance; raises if it has not."""
        if not error <= tolerance:  # NaN included
            self.fail(f"'{what} {name}' does not hold: off by {error:.3g}, tolerance {tolerance:.3g}", advice)
        previous = self.checks.get(name)
        if previous is None or error >= previous.error:
            self.checks[name] = PropertyCheck(name, error, tolerance)

    def fail(self, complaint: str, advice: str) -> None:
        """Raises the error that a user reads."""
        raise ObjectiveCheckFailed(f"{type(self.objective).__name__} does not pass: {complaint}. Look at {advice}.")

    def compare(
        self,
        what: str,
        name: str,
        given: Tensor,
        expected: Tensor,
        tolerance: float,
        advice: str,
        rows: slice = slice(None),
    ) -> None:
        """Notes the largest deviation over rows, relative to the scale of each."""
        gap = (given - expected).flatten(1).abs().amax(-1) if given.ndim > 1 else (given - expected).abs()
        relative = gap / self.scale(what)[rows]
        self.record(what, name, float(relative.nan_to_num(nan=torch.inf).max()), tolerance, advice)


def _expected_shape(name: str, theta: Tensor) -> tuple[int, ...]:
    *batch, p = theta.shape
    vectors = {"gradient": (p,), "hvp": (p,), "hessian": (p, p)}
    return (*batch, *vectors.get(name.split(" ")[0], ()))


def _check_shapes(trial: _Trial) -> None:
    n_rows, p = trial.theta.shape
    for shape in ((n_rows, p), (1, n_rows, p), (p,)):
        theta, v = (t[0] if len(shape) == 1 else t.reshape(shape) for t in (trial.theta, trial.v))
        for name, result in trial.results(theta, v):
            expected = _expected_shape(name, theta)
            if tuple(result.shape) != expected:
                got = f"{name} has shape {tuple(result.shape)} for theta {shape}, expected {expected}"
                trial.fail(got, "reductions: sum over the last axis of theta and over the data, never over rows")
            if (result.dtype, result.device) != (theta.dtype, theta.device):
                got = f"{name} is {result.dtype} on {result.device}, expected {theta.dtype} on {theta.device}"
                trial.fail(got, "the attributes dtype and device of the objective, and at the data it holds")
            if not bool(torch.isfinite(result).all()):
                advice = "logarithms, roots and quotients, and at their derivatives; or give other points as theta"
                trial.fail(f"{name} is not finite although theta is", advice)
    trial.record("everything", "has the promised shape, dtype and device, and is finite", 0.0, 0.0, "")


def _check_arguments(trial: _Trial) -> None:
    theta, v = trial.theta.clone(), trial.v.clone()
    for name, _ in trial.results(theta, v):
        change = max(float((a - b).abs().max()) for a, b in ((theta, trial.theta), (v, trial.v)))
        advice = "in-place operations (add_, sub_, assignments to an index) on an argument or on a view of one"
        trial.record(name, "leaves its arguments unchanged", change, 0.0, advice)


def _check_repetition(trial: _Trial, rtol: float) -> None:
    first = dict(trial.results(trial.theta, trial.v))
    advice = "random numbers, dropout, data that are shuffled, or sums whose order depends on threads"
    for name, again in trial.results(trial.theta, trial.v):
        trial.compare(name, "has the same bits when asked again", again, first[name], 0.0, advice)
    strided = [torch.stack([t, torch.zeros_like(t)], -1)[..., 0] for t in (trial.theta, trial.v)]
    with torch.no_grad():
        for name, again in trial.results(*strided):
            advice = "assumptions on strides (view, data_ptr, NumPy); use contiguous() first"
            trial.compare(name, "is the same for a strided view, under no_grad", again, first[name], rtol, advice)


def _check_rows(trial: _Trial, tolerance: float) -> tuple[str, ...]:
    """Compares each row alone with the batch; returns the results whose bits differ."""
    name = "of a row is the same alone and in a batch"
    rows = [dict(trial.results(trial.theta[i : i + 1], trial.v[i : i + 1])) for i in range(len(trial.theta))]
    advice = (
        "means, norms and sums over the batch axis; if it is off by a few eps, at matrix products that span rows and "
        "at vectorised functions (pass batch_rtol where those bits do not matter)"
    )
    different = []
    for what, together in trial.results(trial.theta, trial.v):
        alone = torch.cat([row[what] for row in rows])
        trial.compare(what, name, alone, together, tolerance, advice)
        if not torch.equal(alone, together):
            different.append(what)
    return tuple(different)


def _check_nan_row(trial: _Trial) -> None:
    theta, neighbours = trial.theta.clone(), slice(1, None)
    theta[0] = torch.nan
    intact = dict(trial.results(trial.theta, trial.v))
    for what, result in trial.results(theta, trial.v):
        name = "of a row is untouched by NaN in another"
        advice = "operations that mix rows: maxima, norms and products over the batch axis"
        trial.compare(what, name, result[neighbours], intact[what][neighbours], 0.0, advice, neighbours)
        if what.startswith("loss"):
            hidden = float(torch.isfinite(result[0]))
            trial.record(what, "of a row with NaN is not finite", hidden, 0.0, "clamps, comparisons and nan_to_num")


def _has_graph(trial: _Trial) -> bool:
    with torch.enable_grad():
        return trial.objective.loss(trial.theta.clone().requires_grad_()).requires_grad


_AUTOMATIC = "equals automatic differentiation of loss"
_DIFFERENCES = "equals finite differences of "


def _check_gradient(trial: _Trial, rtol: float) -> None:
    objective, theta = trial.objective, trial.theta
    loss, gradient = objective.loss_and_gradient(theta)
    expected = objective.loss(theta).detach()
    trial.compare("loss of loss_and_gradient", "equals loss", loss, expected, rtol, "constant factors and terms")
    together = "equals that of loss_and_gradient"
    trial.compare("gradient", together, objective.gradient(theta), gradient, rtol, "the one that is overridden")
    advice = "the closed form of the gradient: signs, factors 2 and 1/N, the order of the parameters"
    if _has_graph(trial):
        automatic = Objective.loss_and_gradient(objective, theta)[1]
        trial.compare("gradient", _AUTOMATIC, gradient, automatic, rtol, advice)
    else:
        trial.skipped.append("automatic differentiation: loss has no graph")
    advice += "; at detach, no_grad and rounding inside loss"
    along = (gradient * trial.v).sum(-1, keepdim=True)
    _compare_differences(trial, "gradient", "loss", lambda t: objective.loss(t).detach().unsqueeze(-1), along, advice)


def _check_hvp(trial: _Trial, rtol: float) -> None:
    objective, theta, v, u = trial.objective, trial.theta, trial.v, trial.v.flip(0)
    product, other = objective.hvp(theta, v), objective.hvp(theta, u)
    advice = "the closed form of the Hessian-vector product: terms across layers, factors 2 and 1/N"
    if _has_graph(trial):
        trial.compare("hvp", _AUTOMATIC, product, Objective.hvp(objective, theta, v), rtol, advice)
    gap = ((u * product).sum(-1) - (v * other).sum(-1)) / (u.norm(dim=-1) + v.norm(dim=-1))
    trial.compare("hvp", "is symmetric, <u, H v> = <v, H u>", gap, torch.zeros_like(gap), rtol, advice)
    trial.compare("hvp", "is linear, H (2 v) = 2 H v", objective.hvp(theta, 2 * v), 2 * product, rtol, advice)
    _compare_differences(trial, "hvp", "gradient", objective.gradient, product, advice)


def _check_hessian(trial: _Trial, rtol: float) -> None:
    objective, theta, v = trial.objective, trial.theta, trial.v
    hessian = objective.hessian(theta)
    advice = "the last line: return 0.5 * (hessian + hessian.mT), once the two agree but for rounding"
    trial.compare("hessian", "is exactly symmetric", hessian, hessian.mT, 0.0, advice)
    advice = "the closed form of the Hessian: terms across layers, factors 2 and 1/N"
    if _has_graph(trial):
        trial.compare("hessian", _AUTOMATIC, hessian, Objective.hessian(objective, theta), rtol, advice)
    product = (hessian @ v.unsqueeze(-1)).squeeze(-1)
    gap = (product - objective.hvp(theta, v)) / v.norm(dim=-1, keepdim=True)
    trial.compare("hessian", "times v equals hvp", gap, torch.zeros_like(gap), rtol, advice)
    _compare_differences(trial, "hessian", "gradient", objective.gradient, product, advice)


def _check_second_order(trial: _Trial, rtol: float) -> None:
    objective, theta = trial.objective, trial.theta
    second = objective.second_order(theta)
    advice = "the method second_order of the objective, where it is overridden"
    loss, gradient = objective.loss_and_gradient(theta)
    trial.compare("hessian", "of second_order is exactly symmetric", second.hessian, second.hessian.mT, 0.0, advice)
    for what, alone in (("loss", loss), ("gradient", gradient), ("hessian", objective.hessian(theta))):
        trial.compare(what, "equals that of second_order", alone, getattr(second, what), rtol, advice)
    negative = float((-second.gradient_noise).clamp(min=0).max())
    trial.record("gradient_noise", "is not negative", negative, 0.0, advice)


class _Difference(NamedTuple):
    """A derivative by finite differences and an estimate of its error, of one shape."""

    value: Tensor
    error: Tensor


def _compare_differences(
    trial: _Trial, what: str, of: str, function: Callable[[Tensor], Tensor], derivative: Tensor, advice: str
) -> None:
    """Compares the derivative of ``function`` along ``trial.v``, row by row, with its differences."""
    difference = (_ridders if trial.smooth else _single_step)(function, trial.theta, trial.v)
    allowed = SAFETY * difference.error.amax(-1) + torch.finfo(derivative.dtype).tiny
    gap = (derivative - difference.value).abs().amax(-1)
    scale = torch.maximum(derivative.abs(), difference.value.abs()).amax(-1) + allowed
    if float((allowed / scale).max()) > TOO_ROUGH and float(gap.max()) > 0:
        trial.skipped.append(f"{what} against differences of {of}, at some row: they are too rough there to tell")
    if trial.smooth:
        advice += "; if the loss has kinks (ReLU), pass smooth=False"
    worst = int((gap / allowed).argmax())
    error, tolerance = float((gap / scale)[worst]), float((allowed / scale)[worst])
    trial.record(what, _DIFFERENCES + of, error, tolerance, advice)


def _first_step(theta: Tensor, v: Tensor, power: float) -> Tensor:
    """(S, 1): eps^power, times the size of theta where that is above 1, over the size of v."""
    size = torch.maximum(theta.abs().amax(-1), torch.ones_like(theta[:, 0])) / v.abs().amax(-1)
    return (torch.finfo(theta.dtype).eps ** power * size).unsqueeze(-1)


def _central(function: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor, h: Tensor) -> _Difference:
    """One central difference, and the share of its error that the function's own rounding has, eps |f| / h."""
    up, down = function(theta + h * v), function(theta - h * v)
    rounding = torch.finfo(theta.dtype).eps * (up.abs() + down.abs()).amax(-1, keepdim=True) / h
    return _Difference((up - down) / (2 * h), rounding.expand_as(up))


def _single_step(function: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor) -> _Difference:
    """d/dt function(theta + t v) at t = 0 by the step sqrt(eps); its error by comparison with half the step."""
    h = _first_step(theta, v, 0.5)
    coarse, fine = _central(function, theta, v, h), _central(function, theta, v, h / 2)
    return _Difference(fine.value, (fine.value - coarse.value).abs() + fine.error)


def _ridders(function: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor, levels: int = 8) -> _Difference:
    """d/dt function(theta + t v) at t = 0 by central differences with halved steps, extrapolated to step 0.

    C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software 4 (1982) 75:
    of the extrapolation table, the entry that differs least from the two it was made of.
    """
    h = _first_step(theta, v, 0.125)
    above = _central(function, theta, v, h)
    best, column = _Difference(above.value, torch.full_like(above.value, torch.inf)), [above.value]
    for _ in range(1, levels):
        h = h / 2
        central = _central(function, theta, v, h)
        row = [central.value]
        for k, previous in enumerate(column):
            row.append(row[k] + (row[k] - previous) / (4.0 ** (k + 1) - 1))
            error = torch.maximum((row[-1] - row[-2]).abs(), (row[-1] - previous).abs()) + central.error
            better = error < best.error
            best = _Difference(torch.where(better, row[-1], best.value), torch.where(better, error, best.error))
        column = row
    return best
