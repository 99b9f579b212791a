"""The table of activations: derivatives to the fourth order, bounds and parity.

``derivative(z, n)`` is the n-th derivative, elementwise, in the dtype and on the device of ``z``. Order 0 can be
differentiated again by autograd; orders 1 to 4 are closed forms that keep their relative accuracy in the tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from critpoints.errors import InvalidArgument, require

MAX_ORDER = 4


@dataclass(frozen=True)
class Activation:
    """One activation function s.

    Attributes:
        name: the name that ``get_activation`` and ``--activation`` take.
        code: its number in the compiled kernels.
        derivative: ``derivative(z, n)``, the n-th derivative for n = 0..4 (almost everywhere for ReLU).
        sup: upper bounds of sup |s^(n)| over the real line, n = 0..4; ``inf`` where there is none.
        reflection: the constant k with s(-z) = k - s(z) for all z (0: odd; 1: the sigmoid), or None.
        smooth: whether all four derivatives exist everywhere.
    """

    name: str
    code: int
    derivative: Callable[[Tensor, int], Tensor] = field(repr=False)
    sup: tuple[float, float, float, float, float]
    reflection: float | None
    smooth: bool = True

    def __call__(self, z: Tensor) -> Tensor:
        """The activation itself, order 0."""
        return self.derivative(z, 0)

    def derivatives(self, z: Tensor, orders: int) -> list[Tensor]:
        """Orders 0 to ``orders``, in a list."""
        return [self.derivative(z, n) for n in range(orders + 1)]


def _check_order(n: int) -> None:
    require(0 <= n <= MAX_ORDER, f"n must be a derivative order from 0 to {MAX_ORDER}, got {n}")


def _sigmoid(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return torch.sigmoid(z)
    e = torch.exp(-z.abs())
    slope = e / (1 + e) ** 2
    if n == 1:
        return slope
    odd = -torch.tanh(0.5 * z)  # 1 - 2 s, without cancellation
    if n == 2:
        return slope * odd
    if n == 3:
        return slope * (1 - 6 * slope)
    return slope * odd * (1 - 12 * slope)


def _tanh(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return torch.tanh(z)
    return 2 ** (n + 1) * _sigmoid(2 * z, n)  # tanh z = 2 sigmoid(2 z) - 1


def _gaussian(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _erf(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return torch.erf(z)
    slope = torch.exp(-z * z) * (2 / math.sqrt(math.pi))
    factors = (1.0, -2 * z, 4 * z**2 - 2, -8 * z**3 + 12 * z)
    return slope * factors[n - 1]


def _softplus(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return torch.logaddexp(z, torch.zeros_like(z))
    return _sigmoid(z, n - 1)


def _softplus_sigmoid(z: Tensor, n: int) -> Tensor:
    return _softplus(z, n) + 4**n * _sigmoid(4 * z, n)


def _silu(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return z * torch.sigmoid(z)
    return n * _sigmoid(z, n - 1) + z * _sigmoid(z, n)


def _gelu(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    cdf = 0.5 * torch.special.erfc(-z / math.sqrt(2))
    if n == 0:
        return z * cdf
    density = _gaussian(z)
    if n == 1:
        return cdf + z * density
    factors = (2 - z**2, z**3 - 4 * z, -(z**4) + 7 * z**2 - 4)
    return density * factors[n - 2]


def _relu(z: Tensor, n: int) -> Tensor:
    _check_order(n)
    if n == 0:
        return torch.relu(z)
    if n == 1:
        return (z > 0).to(z.dtype)
    return torch.zeros_like(z)


_INF = math.inf
# The bounds are rounded up in the last digit; a test maximises each derivative with mpmath.
ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("sigmoid", 0, _sigmoid, (1.0, 0.25, 0.096225045, 0.125, 0.127683922), 1.0),
        Activation("tanh", 1, _tanh, (1.0, 1.0, 0.769800359, 2.0, 4.085885503), 0.0),
        Activation("erf", 2, _erf, (1.0, 1.128379168, 0.967882899, 2.256758335, 4.404702717), 0.0),
        Activation("softplus", 3, _softplus, (_INF, 1.0, 0.25, 0.096225045, 0.125), None),
        Activation(
            "softplus_sigmoid", 4, _softplus_sigmoid, (_INF, 1.503915862, 1.78297812, 8.000030518, 32.80662405), None
        ),
        Activation("silu", 5, _silu, (_INF, 1.099839321, 0.5, 0.308181516, 0.5), None),
        Activation("gelu", 6, _gelu, (_INF, 1.128904146, 0.797884561, 0.778769636, 1.595769122), None),
        Activation("relu", 7, _relu, (_INF, 1.0, _INF, _INF, _INF), None, smooth=False),
    )
}


def get_activation(activation: str | Activation) -> Activation:
    """Looks an activation up by its name; an ``Activation`` passes through.

    Raises:
        InvalidArgument: the name is not in the table.

    >>> get_activation("sigmoid").reflection
    1.0
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise InvalidArgument(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return ACTIVATIONS[activation]
