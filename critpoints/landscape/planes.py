"""Planes of any dimension in parameter space, with orthogonal axes of equal length: what a pattern is drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from critpoints.errors import require

INITIAL_SCALE = 0.1  # Skorokhodov and Burtsev 2019, appendix B


@dataclass(frozen=True)
class Frame:
    """A plane as it is evaluated: the point with coordinates c is ``origin + c @ steps``.

    Attributes:
        origin: (P,).
        steps: (d, P), the way from one cell to the next along each axis; the scale is in them.
    """

    origin: Tensor
    steps: Tensor

    def points(self, coordinates: Tensor) -> Tensor:
        """Parameters at coordinates: (n, d) -> (n, P), eq. (1) of Skorokhodov and Burtsev 2019."""
        return self.origin + coordinates.to(self.steps.dtype) @ self.steps

    def measure(self) -> Orthogonality:
        """How orthogonal and equally long the axes are, in float64 whatever their dtype."""
        steps = self.steps.detach().to(torch.float64)
        lengths = steps.norm(dim=1)
        cosines = (steps @ steps.T) / lengths.outer(lengths)
        cosines.fill_diagonal_(0.0)
        return Orthogonality(
            largest_cosine=float(cosines.abs().max()),
            length_deviation=float((lengths / lengths[0] - 1).abs().max()),
            length=float(lengths[0]),
        )


@dataclass(frozen=True)
class Orthogonality:
    """What ``Frame.measure`` found.

    Attributes:
        largest_cosine: the largest magnitude of a cosine between two axes.
        length_deviation: how far the length of an axis is from that of the first, relative to it.
        length: of the first axis, the distance from one cell to the next.
    """

    largest_cosine: float
    length_deviation: float
    length: float

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


class Plane(nn.Module):
    """A plane with trainable origin, axes and scale, all float64 (Skorokhodov and Burtsev 2019, eqs. (1) and (2)).

    The first axis is free. The others come from free vectors by Gram-Schmidt, and take the length of the first.

    Args:
        origin: (P,).
        vectors: (d, P), the first axis and what the others are made from.
        scale: s at the start.

    Raises:
        InvalidArgument: shapes that do not fit, or more axes than parameters.

    >>> plane = Plane(torch.zeros(2), torch.tensor([[2.0, 0.0], [5.0, 1.0]]), scale=1.0)
    >>> plane.axes().tolist()  # what is left of (5, 1) is (0, 1), made 2 long
    [[2.0, 0.0], [0.0, 2.0]]
    """

    def __init__(self, origin: Tensor, vectors: Tensor, *, scale: float = INITIAL_SCALE) -> None:
        super().__init__()
        fits = origin.ndim == 1 and vectors.ndim == 2 and vectors.shape[1] == len(origin)
        require(
            fits and 1 <= len(vectors) <= len(origin),
            f"vectors must be (d, P) with 1 <= d <= P and origin (P,), got {tuple(vectors.shape)} and"
            f" {tuple(origin.shape)}",
        )
        self.origin = nn.Parameter(origin.detach().to(torch.float64, copy=True))
        self.vectors = nn.Parameter(vectors.detach().to(torch.float64, copy=True))
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64, device=origin.device))

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return len(self.vectors)

    def axes(self) -> Tensor:
        """(d, P), orthogonal and equally long, eq. (2); differentiable in the free vectors."""
        first = self.vectors[0]
        length = first.norm()
        axes = [first]
        for vector in self.vectors[1:]:
            for axis in axes:
                vector = vector - (vector @ axis) / length**2 * axis
            axes.append(length / vector.norm() * vector)
        return torch.stack(axes)

    def frame(self, dtype: torch.dtype = torch.float64) -> Frame:
        """Origin and steps in the dtype of an evaluation; differentiable."""
        return Frame(self.origin.to(dtype), (self.scale * self.axes()).to(dtype))


def grid_coordinates(shape: Sequence[int]) -> Tensor:
    """Coordinates of all cells of a picture, row by row: (n, d), float64, the centre at 0.

    Eq. (1) counts cells from a corner, which is the same plane with another origin.

    >>> grid_coordinates((2, 3)).tolist()
    [[-0.5, -1.0], [-0.5, 0.0], [-0.5, 1.0], [0.5, -1.0], [0.5, 0.0], [0.5, 1.0]]
    """
    ticks = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape]
    return torch.cartesian_prod(*ticks).reshape(-1, len(ticks))


def memory(n_parameters: int, dimension: int, n_points: int, *, itemsize: int = 4) -> dict[str, float]:
    """Bytes of a plane, of as many separate networks as it has cells, and how many planes these would be.

    Both as they are kept for training: parameters (a plane's in float64) and the two moments of Adam.

    >>> round(memory(1000, 2, 2500)["ratio"], 1)
    416.5
    """
    plane = 3 * 8 * ((1 + dimension) * n_parameters + 1)
    separate = 3 * itemsize * n_points * n_parameters
    return {"plane": plane, "separate": separate, "ratio": separate / plane}
