"""WedgeObjective: the phenomenological model of a loss landscape as a union of high-dimensional wedges.

After Fort and Jastrzebski (arXiv 1906.04724): the low-loss set is a union of n-wedges, each long in n directions and
short in the other s = D - n, and the loss grows with the distance to the nearest wedge. The closed form is ours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from critpoints.errors import require
from critpoints.objectives.base import Objective


class WedgeObjective(Objective):
    """L(theta) = 1/2 max(0, min_w |x[S_w] - o_w| - eps)^2 in the coordinates x = R^T theta.

    Wedge w is the set of points whose s short coordinates S_w lie within the thickness eps of the offset o_w; in its
    D - s long directions it has no end. Loss 0 is the union of the wedges. Gradient, Hessian and its products are
    closed forms; between two equally near wedges and on the surface of one they belong to one side.

    Args:
        axes: (W, s), the short axes of each wedge, distinct integers from 0 to dim - 1 in a row.
        dim: D, the number of parameters.
        offsets: (W, s), where a wedge lies on its short axes; 0 by default, so that all wedges meet at the origin.
        thickness: eps, the same for all wedges.
        rotation: R, (D, D), orthogonal; the identity by default.

    Attributes:
        short: s, the number of short directions of a wedge.

    Raises:
        InvalidArgument: axes out of range or repeated, shapes that do not fit, a rotation that is not orthogonal.

    >>> model = WedgeObjective([[0], [1]], dim=3, offsets=[[1.0], [2.0]])  # the planes x = 1 and y = 2
    >>> points = torch.tensor([[1.0, 7.0, 5.0], [3.0, 2.0, -9.0], [0.0, 0.0, 0.0]])
    >>> model.loss(points).tolist(), model.nearest(points).tolist()
    ([0.0, 0.0, 0.5], [0, 1, 0])
    """

    def __init__(
        self,
        axes: object,
        dim: int,
        *,
        offsets: object | None = None,
        thickness: float = 0.0,
        rotation: Tensor | None = None,
    ) -> None:
        self.axes = torch.as_tensor(axes, dtype=torch.int64)
        shape = tuple(self.axes.shape)
        require(len(shape) == 2 and min(shape) >= 1, f"axes must have shape (W, s), W and s at least 1, got {shape}")
        inside = bool((self.axes >= 0).all()) and bool((self.axes < dim).all())
        require(inside, f"axes must be from 0 to dim - 1 = {dim - 1}, got {self.axes.min()} to {self.axes.max()}")
        repeated = (self.axes.sort(-1).values.diff(dim=-1) == 0).any(-1)
        require(not bool(repeated.any()), f"axes of a wedge must be distinct; repeated in rows {_rows(repeated)}")
        require(0 <= thickness < float("inf"), f"thickness must be a finite number of at least 0, got {thickness}")
        self.dim, self.short, self.thickness = dim, shape[1], float(thickness)
        self.offsets = torch.zeros(shape, dtype=self.dtype)
        if offsets is not None:
            self.offsets = torch.as_tensor(offsets, dtype=self.dtype)
            given = tuple(self.offsets.shape)
            require(given == shape, f"offsets must have the shape of axes, {shape}, got {given}")
            require(bool(torch.isfinite(self.offsets).all()), "offsets must be finite")
        self.rotation = None if rotation is None else _orthogonal(rotation, dim)

    @classmethod
    def random(
        cls,
        dim: int,
        short: int,
        wedges: int,
        *,
        offset: float = 0.0,
        thickness: float = 0.0,
        disjoint: bool = False,
        rotated: bool = False,
        seed: int = 0,
    ) -> WedgeObjective:
        """Wedges with random short axes, and with offsets of length ``offset`` in random directions of those.

        Args:
            dim, short, wedges: D, s and W.
            disjoint: no axis is short for two wedges, which takes wedges * short <= dim; else each draws its own.
            rotated: in random coordinates, uniform over the orthogonal group.
        """
        require(1 <= short <= dim, f"short must be from 1 to dim = {dim}, got {short}")
        require(wedges >= 1, f"wedges must be at least 1, got {wedges}")
        require(
            not disjoint or wedges * short <= dim,
            f"disjoint wedges need wedges * short <= dim, got {wedges} * {short} > {dim}",
        )
        require(0 <= offset < float("inf"), f"offset must be a finite length of at least 0, got {offset}")
        rng = np.random.default_rng(seed)
        if disjoint:
            axes = rng.permutation(dim)[: wedges * short].reshape(wedges, short)
        else:
            axes = np.stack([rng.permutation(dim)[:short] for _ in range(wedges)])
        directions = rng.standard_normal((wedges, short))
        directions *= offset / np.linalg.norm(directions, axis=1, keepdims=True)
        rotation = None
        if rotated:
            q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
            # the signs make Q uniform over the orthogonal group: F. Mezzadri, Notices of the AMS 54 (2007) 592
            rotation = torch.from_numpy(q * np.sign(np.diag(r)))
        return cls(np.sort(axes, 1), dim, offsets=directions, thickness=thickness, rotation=rotation)

    def coordinates(self, theta: Tensor) -> Tensor:
        """x = R^T theta of each row, (*b, D), NaN where the row is not finite throughout."""
        theta = self.validate(theta)
        theta = torch.where(torch.isfinite(theta).all(-1, keepdim=True), theta, torch.nan)
        if self.rotation is None:
            return theta
        return _combinations(theta, self.rotation)

    def parameters(self, x: Tensor) -> Tensor:
        """theta = R x of each row of coordinates, (*b, D)."""
        x = self.validate(x)
        if self.rotation is None:
            return x
        return _combinations(x, self.rotation.mT)

    def distances(self, theta: Tensor) -> Tensor:
        """|x[S_w] - o_w|, each row's distance to the middle of every wedge: (*b, W)."""
        return self._displacements(self.coordinates(theta)).norm(dim=-2)

    def nearest(self, theta: Tensor) -> Tensor:
        """The number of the wedge that is nearest to each row, (*b); the first of several."""
        return self.distances(theta).argmin(-1)

    def loss(self, theta: Tensor) -> Tensor:
        """The loss of each row, (*b)."""
        return 0.5 * (self.distances(theta).amin(-1) - self.thickness).clamp(min=0) ** 2

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (*b) and gradient (*b, D): the step from the surface of the nearest wedge to the point."""
        theta = self.validate(theta).detach()
        axes, direction, distance = self._nearest_displacement(theta)
        depth = (distance - self.thickness).clamp(min=0)
        gradient = self._spread(theta, axes, depth.unsqueeze(-1) * direction)
        return 0.5 * depth**2, gradient

    def hvp(self, theta: Tensor, v: Tensor) -> Tensor:
        """H v with H = u u^T + (1 - eps/t)(I - u u^T) on the short axes of the nearest wedge, at the distance t > eps.

        u is the direction from that wedge, other entries are 0, and so is H inside the wedge. For eps = 0, H = I on the
        short axes everywhere.
        """
        theta, v = torch.broadcast_tensors(self.validate(theta).detach(), self.validate(v).detach())
        axes, direction, distance = self._nearest_displacement(theta)
        across, along = self._curvatures(distance)
        part = self.coordinates(v).gather(-1, axes)
        radial = (direction * part).unsqueeze(-1).sum(-2) * direction
        return self._spread(theta, axes, across.unsqueeze(-1) * part + (along - across).unsqueeze(-1) * radial)

    def hessian(self, theta: Tensor) -> Tensor:
        """Dense Hessian of each row, (*b, D, D), exactly symmetric."""
        theta = self.validate(theta).detach()
        columns = torch.eye(theta.shape[-1], dtype=theta.dtype, device=theta.device)
        product = self.hvp(theta.unsqueeze(-2).expand(*theta.shape, theta.shape[-1]), columns)
        return 0.5 * (product + product.mT)

    def project(self, theta: Tensor, wedge: int | None = None) -> Tensor:
        """The nearest point of each row in the middle of one wedge, or of its own nearest one: (*b, D)."""
        x = self.coordinates(theta).clone()
        chosen = self.nearest(theta) if wedge is None else torch.full(x.shape[:-1], wedge)
        return self.parameters(x.scatter(-1, self.axes[chosen], self.offsets[chosen]))

    def short_directions(self, wedge: int) -> Tensor:
        """An orthonormal basis of a wedge's short directions, (D, s)."""
        rotation = torch.eye(self.dim or 0, dtype=self.dtype) if self.rotation is None else self.rotation
        return rotation[:, self.axes[wedge]]

    def _displacements(self, x: Tensor) -> Tensor:
        """x[S_w] - o_w of every wedge, (*b, s, W): sums over the last axis would round by the size of the batch."""
        return x[..., self.axes.mT] - self.offsets.mT

    def _nearest_displacement(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Axes (*b, s) of the nearest wedge, the unit vector from its middle (0 there), and the distance (*b)."""
        displacements = self._displacements(self.coordinates(theta))
        distance, number = displacements.norm(dim=-2).min(-1)
        chosen = number[..., None, None].expand(*number.shape, self.short, 1)
        length = torch.where(distance == 0, 1.0, distance).unsqueeze(-1)
        return self.axes[number], displacements.gather(-1, chosen).squeeze(-1) / length, distance

    def _curvatures(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues of the Hessian across the direction from the wedge and along it, (*b) each."""
        inside = distance < self.thickness if self.thickness else torch.zeros_like(distance, dtype=torch.bool)
        along = torch.where(distance.isnan(), distance, torch.where(inside, 0.0, 1.0))
        return along * (1 - self.thickness / torch.where(inside | (distance == 0), 1.0, distance)), along

    def _spread(self, theta: Tensor, axes: Tensor, values: Tensor) -> Tensor:
        """Parameters from values on short axes."""
        return self.parameters(torch.zeros_like(theta).scatter(-1, axes, values))


def _combinations(weights: Tensor, vectors: Tensor) -> Tensor:
    """The sums of the rows of ``vectors`` by weights, (*b, D); matrix products round by the batch."""
    vectors = vectors.contiguous()
    rows = [(row.unsqueeze(-1) * vectors).sum(0) for row in weights.reshape(-1, weights.shape[-1])]
    return torch.stack(rows).reshape(weights.shape) if rows else weights


def _orthogonal(rotation: Tensor, dim: int) -> Tensor:
    rotation = torch.as_tensor(rotation, dtype=torch.float64)
    require(tuple(rotation.shape) == (dim, dim), f"rotation must be ({dim}, {dim}), got {tuple(rotation.shape)}")
    error = float((rotation.mT @ rotation - torch.eye(dim, dtype=rotation.dtype)).abs().max())
    tolerance = 1e-10 * dim
    require(error <= tolerance, f"rotation must be orthogonal: |R^T R - I| = {error:.1e}, tolerance {tolerance:.1e}")
    return rotation


def _rows(mask: Tensor) -> str:
    return ", ".join(map(str, mask.nonzero().ravel().tolist()))
