"""Small problems whose critical points are known: for tests, for benchmarks, and to try a method on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.base import Objective
from critpoints.verdict import Kind

MAX_LISTED_INDEX = 6  # a planted problem of index k has 3^k critical points; above, only the planted one is listed


@dataclass(frozen=True)
class CriticalPoint:
    """A critical point, also to be unpacked as ``theta, index, kind``.

    Attributes:
        theta: (P,).
        index: the number of negative eigenvalues of the Hessian there.
        kind: what it is.
    """

    theta: Tensor
    index: int
    kind: Kind

    def __iter__(self) -> Iterator[Any]:
        return iter((self.theta, self.index, self.kind))


class KnownObjective(Objective):
    """An objective that knows critical points of its own.

    Attributes:
        critical_points: those known; theta to the rounding of float64.
        complete: whether there are no others.
        known_minimum: the infimum of the loss; -inf where it is unbounded below.
    """

    critical_points: list[CriticalPoint]
    complete: bool = True
    known_minimum: float = 0.0


def _listed(*points: tuple[Sequence[float], int, Kind]) -> list[CriticalPoint]:
    return [CriticalPoint(torch.tensor(theta, dtype=torch.float64), index, kind) for theta, index, kind in points]


class Rosenbrock(KnownObjective):
    """sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2: a curved, narrow valley with its minimum at (1, .., 1).

    For d <= 3 there is no other critical point; from d = 4 on there are a local minimum near (-1, 1, .., 1) and
    saddles, which are not listed. H. H. Rosenbrock, Computer Journal 3 (1960) 175; S. Kok and C. Sandrock,
    Evolutionary Computation 17 (2009) 437.

    >>> Rosenbrock(3).gradient(torch.ones(3)).tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, d: int = 2) -> None:
        require(d >= 2, f"d must be at least 2, got {d}")
        self.dim, self.complete = d, d <= 3
        self.critical_points = _listed(([1.0] * d, 0, Kind.GLOBAL_MINIMUM))

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        theta = self.validate(theta)
        head, tail = theta[..., :-1], theta[..., 1:]
        return (100 * (tail - head**2) ** 2 + (1 - head) ** 2).sum(-1)


class Himmelblau(KnownObjective):
    """(x^2 + y - 11)^2 + (x + y^2 - 7)^2: four minima of loss 0, four saddles, one maximum.

    D. M. Himmelblau, "Applied Nonlinear Programming" (1972). The points were computed to 40 digits.

    >>> from collections import Counter
    >>> Counter(point.index for point in Himmelblau().critical_points)
    Counter({0: 4, 1: 4, 2: 1})
    """

    dim = 2

    def __init__(self) -> None:
        self.critical_points = _listed(
            ((3.0, 2.0), 0, Kind.GLOBAL_MINIMUM),
            ((-2.8051180869527448531, 3.1313125182505729658), 0, Kind.GLOBAL_MINIMUM),
            ((-3.7793102533777468919, -3.2831859912861694123), 0, Kind.GLOBAL_MINIMUM),
            ((3.5844283403304917449, -1.8481265269644035535), 0, Kind.GLOBAL_MINIMUM),
            ((3.385154183607020938, 0.073851879837749287719), 1, Kind.STRICT_SADDLE),
            ((0.086677504555396351823, 2.8842547011747761131), 1, Kind.STRICT_SADDLE),
            ((-3.0730257507643896105, -0.081353044287967511553), 1, Kind.STRICT_SADDLE),
            ((-0.12796134673068006631, -1.9537149802445764261), 1, Kind.STRICT_SADDLE),
            ((-0.27084459066734761304, -0.92303855647998146313), 2, Kind.STRICT_MAXIMUM),
        )

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        x, y = self.validate(theta).unbind(-1)
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


class MuellerBrown(KnownObjective):
    """A sum of four Gaussians in the plane, three of them wells: three minima joined by two saddles.

    K. Müller and L. D. Brown, Theoretica Chimica Acta 53 (1979) 75. The points were computed to 40 digits; the deepest
    minimum is the global one.

    >>> deepest = MuellerBrown().critical_points[0]
    >>> round(float(MuellerBrown().loss(deepest.theta)), 10)
    -146.69951721
    """

    dim = 2
    known_minimum = -146.6995172099540137

    _height = (-200.0, -100.0, -170.0, 15.0)
    _xx, _xy, _yy = (-1.0, -1.0, -6.5, 0.7), (0.0, 0.0, 11.0, 0.6), (-10.0, -10.0, -6.5, 0.7)
    _x0, _y0 = (1.0, 0.0, -0.5, -1.0), (0.0, 0.5, 1.5, 1.0)

    def __init__(self) -> None:
        self.critical_points = _listed(
            ((-0.55822363463302427747, 1.4417258418046686551), 0, Kind.GLOBAL_MINIMUM),
            ((0.62349940493087650977, 0.028037758528685665749), 0, Kind.STRICT_MINIMUM),
            ((-0.050010822998206057751, 0.46669410487197208777), 0, Kind.STRICT_MINIMUM),
            ((-0.82200155873273209741, 0.62431280281487136129), 1, Kind.STRICT_SADDLE),
            ((0.21248658200066200686, 0.29298832510736776515), 1, Kind.STRICT_SADDLE),
        )

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        x, y = self.validate(theta).unbind(-1)
        total = torch.zeros_like(x)
        for height, xx, xy, yy, x0, y0 in zip(
            self._height, self._xx, self._xy, self._yy, self._x0, self._y0, strict=True
        ):
            dx, dy = x - x0, y - y0
            total = total + height * torch.exp(xx * dx * dx + xy * dx * dy + yy * dy * dy)
        return total


class MonkeySaddle(KnownObjective):
    """x^3 - 3 x y^2: at its one critical point, the origin, the Hessian is zero, so only third derivatives decide.

    >>> MonkeySaddle().hessian(torch.tensor([1.0, 0.0])).tolist()
    [[6.0, 0.0], [0.0, -6.0]]
    """

    dim = 2
    known_minimum = -np.inf

    def __init__(self) -> None:
        self.critical_points = _listed(((0.0, 0.0), 0, Kind.DEGENERATE_SADDLE))

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        x, y = self.validate(theta).unbind(-1)
        return x**3 - 3 * x * y**2


class _Rotated(KnownObjective):
    """Coordinates u = Q^T (theta - centre), Q a random rotation and centre a standard normal point."""

    def __init__(self, dim: int, seed: int) -> None:
        require(dim >= 1, f"dim must be at least 1, got {dim}")
        require(seed >= 0, f"seed must be nonnegative, got {seed}")
        self.dim = dim
        rng = np.random.default_rng(seed)
        q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
        # the signs make Q uniform over the orthogonal group: F. Mezzadri, Notices of the AMS 54 (2007) 592
        self.rotation = torch.from_numpy(q * np.sign(np.diag(r)))
        self.centre = torch.from_numpy(rng.standard_normal(dim))

    def coordinates(self, theta: Tensor) -> Tensor:
        """The coordinates u of each row, (*b, P) -> (*b, P); summed row by row, so that no row depends on the batch."""
        return ((self.validate(theta) - self.centre).unsqueeze(-1) * self.rotation).sum(-2)

    def _parameters(self, u: Sequence[float] | Tensor) -> Tensor:
        return self.centre + self.rotation @ torch.as_tensor(u, dtype=self.dtype)

    def _conjugate(self, diagonal: Tensor) -> Tensor:
        """Q diag Q^T of each row, exactly symmetric; row by row, so that no row depends on the batch."""
        rows = [(self.rotation * row) @ self.rotation.T for row in diagonal.reshape(-1, diagonal.shape[-1])]
        hessian = torch.stack(rows).reshape(*diagonal.shape, diagonal.shape[-1])
        return 0.5 * (hessian + hessian.mT)


class QuadraticForm(_Rotated):
    """1/2 u^T diag(eigenvalues) u in randomly rotated and shifted coordinates u.

    Args:
        eigenvalues: of the Hessian; with zeros among them the critical points fill a subspace, and the centre is one.
        seed: of rotation and centre.

    >>> form = QuadraticForm([-1.0, 2.0, 0.0])
    >>> torch.linalg.eigvalsh(form.hessian(form.centre)).round(decimals=12).abs().tolist()
    [1.0, 0.0, 2.0]
    """

    def __init__(self, eigenvalues: Sequence[float], seed: int = 0) -> None:
        super().__init__(len(eigenvalues), seed)
        self.eigenvalues = torch.tensor(eigenvalues, dtype=self.dtype)
        require(bool(torch.isfinite(self.eigenvalues).all()), f"eigenvalues must be finite, got {eigenvalues}")
        index = int((self.eigenvalues < 0).sum())
        self.known_minimum = -np.inf if index else 0.0
        self.complete = bool((self.eigenvalues != 0).all())
        kinds = {0: Kind.GLOBAL_MINIMUM, self.dim: Kind.STRICT_MAXIMUM}
        self.critical_points = [CriticalPoint(self.centre, index, kinds.get(index, Kind.STRICT_SADDLE))]

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        return 0.5 * (self.eigenvalues * self.coordinates(theta) ** 2).sum(-1)

    def hessian(self, theta: Tensor) -> Tensor:
        """Q diag(eigenvalues) Q^T, the same for every row."""
        theta = self.validate(theta)
        return self._conjugate(self.eigenvalues).expand(*theta.shape, theta.shape[-1]).clone()


class PlantedMorse(_Rotated):
    """sum_i lambda_i u_i^2 / 2 + u_i^4 / 4 in randomly rotated and shifted coordinates u, ``index`` lambdas negative.

    The planted critical point is the centre, u = 0, with loss 0, the eigenvalues lambda and the index asked for. Each
    negative direction has two more, u_i = +-sqrt(-lambda_i), where its eigenvalue is -2 lambda_i: 3^index points in
    all, nondegenerate, 2^index of them global minima. |lambda_i| is drawn from [0.5, 2].

    >>> problem = PlantedMorse(5, index=2, seed=1)
    >>> [point.index for point in problem.critical_points]
    [2, 1, 1, 1, 0, 0, 1, 0, 0]
    """

    def __init__(self, dim: int, index: int, seed: int = 0) -> None:
        super().__init__(dim, seed)
        require(0 <= index <= dim, f"index must be from 0 to dim = {dim}, got {index}")
        size = np.random.default_rng([seed, 1]).uniform(0.5, 2.0, dim)
        self.eigenvalues = torch.from_numpy(np.where(np.arange(dim) < index, -size, size))
        wells = self.eigenvalues.clamp(max=0).abs()
        self.known_minimum = -0.25 * float((wells**2).sum())
        self.complete = index <= MAX_LISTED_INDEX
        signs = itertools.product((0.0, 1.0, -1.0), repeat=index if self.complete else 0)
        self.critical_points = [self._point(sign, wells, index) for sign in signs]

    def _point(self, sign: tuple[float, ...], wells: Tensor, index: int) -> CriticalPoint:
        """The critical point with u_i = sign_i sqrt(-lambda_i) in the negative directions."""
        u = torch.zeros_like(wells)
        u[: len(sign)] = torch.tensor(sign, dtype=self.dtype) * wells[: len(sign)].sqrt()
        here = index - sum(s != 0 for s in sign)
        kinds = {0: Kind.GLOBAL_MINIMUM, self.dim: Kind.STRICT_MAXIMUM}
        return CriticalPoint(self._parameters(u), here, kinds.get(here, Kind.STRICT_SADDLE))

    def loss(self, theta: Tensor) -> Tensor:
        """See the class."""
        square = self.coordinates(theta) ** 2
        return (0.5 * self.eigenvalues * square + 0.25 * square**2).sum(-1)

    def hessian(self, theta: Tensor) -> Tensor:
        """Q diag(lambda + 3 u^2) Q^T of each row."""
        return self._conjugate(self.eigenvalues + 3 * self.coordinates(theta) ** 2)
