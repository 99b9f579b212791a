"""Two-layer networks on a finite, weighted data set, with every derivative in closed form.

Parameters of a student of width m on inputs in R^d: theta = (w_11, .., w_1d, .., w_md, a_1, .., a_m [, b]); with
``hidden_bias`` every w_k has d + 1 entries, the last one multiplying the constant input 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import Self

import torch
from torch import Tensor

from critpoints.activations import Activation, get_activation
from critpoints.errors import InvalidArgument, InvalidData, require
from critpoints.kernels import reference, select
from critpoints.kernels.devices import resolve_device
from critpoints.kernels.samples import Samples, prepare
from critpoints.kernels.types import AdamRun
from critpoints.objectives.base import Objective, SecondOrder


def _as_data(name: str, value: object, ndim: int, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    """A finite floating tensor of the given rank, or an error that says what is wrong with it."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidData(f"{name} must be a rectangular array of numbers: {error}") from error
    if tensor.dtype in (torch.float16, torch.bfloat16) or tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidData(
            f"{name} has dtype {tensor.dtype}; give float64 or float32 (half precision cannot carry a verdict)"
        )
    if tensor.ndim != ndim:
        raise InvalidData(f"{name} must have {ndim} axes, got shape {tuple(tensor.shape)}")
    tensor = tensor.to(dtype=dtype, device=device)
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise InvalidData(f"{name} has {bad} entries that are NaN or infinite; remove those samples")
    return tensor


class TwoLayerObjective(Objective):
    """L(theta) = scale * sum_i q_i (f(x_i) - y_i)^2, f(x) = sum_k a_k s(w_k . x) (+ b); any 1/2 is in ``scale``.

    One objective serves students of every width: a row of ``theta`` with P = m (d + 1) entries (plus one with an
    output bias) is a student of width m. q_i = 1/N without ``sample_weight``; with it q_i = weight_i / sum(weights),
    so that the nodes and weights of a quadrature rule give the population loss of its measure.

    Args:
        x: inputs, (N, d).
        y: targets, (N,).
        activation: a name from the table of activations, or an ``Activation``.
        sample_weight: nonnegative weights, (N,).
        scale: factor of the loss; 0.5 for the convention with one half.
        hidden_bias: a bias in every hidden neuron (an input that is always 1).
        output_bias: a bias of the output, the last parameter.
        mirror: use the symmetry x -> -x of the data where there is one; exact, and twice as fast.
        dtype: float64, or float32 where speed matters more than a verdict.
        device: ``cpu``, ``cuda``, ``cuda:1`` or the like, or ``auto``.

    Raises:
        InvalidData: data that are ragged, non-finite, of half precision, or of the wrong shape.

    >>> import torch
    >>> objective = TwoLayerObjective([[1.0], [-1.0]], [1.0, 0.0], "sigmoid")
    >>> float(objective.loss(torch.tensor([0.0, 1.0])))  # both outputs are 1/2
    0.25
    """

    def __init__(
        self,
        x: object,
        y: object,
        activation: str | Activation,
        *,
        sample_weight: object | None = None,
        scale: float = 1.0,
        hidden_bias: bool = False,
        output_bias: bool = False,
        mirror: bool = True,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        require(dtype in (torch.float64, torch.float32), f"dtype must be torch.float64 or torch.float32, got {dtype}")
        require(scale > 0, f"scale must be positive, got {scale}")
        self.dtype, self.device = dtype, resolve_device(device)
        self.activation = get_activation(activation)
        self.x = _as_data("x", x, 2, dtype, self.device)
        self.y = _as_data("y", y, 1, dtype, self.device)
        if len(self.x) != len(self.y) or not len(self.x) or not self.x.shape[1]:
            raise InvalidData(
                f"x must be (N, d) and y (N,), N and d at least 1; got {tuple(self.x.shape)} and {tuple(self.y.shape)}"
            )
        self.sample_weight = self._weights(sample_weight)
        self.scale, self.hidden_bias, self.output_bias, self.mirror = float(scale), hidden_bias, output_bias, mirror
        self.dim = None

    def _weights(self, sample_weight: object | None) -> Tensor:
        n = len(self.x)
        if sample_weight is None:
            return torch.full((n,), 1.0 / n, dtype=self.dtype, device=self.device)
        weight = _as_data("sample_weight", sample_weight, 1, self.dtype, self.device)
        if len(weight) != n or bool((weight < 0).any()) or not float(weight.sum()) > 0:
            raise InvalidData(f"sample_weight must be {n} nonnegative numbers with a positive sum")
        return weight / weight.sum()

    def to(self, device: torch.device | str) -> Self:
        """The same objective on another device; itself if it is there already."""
        device = resolve_device(device)
        if device == self.device:
            return self
        moved = copy.copy(self)
        moved.__dict__.pop("samples", None)  # cached for the old device
        moved.device = device
        for name, value in vars(moved).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    @property
    def features(self) -> Tensor:
        """Inputs as the hidden neurons see them: (N, d), or (N, d + 1) with hidden biases."""
        return torch.nn.functional.pad(self.x, (0, 1), value=1.0) if self.hidden_bias else self.x

    @cached_property
    def samples(self) -> Samples:
        """The data as the kernels read them."""
        weights = self.scale * self.sample_weight
        mirror = self.mirror and not self.hidden_bias
        return prepare(self.features, self.y, weights, self.activation, output_bias=self.output_bias, mirror=mirror)

    @property
    def n_inputs(self) -> int:
        """Weights of one hidden neuron: d, or d + 1 with hidden biases."""
        return self.x.shape[1] + int(self.hidden_bias)

    def n_parameters(self, width: int) -> int:
        """P of a student of this width.

        Raises:
            InvalidArgument: the width is not a positive integer.
        """
        require(isinstance(width, int) and width >= 1, f"width must be an integer of at least 1, got {width!r}")
        return width * (self.n_inputs + 1) + int(self.output_bias)

    def width(self, theta: Tensor) -> int:
        """The width m of the students in ``theta`` (*b, P)."""
        return (theta.shape[-1] - int(self.output_bias)) // (self.n_inputs + 1)

    def validate(self, theta: Tensor) -> Tensor:
        """See ``Objective.validate``; P must belong to some width."""
        theta = super().validate(theta)
        hidden = theta.shape[-1] - int(self.output_bias)
        if hidden < 1 or hidden % (self.n_inputs + 1):
            extra = " + 1 (output bias)" if self.output_bias else ""
            raise InvalidArgument(
                f"theta must have m * {self.n_inputs + 1}{extra} parameters in its last axis for some width m, "
                f"got shape {tuple(theta.shape)}"
            )
        return theta

    def split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden weights (*b, m, d) and output weights (*b, m), as views."""
        m, d = self.width(theta), self.n_inputs
        return theta[..., : m * d].unflatten(-1, (m, d)), theta[..., m * d : m * (d + 1)]

    def predict(self, theta: Tensor, x: Tensor | None = None) -> Tensor:
        """Network outputs, (*b, N): on the data, or on other inputs (N, d)."""
        theta = self.validate(theta)
        features = self.features
        if x is not None:
            features = x.to(self.x)
            features = torch.nn.functional.pad(features, (0, 1), value=1.0) if self.hidden_bias else features
        w, a = self.split(theta)
        output = (a.unsqueeze(-1) * self.activation(w @ features.T)).sum(-2)
        return output + theta[..., -1:] if self.output_bias else output

    def _kernels(self):
        return select(self.device, self.dtype)

    def loss(self, theta: Tensor) -> Tensor:
        """The loss of each row, (*b); differentiable by autograd."""
        theta = self.validate(theta)
        return reference.loss(self.samples, theta.reshape(-1, theta.shape[-1])).reshape(theta.shape[:-1])

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient (*b, P), by the fastest kernels for the device."""
        theta = self.validate(theta).detach()
        loss, gradient = self._kernels().loss_and_gradient(self.samples, theta.reshape(-1, theta.shape[-1]))
        return loss.reshape(theta.shape[:-1]), gradient.reshape(theta.shape)

    def hessian(self, theta: Tensor) -> Tensor:
        """Dense Hessian, (*b, P, P)."""
        theta = self.validate(theta).detach()
        hessian = self._kernels().derivatives(self.samples, theta.reshape(-1, theta.shape[-1])).hessian
        return hessian.reshape(*theta.shape, theta.shape[-1])

    def second_order(self, theta: Tensor) -> SecondOrder:
        """See ``Objective.second_order``; the noise is eps times the norm of the sums of absolute terms."""
        d = self._kernels().derivatives(self.samples, self.validate(theta).detach())
        noise = torch.finfo(self.dtype).eps * d.absolute.norm(dim=-1)
        return SecondOrder(d.loss, d.gradient, d.hessian, noise)

    def advance_adam(self, run: AdamRun, schedule: Tensor, betas: tuple[float, float], eps: float) -> None:
        """See ``Objective.advance_adam``; thousands of steps in one call of the kernel."""
        self._kernels().adam(self.samples, run, schedule, betas, eps)

    def advance_adam_together(
        self, runs: Sequence[AdamRun], schedule: Tensor, betas: tuple[float, float], eps: float
    ) -> None:
        """See ``Objective.advance_adam_together``; on a GPU all widths share a launch, so that it is full."""
        kernels = self._kernels()
        if hasattr(kernels, "adam_together"):
            kernels.adam_together(self.samples, runs, schedule, betas, eps)
        else:
            super().advance_adam_together(runs, schedule, betas, eps)

    def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
        """Hessian-vector products without a Hessian: (*b, P), (*b, P) -> (*b, P)."""
        theta, v = torch.broadcast_tensors(self.validate(theta).detach(), self.validate(v).detach())
        z, e, x = self._pre_activations(theta), self._residual(theta), self.features
        a = self.split(theta)[1].unsqueeze(-1)
        (dw, da), q = self.split(v), 2 * self.scale * self.sample_weight
        dz, da = dw @ x.T, da.unsqueeze(-1)
        s, s1, s2 = self.activation.derivatives(z, 2)
        df = (a * s1 * dz + da * s).sum(-2)
        if self.output_bias:
            df = df + v[..., -1:]
        df, e = (q * df).unsqueeze(-2), (q * e).unsqueeze(-2)
        inner = (df * a * s1 + e * (a * s2 * dz + da * s1)) @ x
        outer = (df * s + e * s1 * dz).sum(-1)
        parts = [inner.flatten(-2), outer]
        if self.output_bias:
            parts.append(df.squeeze(-2).sum(-1, keepdim=True))
        return torch.cat(parts, -1)

    def _pre_activations(self, theta: Tensor) -> Tensor:
        return self.split(theta)[0] @ self.features.T

    def _residual(self, theta: Tensor) -> Tensor:
        return self.predict(theta) - self.y

    def _output_derivative(self, theta: Tensor, directions: tuple[Tensor, ...]) -> Tensor:
        """The mixed directional derivative of the output, D^n f [v_1, .., v_n], (*b, N)."""
        z, a = self._pre_activations(theta), self.split(theta)[1].unsqueeze(-1)
        parts = [self.split(v) for v in directions]
        dz = [w @ self.features.T for w, _ in parts]
        order = len(directions)
        total = a * self.activation.derivative(z, order) * _product(dz, z)
        lower = self.activation.derivative(z, order - 1)
        for i, (_, da) in enumerate(parts):
            total = total + da.unsqueeze(-1) * lower * _product(dz[:i] + dz[i + 1 :], z)
        total = total.sum(-2)
        return total + directions[0][..., -1:] if self.output_bias and order == 1 else total

    def directional_derivative(self, theta: Tensor, *directions: Tensor) -> Tensor:
        """D^n L(theta)[v_1, .., v_n] for one to four directions, (*b): the mixed derivatives in closed form.

        Raises:
            InvalidArgument: no direction, or more than four.
        """
        require(1 <= len(directions) <= 4, f"give one to four directions, got {len(directions)}")
        theta = self.validate(theta).detach()
        vectors = [self.validate(v).detach() for v in directions]

        def output(subset: tuple[int, ...]) -> Tensor:
            if not subset:
                return self._residual(theta)
            return self._output_derivative(theta, tuple(vectors[i] for i in subset))

        # L = sum q e^2, so D^n L is the sum over subsets of D^|A| e [v_A] * D^(n-|A|) e [v_complement].
        indices = range(len(vectors))
        total = torch.zeros_like(self.sample_weight)
        for size in range(len(vectors) + 1):
            for subset in combinations(indices, size):
                rest = tuple(i for i in indices if i not in subset)
                total = total + output(subset) * output(rest)
        return (self.scale * self.sample_weight * total).sum(-1)


def _product(factors: list[Tensor], like: Tensor) -> Tensor:
    result = torch.ones_like(like)
    for factor in factors:
        result = result * factor
    return result
